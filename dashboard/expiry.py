"""Flags certificates that nobody renewed, as events.

Owns when that happens and that it happens once. Each certificate is flagged at most once for each threshold, for ever: the
row of Flag is written in the transaction that appends the event, and Watched's row is locked meanwhile, so that two who scan
at once share the work; who is to be told is recorded there too. After a gap only the gravest threshold is flagged, and a clock
that was set back flags nothing again. Must never ask the clock, and look at no more certificates than are due.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from ca.crash import point
from eventlog import clock, fence, projections
from eventlog.append import NewEvent, append

from . import reminders, watching
from .events import CertificateFlagged
from .flagged import Flagged, unreplaced
from .models import Watched
from .thresholds import SILENT, THRESHOLDS, graver, reached

log = logging.getLogger(__name__)
BATCH = 256
_EARLIEST = SILENT + max(each.left for rules in THRESHOLDS.values() for each in rules)  # before now no other reached anything


def flag_due(now: datetime) -> int:
    """Flag what has reached a threshold by `now`; how many. Raises fence.LogBehind, clock.ClockApart and what stops the
    projection: an event dated ahead would stop issuance, and nothing is flagged on what may be out of date. Without waiting for
    another process that reads on: it flags too."""
    fence.check()
    clock.check(now)
    try:
        projections.catch_up(watching.NAME, wait=False)
    except projections.CursorHeld:
        log.info("the projection %s is being read by another process", watching.NAME)
        return 0
    total = 0
    while found := _flag_some(now):
        total += found
    return total


def due(now: datetime) -> list[Flagged]:
    """What the next scan would flag at `now`, at most BATCH of it."""
    return _certificates(_due(now, lock=False), now)


def _flag_some(now: datetime) -> int:
    with transaction.atomic():
        flagged = _certificates(_due(now, lock=True), now)
        first = watching.note_flags([(each.serial, each.threshold) for each in flagged], now)
        new = [each for each, is_new in zip(flagged, first, strict=True) if is_new]
        reminders.record(new, now)
        append([_event(each) for each in new], now)
        point("expiry.before_commit")
    point("expiry.committed")
    return len(new)


def _due(now: datetime, lock: bool) -> Sequence[Watched]:
    """By the index over next_at. Rows that another process has locked are its own."""
    rows = Watched.objects.filter(next_at__gt=now - _EARLIEST, next_at__lte=now, not_after__gt=now - SILENT)
    return list((rows.select_for_update(skip_locked=True) if lock else rows).order_by("next_at")[:BATCH])


def _certificates(watched: Sequence[Watched], now: datetime) -> list[Flagged]:
    """Those that still need it: ca's own table knows of a replacement at once."""
    thresholds = {row.serial: _gravest(row, now) for row in watched}
    return unreplaced({serial: threshold for serial, threshold in thresholds.items() if threshold})


def _gravest(row: Watched, now: datetime) -> str:
    found = reached(row.profile, row.not_before, row.not_after, now)
    return found if graver(found, row.reached) else ""


def _event(each: Flagged) -> NewEvent:
    return CertificateFlagged(
        serial=each.serial, threshold=each.threshold, owner=each.owner, profile=each.profile, service=each.service, node=each.node,
        not_after=f"{each.not_after:%Y-%m-%dT%H:%M:%SZ}",
    ).new()  # fmt: skip
