"""Which answers are to be made now, and making them: what was revoked, what is due, what is missing.

Owns the order and the size of the slices. A worker serves many things, so a slice is small and says where the next begins;
the command works in the same slices without pause. Status is read before signing without any lock: feed.py asks again when it
stores, and what has changed meanwhile is found here the next time.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from django.db.models import Min

from eventlog.bulk import places, read_rows
from eventlog.clock import SKEW
from eventlog.models import Cursor, Event

from . import feed
from .feed import Ready
from .models import Response, Status
from .responses import UNANSWERED, Answers, Wanted

SLICE, BUDGET = 1_000, 0.08  # rows and seconds: what a worker may be kept for
ROUND = timedelta(minutes=10)  # in which every serial is asked for whether it has an answer
EVERY = timedelta(seconds=10)  # how often beat asks
LATE = timedelta(minutes=30)
RECENT = 1_000  # events in which a certificate without an answer is found at once, not only when its turn comes
FIRST, LAST = "", "g"  # around all serials, which are hex

_WANTED = ("serial", "issuer", "not_after", "revoked_at", "reason", "position")
_ANSWERED = "state IN ('issued', 'revoked')"
# The inner join passes over answers to certificates of which the projection has not read yet.
_DUE = f"""WHERE {_ANSWERED} AND serial IN (
    SELECT r.serial FROM ocsp_response AS r JOIN ocsp_status AS s ON s.serial = r.serial
    WHERE {{which}} LIMIT %s)"""  # noqa: S608 (constants)
_OF_AGE, _AHEAD = "r.refresh_at <= %s {able} ORDER BY r.refresh_at", "r.this_update > %s {able} ORDER BY r.this_update"
_FROM = f"""WHERE serial > %s AND serial < %s AND {_ANSWERED} AND (not_after IS NULL OR not_after > %s)
    AND profile NOT IN ({places(UNANSWERED)}) {{which}} ORDER BY serial LIMIT %s"""
# Which serials a walk over all of them stops at.
MISSING = "AND NOT EXISTS (SELECT 1 FROM ocsp_response AS r WHERE r.serial = ocsp_status.serial)"
MISSING_OR_DUE = """AND NOT EXISTS (SELECT 1 FROM ocsp_response AS r WHERE r.serial = ocsp_status.serial
    AND r.refresh_at > %s AND r.this_update <= %s)"""
EVERYTHING = ""


class Due(NamedTuple):
    """How many answers were stored, and whether more may wait."""

    stored: int
    more: bool


class Walked(NamedTuple):
    """How many answers were stored, and the serial to go on after; None at the end."""

    stored: int
    after: str | None


def sign_due(before: datetime, now: datetime) -> Due:
    """One slice of the answers that were due at `before`, the longest due first. Those of expired certificates are dropped."""
    return _sign_due(_OF_AGE, before, now)


def sign_ahead(now: datetime) -> Due:
    """One slice of the answers of a time that has not come, made by a host whose clock was ahead. No client takes them, and
    they would be due far too late."""
    return _sign_due(_AHEAD, now + SKEW, now)


def _sign_due(which: str, at: datetime, now: datetime) -> Due:
    answers, deadline, stored = Answers(now), time.monotonic() + BUDGET, 0
    while True:
        known = len(answers.unable)
        rows = _due(which, at, answers.unable)
        alive = [row for row in rows if row.not_after is None or row.not_after > now]
        feed.forget({row.serial for row in rows} - {row.serial for row in alive}, now)
        ready, looked_at = _signed(alive, answers, deadline)
        stored += feed.store(ready)
        if len(answers.unable) == known:  # else the rows of those issuers, the longest due, would keep others from their turn
            return Due(stored, stored > 0 and (len(rows) == SLICE or looked_at < len(alive)))


def sign_from(after: str, upto: str, which: str, answers: Answers, now: datetime, budget: float = BUDGET) -> Walked:
    """One slice of the serials between `after` and `upto`: of those MISSING, MISSING_OR_DUE or simply EVERYTHING."""
    return _sign_walked(_walk(after, upto, which, now), answers, budget)


def _sign_walked(rows: Sequence[Wanted], answers: Answers, budget: float) -> Walked:
    ready, looked_at = _signed(rows, answers, time.monotonic() + budget)
    at_the_end = looked_at == len(rows) < SLICE
    return Walked(feed.store(ready), None if at_the_end else rows[looked_at - 1].serial)


def sign_slice(now: datetime, after: str = FIRST) -> str | None:
    """What beat has done every few seconds: a slice of what is of a time to come, or due; else of what is missing from `after`
    on, FIRST standing for the newest and then for the part of all serials whose turn it is. Where to go on, None when there
    is nothing more to do now."""
    if sign_ahead(now).more or sign_due(now, now).more:
        return after
    answers = Answers(now)
    if after == FIRST and _sign_walked(_recently_missing(now), answers, BUDGET).stored:
        return after
    begin, end = (after, _end_of_part(after)) if after else turn(now)
    missing = sign_from(begin, end, MISSING, answers, now)
    onward = missing.after or end
    return onward if missing.stored and onward != LAST else None


def missing(now: datetime) -> list[Wanted]:
    """Certificates without an answer: of the newest ones, and of those whose turn it is."""
    found = {row.serial: row for row in (*_recently_missing(now), *_walk(*turn(now), MISSING, now))}
    return list(found.values())


def turn(now: datetime) -> tuple[str, str]:
    """The part of all serials that is looked through at this moment: each comes up once in ROUND."""
    whole = parts(ROUND // EVERY)
    return whole[int(now.timestamp() // EVERY.total_seconds()) % len(whole)]


def _end_of_part(serial: str) -> str:
    """A walk stays within a part: over all serials the database would rather read both tables than look into their indexes."""
    return next(end for _, end in parts(ROUND // EVERY) if serial < end)


def parts(count: int) -> list[tuple[str, str]]:
    """All serials, in `count` parts that hold about equally many: they are random and of 159 bits."""
    bounds = [FIRST, *(f"{2**31 * number // count:08x}" for number in range(1, count)), LAST]
    return list(pairwise(bounds))


class Backlog(NamedTuple):
    """How far presigning is behind: for how long the answer due first has been due, a revoked serial has had no answer, a
    certificate none at all. `unread_seconds`: the age of the oldest event that Status does not show yet. `missing` counts
    those seen now, `ahead` at most SLICE of the answers of a time that has not come. `next_update` of what is due first."""

    overdue_seconds: float
    revoked_unsigned_seconds: float
    missing: int
    missing_seconds: float
    unread_seconds: float
    ahead: int
    next_update: datetime | None


def backlog(now: datetime) -> Backlog:
    """What readiness asks: a handful of looks into indexes, whatever the number of certificates."""
    due = Response.objects.filter(refresh_at__gt=feed.AT_ONCE).order_by("refresh_at").first()
    withdrawn = Response.objects.filter(refresh_at=feed.AT_ONCE, next_update__lte=now).aggregate(since=Min("this_update"))["since"]
    lacking = missing(now)
    ahead = Response.objects.filter(this_update__gt=now + SKEW)[:SLICE].count()
    cursor = Cursor.objects.filter(name="ocsp").values_list("position", flat=True).first() or 0
    return Backlog(
        overdue_seconds=_seconds(due.refresh_at if due else None, now), revoked_unsigned_seconds=_seconds(withdrawn, now),
        missing=len(lacking), missing_seconds=_age(min((row.position for row in lacking), default=None), now),
        unread_seconds=_age(cursor + 1, now), ahead=ahead, next_update=due.next_update if due else None,
    )  # fmt: skip


def _age(position: int | None, now: datetime) -> float:
    return _seconds(Event.objects.filter(position=position or 0).values_list("time", flat=True).first(), now)


def _seconds(since: datetime | None, now: datetime) -> float:
    return max(0.0, round((now - since).total_seconds(), 1)) if since else 0.0


def is_late(now: datetime) -> bool:
    """Whether answers are due for so long, or of a time to come, that a worker busy with other things must make them first."""
    rows = Response.objects
    return rows.filter(refresh_at__lte=now - LATE).exists() or rows.filter(this_update__gt=now + SKEW).exists()


def sign_late(now: datetime) -> None:
    """One slice of these."""
    if not sign_ahead(now).more:
        sign_due(now - LATE, now)


def _signed(rows: Sequence[Wanted], answers: Answers, deadline: float) -> tuple[list[Ready], int]:
    """The answers to as many of `rows` as there is time for, at least one; and how many rows these are."""
    ready = []
    for number, row in enumerate(rows, 1):
        if answer := answers.about(row):
            ready.append(answer)
        if time.monotonic() > deadline:
            return ready, number
    return ready, len(rows)


def _due(which: str, at: datetime, unable: Collection[str]) -> list[Wanted]:
    able = f"AND r.issuer NOT IN ({places(unable)})" if unable else ""
    return _read(_DUE.format(which=which.format(able=able)), at, *unable, SLICE)


def _recently_missing(now: datetime) -> list[Wanted]:
    """Of the newest that Status shows, and no further: what it has not read yet may be a million events, after an import."""
    since = (Cursor.objects.filter(name="ocsp").values_list("position", flat=True).first() or 0) - RECENT
    newest = "WHERE position > %s AND type = 'certificate.issued' ORDER BY position LIMIT %s"
    serials = [serial for (serial,) in read_rows(Event, ("subject",), newest, [since, 2 * RECENT])]
    return _walk(FIRST, LAST, f"AND serial IN ({places(serials)}) {MISSING}", now, serials) if serials else []


def _walk(after: str, upto: str, which: str, now: datetime, values: Sequence[object] = ()) -> list[Wanted]:
    """`values` are those of `which`, if they are not the time."""
    return _read(_FROM.format(which=which), after, upto, now, *UNANSWERED, *(values or [now] * which.count("%s")), SLICE)


def _read(tail: str, *parameters: object) -> list[Wanted]:
    return [Wanted(*row) for row in read_rows(Status, _WANTED, tail, feed.adapted(parameters))]
