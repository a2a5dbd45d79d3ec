"""The Celery task of expiry: `dashboard.remind` every minute, on a queue and in a worker of its own.

Owns when it is done. The message carries nothing; a lost or repeated one costs a minute or does nothing.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from celery import shared_task

from eventlog import clock, fence

from . import expiry

log = logging.getLogger(__name__)


@shared_task(name="dashboard.remind")
def remind() -> None:
    """Flag the certificates that nobody renewed."""
    now = datetime.now(UTC)
    try:
        flagged = expiry.flag_due(now)
    except (clock.ClockApart, fence.LogBehind) as error:
        log.error("no certificate is flagged: %s", error)
        return
    if flagged:
        log.warning("%s certificates are flagged, as they were not renewed in time", flagged)
