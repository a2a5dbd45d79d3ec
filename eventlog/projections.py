"""Projections: tables that are made from the log and from nothing else.

Owns the cursors. One loop is the live path, the safety net and the rebuild. It never skips: a handler that fails, or an event
that newer code wrote, stops the cursor right there, with the reason in its row. Replay must have no side effects:
a handler writes its tables; it signs nothing, sends nothing and asks no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf
from types import TracebackType
from typing import NamedTuple

from django.db import connection, models, transaction

from . import events, head, schemas
from .events import StoredEvent
from .models import Cursor

Handler = Callable[[Sequence[StoredEvent]], None]
Progress = Callable[[int, int], None]  # (position reached, size of the log)


@dataclass(frozen=True)
class Projection:
    """`handlers`: event type → function of a run of events, in order, uninterrupted by one that is another function's of this
    projection. `models` are emptied, in order, by a rebuild. `inline`: applied inside the append's transaction, whose
    fate it shares; the others follow by catch_up()."""

    name: str
    handlers: Mapping[str, Handler]
    models: tuple[type[models.Model], ...]
    inline: bool = False

    def apply(self, stored: Sequence[StoredEvent]) -> None:
        """Hand the events to their handlers, run by run."""
        for handler, run in groupby((event for event in stored if event.type in self.handlers), self._handler):
            handler(list(run))

    def _handler(self, event: StoredEvent) -> Handler:
        return self.handlers[event.type]


class CursorHeld(Exception):
    """Another process reads on, or rebuilds, and the caller does not wait for it."""


class Status(NamedTuple):
    """Where a projection stands: it has read `cursor` of `head` events; `error` is why it stopped, "" while it runs."""

    name: str
    cursor: int
    head: int
    error: str


_registered: dict[str, Projection] = {}


def register(projection: Projection) -> None:
    """Make a projection known; each app does so when it is ready."""
    _registered[projection.name] = projection


def names() -> list[str]:
    """All projections, in the order of registration."""
    return list(_registered)


def status() -> list[Status]:
    """Where each projection stands."""
    rows = {row.name: row for row in Cursor.objects.all()}
    size = head.size()
    return [Status(name, row.position, size, row.error) for name in _registered for row in [rows.get(name) or Cursor(name=name)]]


def apply_inline(stored: Sequence[StoredEvent]) -> None:
    """Bring the inline projections up to the events just stored, inside the append's transaction."""
    for projection in _registered.values():
        if projection.inline:
            before = Cursor.objects.filter(name=projection.name, position=stored[0].position - 1)
            if before.update(position=stored[-1].position):
                projection.apply(stored)
            else:  # the projection is younger than the log: it reads from its beginning
                _follow(projection, _locked_cursor(projection))


def catch_up(name: str, *, wait: bool = True, most: float = inf) -> int:
    """Read on to the log's end, or until it has been `most` events or a few more; how many events that took. Any number of
    processes may call it: they take turns. Without `wait`, raises CursorHeld at once where it is not the caller's turn; on SQLite,
    whose writers queue anyway, it waits.

    Raises what a handler raised, or schemas.UnknownSchema, once it is noted in the cursor's row; everything before the
    offending event is applied and committed. The next call tries that event again.
    """
    projection, total = _registered[name], 0
    while True:
        try:
            while total < most and (done := _step(projection, events.CHUNK, wait)):
                total += done
            return total
        except CursorHeld:
            raise
        except Exception:  # noqa: S110 (nothing is lost: event by event, below, it is raised again and the cursor stops exactly there)
            pass
        with _Noting(projection):
            for _ in range(events.CHUNK):
                if not _step(projection, 1, wait):
                    return total
                total += 1


def rebuild(name: str, progress: Progress | None = None) -> int:
    """Empty the projection's tables and read the whole log again, in one transaction: until it commits, PostgreSQL's
    readers see the old rows. Of an inline projection it holds back every append meanwhile. How many events it read."""
    projection = _registered[name]
    with transaction.atomic():
        cursor = _locked_cursor(projection)
        for model in projection.models:
            _empty(model)
        cursor.position = 0
        return _follow(projection, cursor, progress)


def _step(projection: Projection, limit: int, wait: bool) -> int:
    """Apply at most `limit` events and commit; how many. At the log's end it takes no lock: whoever appends meanwhile
    calls catch_up() afterwards."""
    if Cursor.objects.filter(name=projection.name, position__gte=head.size()).exists():
        return 0
    with transaction.atomic():
        return _advance(projection, _locked_cursor(projection, wait), limit)


def _follow(projection: Projection, cursor: Cursor, progress: Progress | None = None) -> int:
    total = 0
    while done := _advance(projection, cursor, events.CHUNK):
        total += done
        if progress:
            progress(cursor.position, head.size())
    return total


def _advance(projection: Projection, cursor: Cursor, limit: int) -> int:
    """Apply at most `limit` events beyond the locked `cursor` and move it, in the caller's transaction."""
    rows = events.chunk_after(cursor.position, limit)
    projection.apply([events.stored(row) for row in rows if _concerns(projection, row[1])])
    if rows:
        cursor.position, cursor.error = rows[-1][0], ""
        cursor.save(force_update=True)
    return len(rows)


def _concerns(projection: Projection, kind: str) -> bool:
    """Whether the projection handles this type. A type that this code has never heard of may concern the newer code
    that wrote it, under this very projection's name: to read past it would lose it, so it raises UnknownSchema."""
    if kind in projection.handlers:
        return True
    schemas.require_type(kind)
    return False


def _locked_cursor(projection: Projection, wait: bool = True) -> Cursor:
    """The cursor, locked until the transaction ends. Who appends holds the sequencer's lock when it comes here; nobody takes
    the two in the other order. Raises CursorHeld rather than wait, where the caller does not."""
    rows = Cursor.objects.select_for_update(skip_locked=not wait).filter(name=projection.name)
    cursor = rows.first()
    if cursor is None and not wait and Cursor.objects.filter(name=projection.name).exists():
        raise CursorHeld(f"another process reads on for {projection.name}")
    if cursor is None:  # its first run; two of them agree on one row
        Cursor.objects.bulk_create([Cursor(name=projection.name)], ignore_conflicts=True)
        cursor = rows.get()
    return cursor


def _empty(model: type[models.Model]) -> None:
    """DELETE, not TRUNCATE: on PostgreSQL readers go on with the old rows until the rebuild commits."""
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {connection.ops.quote_name(model._meta.db_table)}")  # noqa: S608 (quoted name)


class _Noting:
    """Notes an exception that passes in the cursor's row, where readiness looks."""

    def __init__(self, projection: Projection) -> None:
        self._name = projection.name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and issubclass(kind, Exception) and not issubclass(kind, CursorHeld):  # who holds it would be waited for
            Cursor.objects.filter(name=self._name).update(error=f"{kind.__name__}: {error}"[:2_000])
