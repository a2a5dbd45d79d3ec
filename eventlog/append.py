"""The one way into the log.

Owns positions. A database sequence would leave holes where transactions roll back, and would let a late commit overtake an
earlier number; so whoever appends locks the single head row, takes the next positions and commits at once. Append is
the last write of its transaction: whatever came after would make every other writer wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import connection, transaction

from . import checkpoints, head, listeners, projections, schemas
from .bulk import insert_rows, read_rows
from .events import COLUMNS, NewEvent, StoredEvent, envelope, rfc3339
from .merkle import leaf_hash
from .models import Event
from .notes import CheckpointSigner

__all__ = ["CheckpointSigner", "NewEvent", "StoredEvent", "append"]


def append(events: Sequence[NewEvent], now: datetime, sign: CheckpointSigner | None = None) -> list[StoredEvent]:
    """Append `events` in order, bring the inline projections up to them and, with `sign`, store a checkpoint.

    Everything commits or rolls back with the caller's transaction; a crash before its commit leaves no trace and no hole.
    Who listens to these types (eventlog.listeners) is called before the log is locked and after the commit.
    `now` is aware UTC. Raises ValueError (also schemas.UnknownSchema, canonical.NotCanonical) for an event that may not be
    logged, checkpoints.LogBehind when signing would contradict a published checkpoint.
    """
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("append() needs transaction.atomic() around it")
    if not events:
        return []
    time = rfc3339(now)
    prepared = [(event, schemas.type_to_write(event.schema), body := envelope(event, time), leaf_hash(body)) for event in events]
    listeners.call_before([(kind, event) for event, kind, _, _ in prepared], now)
    tree = head.lock()
    stored, rows = [], []
    for position, (event, kind, body, leaf) in enumerate(prepared, tree.size + 1):
        stored.append(StoredEvent(position, now, event.schema, event.subject, event.data, body, leaf))
        rows.append((position, now, kind, event.subject, body, leaf))
        tree.add(leaf)
    insert_rows(Event, COLUMNS, rows)
    head.save(tree)
    projections.apply_inline(stored)
    if sign:
        checkpoints.store(tree, now, sign)
    listeners.call_after_commit(stored)
    return stored


def last_time() -> datetime | None:
    """When the newest event was appended."""
    rows = read_rows(Event, ("time",), "ORDER BY position DESC LIMIT 1")
    return rows[0][0] if rows else None
