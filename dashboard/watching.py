"""dashboard's projection "expiry": which certificate each line depends on, and what it was flagged for.

Owns every write to Watched, Flag and Ending. A line is what one place needs one certificate for: owner, profile, service, node and names. A
newer certificate takes its line over, whether it was asked for as a renewal or anew; a renewal takes over its predecessor's
line too, if the names changed. What is replaced or revoked is watched no more.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from django.db import connection

from eventlog.append import StoredEvent
from eventlog.bulk import add_counts, among, insert_rows, insert_unless_taken, read_rows, update_rows
from eventlog.projections import Projection
from eventlog.projections import register as register_projection

from .models import Ending, Flag, Watched
from .thresholds import THRESHOLDS, next_moment

NAME = "expiry"
_COLUMNS = ("line", "serial", "profile", "not_before", "not_after", "reached", "next_at")
_FLAG = ("serial", "threshold", "at")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def register() -> None:
    """Make the projection known to the log. Called once, when Django starts."""
    register_projection(Projection(NAME, HANDLERS, (Watched, Flag, Ending)))


def line_of(data: Mapping[str, Any]) -> bytes:
    """What certificates of one line have in common, hashed; `data` that of certificate.issued."""
    same = [data["owner"], data["profile"], data["service"], data["node"], sorted(data["names"])]
    return sha256(_encode(same).encode()).digest()


def note_flags(flags: Iterable[tuple[str, str]], at: datetime) -> list[bool]:
    """Note (serial, threshold), in the order of serials, as flagged at `at`; for each whether it is the first time. For who is
    about to append the events, and for the events themselves, which find it done."""
    rows = [(serial, threshold, at) for serial, threshold in flags]
    if not rows:
        return []
    first = insert_unless_taken(Flag, _FLAG, rows)
    reached = {serial: threshold for serial, threshold, _ in rows}
    condition, parameters = among("serial", reached)
    watched = read_rows(Watched, ("line", "serial", "profile", "not_before", "not_after"), f"WHERE {condition}", parameters)
    moved = [(line, reached[serial], next_moment(profile, begin, end, reached[serial])) for line, serial, profile, begin, end in watched]
    update_rows(Watched, "line", ("reached", "next_at"), moved)
    return first


def _issued(events: Sequence[StoredEvent]) -> None:
    lines: dict[bytes, tuple[Any, ...]] = {}
    for event in events:
        if event.data["profile"] in THRESHOLDS:
            row = _row(event.data)
            lines[row[0]] = row
    replaced = {event.data["replaces"] for event in events if event.data["replaces"]}
    new = [row for row in lines.values() if row[1] not in replaced]
    gone = [*_delete("line", lines), *_delete("serial", replaced)]
    insert_rows(Watched, _COLUMNS, new)
    _count_endings(Counter(f"{row[4]:%Y-%m-%d}" for row in new), Counter(gone))


def _row(data: Mapping[str, Any]) -> tuple[Any, ...]:
    life = datetime.fromisoformat(data["not_before"]), datetime.fromisoformat(data["not_after"])
    return line_of(data), data["serial"], data["profile"], *life, "", next_moment(data["profile"], *life, "")


def _revoked(events: Sequence[StoredEvent]) -> None:
    _count_endings(Counter(), Counter(_delete("serial", {event.subject for event in events})))


def _flagged(events: Sequence[StoredEvent]) -> None:
    for event in events:
        note_flags([(event.subject, event.data["threshold"])], event.time)


def _delete(column: str, values: Collection[Any]) -> list[str]:
    """The days, as in 2030-01-31, on which those that were deleted end."""
    if not values:
        return []
    condition, parameters = among(column, values)
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {Watched._meta.db_table} WHERE {condition} RETURNING not_after", parameters)  # noqa: S608 (fixed names)
        return [str(row[0])[:10] for row in cursor.fetchall()]


def _count_endings(more: Counter[str], fewer: Counter[str]) -> None:
    """A day on which nothing ends any more has no row: a replay, which may read both events at once, makes none either."""
    more.subtract(fewer)
    changed = sorted(((day,), count) for day, count in more.items() if count)
    add_counts(Ending, ("day",), "count", changed)
    if changed:
        Ending.objects.filter(day__in=[day for (day,), _ in changed], count=0).delete()


HANDLERS = {"certificate.issued": _issued, "certificate.revoked": _revoked, "certificate.flagged": _flagged}
