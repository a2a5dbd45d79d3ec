"""The Celery tasks of dashboard: `dashboard.follow` every two seconds, `dashboard.remind` every minute, on a queue and in a
worker of its own.

Owns when they are done. Messages carry nothing; a lost or repeated one costs that time or does nothing. `remind` may take long, as
mail servers do: nothing else waits for that worker.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from celery import shared_task

from eventlog import clock, fence, projections

from . import activity, expiry, lineage, notices, reminders, watching

log = logging.getLogger(__name__)
FOLLOWED = (lineage.NAME, watching.NAME, activity.NAME)
SLICE = 1_000  # events of each, a few tenths of a second in all: a revocation may wait for this worker to sign it


@shared_task(name="dashboard.follow")
def follow() -> None:
    """Read on in the log, a slice of it: what remains is read in two seconds, by beat's next message."""
    if projections.catch_up_together(FOLLOWED, most=SLICE):
        return
    for name in FOLLOWED:
        projections.read_on(name, SLICE)  # one that stops keeps back none of the others


@shared_task(name="dashboard.remind")
def remind() -> None:
    """Tell approvers of what waits for them; flag the certificates that nobody renewed, and tell who is to know."""
    now = datetime.now(UTC)
    notices.tell_due(now)
    try:
        flagged = expiry.flag_due(now)
    except (clock.ClockApart, fence.LogBehind) as error:
        log.error("no certificate is flagged: %s", error)
        return
    if flagged:
        log.warning("%s certificates are flagged, as they were not renewed in time", flagged)
    reminders.send_due(now)
