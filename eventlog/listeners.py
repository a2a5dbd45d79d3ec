"""Who else acts when an event of a type is appended.

Owns the two moments: before the sequencer's lock, inside the append's transaction, and after its commit. For what
must go with an event, not follow it; tables that follow the log are projections. Must cost nothing where nobody listens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from django.db import transaction

from .events import NewEvent, StoredEvent

Before = Callable[[Sequence[NewEvent], datetime], None]
After = Callable[[Sequence[StoredEvent]], None]

_before: dict[str, list[Before]] = {}
_after: dict[str, list[After]] = {}


def before_append(kind: str, listener: Before) -> None:
    """Have `listener` called with the events of type `kind` that are about to be appended, and their time. Its writes
    commit or roll back with the events; what it raises, the append raises. It runs before the head is locked, so that
    others append while it computes; locks it takes come before the head's."""
    _before.setdefault(kind, []).append(listener)


def after_commit(kind: str, listener: After) -> None:
    """Have `listener` called with the events of type `kind` once they are committed. What it raises is logged, no more: a
    process may end before it is called, so nothing may depend on it."""
    _after.setdefault(kind, []).append(listener)


def call_before(events: Sequence[tuple[str, NewEvent]], now: datetime) -> None:
    """Call those who listen to any of `events` = (type, event)."""
    for kind in _before.keys() & {kind for kind, _ in events}:
        concerned = [event for each, event in events if each == kind]
        for listener in _before[kind]:
            listener(concerned, now)


def call_after_commit(stored: Sequence[StoredEvent]) -> None:
    """Have those who listen to any of `stored` called when the transaction commits."""
    if not _after:
        return
    for kind in _after.keys() & {event.type for event in stored}:
        concerned = [event for event in stored if event.type == kind]
        for listener in _after[kind]:
            transaction.on_commit(_told(listener, concerned), robust=True)


def _told(listener: After, concerned: Sequence[StoredEvent]) -> Callable[[], None]:
    """A function with a name, which Django asks for when it logs what it raised."""

    def tell() -> None:
        listener(concerned)

    return tell
