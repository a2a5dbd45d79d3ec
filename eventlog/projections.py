"""Projections: tables that are made from the log and from nothing else.

Owns the cursors. One loop is the live path, the safety net and the rebuild. It never skips: a handler that fails, or an event
that newer code wrote, stops the cursor right there, with the reason in its row. Replay must have no side effects:
a handler writes its tables; it signs nothing, sends nothing and asks no clock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf
from types import TracebackType
from typing import NamedTuple

from django.db import connection, models, transaction

from . import events, head, schemas, staging
from .bulk import read_rows
from .events import StoredEvent
from .models import Cursor

log = logging.getLogger(__name__)

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
            if _moved(projection, stored[0].position - 1, stored[-1].position):
                projection.apply(stored)
            else:  # the projection is younger than the log: it reads from its beginning
                _follow(projection, _locked_cursor(projection))


def _moved(projection: Projection, before: int, to: int) -> bool:
    """Move the cursor from `before` to `to`, if that is where it stands. On the hot path: see bulk.read_rows."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE eventlog_cursor SET position = %s WHERE name = %s AND position = %s", [to, projection.name, before])
        return bool(cursor.rowcount == 1)


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


def read_on(name: str, most: int) -> int:
    """catch_up() for a worker that has other work: where it is another's turn it does not wait, and what stops it is logged, as it is
    noted where readiness looks. How many events it took; 0 then."""
    try:
        return catch_up(name, wait=False, most=most)
    except CursorHeld:
        log.info("the projection %s is being read by another process", name)
    except Exception as error:
        log.error("the projection %s stopped: %s", name, error)
    return 0


def catch_up_together(names: Sequence[str], most: float = inf) -> int:
    """Read on for several projections that stand at one position, each chunk read and decoded once; how many events that took. 0 where
    they stand apart, or one is being read or cannot go on: then each is brought on by its own catch_up(). Nothing is noted here."""
    chosen, total = [_registered[name] for name in names], 0
    try:
        while total < most and (done := _step_together(chosen, events.CHUNK)):
            total += done
    except Exception:  # noqa: S110 (that chunk is undone for all of them; who reads it alone, by catch_up(), learns of it)
        pass
    return total


def rebuild(name: str, progress: Progress | None = None) -> int:
    """Make the projection's tables anew from the whole log, in one transaction: until it commits, PostgreSQL's readers see
    the old rows. Of an inline projection it holds back every append meanwhile. How many events it read."""
    projection = _registered[name]
    with transaction.atomic():
        cursor = _locked_cursor(projection)
        cursor.position = 0
        beside = [model for model in projection.models if staging.possible(model)] if head.size() >= staging.WORTH else []
        for model in projection.models:
            if model not in beside:
                _empty(model)
        return _rebuild_beside(projection, beside, cursor, progress) if beside else _follow(projection, cursor, progress)


def _rebuild_beside(projection: Projection, beside: Sequence[type[models.Model]], cursor: Cursor, progress: Progress | None) -> int:
    """What others wrote before they appended its event meanwhile is lost to the merge, unless that event is read too: once nobody
    writes, it is. To an inline projection's tables nobody writes without its cursor; but who waits for that may hold some of them."""
    made = staging.Staging(beside)
    total = _follow(projection, cursor, progress)
    if not projection.inline:
        made.hold_writers()
        total += _follow(projection, cursor, progress)
    made.merge()
    return total


def _step(projection: Projection, limit: int, wait: bool) -> int:
    """Apply at most `limit` events and commit; how many. At the log's end it takes no lock: whoever appends meanwhile
    calls catch_up() afterwards."""
    if read_rows(Cursor, ("name",), "WHERE name = %s AND position >= %s", [projection.name, head.size()]):
        return 0
    with transaction.atomic():
        return _advance(projection, _locked_cursor(projection, wait), limit)


def _step_together(chosen: Sequence[Projection], limit: int) -> int:
    """Apply at most `limit` events to each, and commit; how many. 0 at the log's end, or unless all stand at one position."""
    rows = Cursor.objects.filter(name__in=[projection.name for projection in chosen])
    if _common_position(chosen, rows) in (None, head.size()):
        return 0
    with transaction.atomic():
        position = _common_position(chosen, rows.order_by("name").select_for_update(skip_locked=True))
        found = [] if position is None else _applied(chosen, position, limit)
        if found:
            rows.update(position=found[-1][0], error="")
    return len(found)


def _common_position(chosen: Sequence[Projection], rows: models.QuerySet[Cursor]) -> int | None:
    """Where all of them stand; None if they stand apart, or one has no row yet, or none that could be locked."""
    positions = [row.position for row in rows]
    return positions[0] if len(positions) == len(chosen) and len(set(positions)) == 1 else None


def _follow(projection: Projection, cursor: Cursor, progress: Progress | None = None) -> int:
    total = 0
    while done := _advance(projection, cursor, events.CHUNK):
        total += done
        if progress:
            progress(cursor.position, head.size())
    return total


def _advance(projection: Projection, cursor: Cursor, limit: int) -> int:
    """Apply at most `limit` events beyond the locked `cursor` and move it, in the caller's transaction."""
    rows = _applied([projection], cursor.position, limit)
    if rows:
        cursor.position, cursor.error = rows[-1][0], ""
        cursor.save(force_update=True)
    return len(rows)


def _applied(chosen: Sequence[Projection], position: int, limit: int) -> list[events.Row]:
    """At most `limit` events beyond `position`, each decoded once and handed to those whom it concerns."""
    rows = events.chunk_after(position, limit)
    stored = [events.stored(row) for row in rows if any(_concerns(projection, row[1]) for projection in chosen)]
    for projection in chosen:
        projection.apply(stored)
    return rows


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
