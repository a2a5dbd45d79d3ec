"""When the log was last copied to elsewhere, as far as anybody said.

Owns Backup, which has one row: the newest. It is the word of whoever makes copies and no proof: nothing here looks at a copy. Must
never be an event: a copy that had to tell of itself would never be whole.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from . import head
from .models import Backup, Event

_ROW = 1


class Standing(NamedTuple):
    """`taken_at` None where none is known, `by` what took it, `since` how many events it does not have. `age`: of that copy, or of the
    log where there is none."""

    taken_at: datetime | None
    by: str
    since: int
    age: timedelta


def note(by: str, size: int, taken_at: datetime) -> None:
    """`by` copied the first `size` events; that began at `taken_at`."""
    Backup.objects.update_or_create(id=_ROW, defaults={"by": by[:100], "size": size, "taken_at": taken_at})


def standing(now: datetime) -> Standing:
    """How it stands at `now`."""
    newest, size = Backup.objects.filter(id=_ROW).first(), head.size()
    if newest is not None:
        return Standing(newest.taken_at, newest.by, max(0, size - newest.size), max(timedelta(), now - newest.taken_at))
    began = Event.objects.filter(position=1).values_list("time", flat=True).first()
    return Standing(None, "", size, max(timedelta(), now - began) if began else timedelta())
