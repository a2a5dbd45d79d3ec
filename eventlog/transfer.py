"""The log as NDJSON: out, and into an empty system.

Owns the line format. A line is canonical JSON {"event", "hash", "position", "subject", "time", "type"} with `event` exactly the
bytes that were hashed, so that import gives back the same log, byte for byte, and the old checkpoints still hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from django.db import transaction

from . import canonical, events, fence, head
from .bulk import insert_rows
from .events import COLUMNS, Row, rfc3339, time_of
from .merkle import Tree, leaf_hash
from .models import Event


class BadExport(ValueError):
    """The text is not an export, or not a whole one; nothing was imported."""


class NotEmpty(Exception):
    """There is a log already: an import would have to merge two truths."""


def line(row: Row) -> bytes:
    """One event as an NDJSON line."""
    position, kind, subject, body, leaf = row
    rest = canonical.encode({"hash": leaf.hex(), "position": position, "subject": subject, "time": time_of(body), "type": kind})
    return b'{"event":' + body + b"," + rest[1:] + b"\n"


def export(after: int = 0, upto: int | None = None) -> Iterator[bytes]:
    """The lines of the events beyond `after`, up to position `upto`, read in chunks."""
    return map(line, events.rows_after(after, upto))


def load(lines: Iterable[bytes]) -> int:
    """Make the log anew from export()'s lines, all or nothing; how many events. Checked against themselves and against the
    saved checkpoints. Raises NotEmpty, BadExport, fence.LogBehind. The projections are then to be rebuilt."""
    with transaction.atomic():
        tree = head.lock()
        if tree.size or Event.objects.exists():
            raise NotEmpty("the log already holds events")
        numbered = enumerate(lines, 1)
        while chunk := list(islice(numbered, events.CHUNK)):
            _store(tree, [_row(position, text) for position, text in chunk])
        fence.check()
    return tree.size


def _store(tree: Tree, rows: list[Row]) -> None:
    times = [datetime.fromisoformat(time_of(row[3])) for row in rows]
    insert_rows(Event, COLUMNS, [(row[0], time, *row[1:]) for row, time in zip(rows, times, strict=True)])
    for row in rows:
        tree.add(row[4])
    head.save(tree)


def _row(position: int, text: bytes) -> Row:
    """The row whose line is `text`, exactly."""
    try:
        row = _read(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BadExport(f"line {position}: {error}") from None
    if row[0] != position or line(row) != text:
        raise BadExport(f"line {position}: the event, its hash, its position or its form is not what was exported")
    return row


def _read(parsed: dict[str, Any]) -> Row:
    event = parsed["event"]
    body = canonical.encode(event)
    if rfc3339(datetime.fromisoformat(event["time"])) != time_of(body):
        raise ValueError("the time is not of the form in which times are logged")
    return parsed["position"], event["schema"].split("/")[1], event["subject"], body, leaf_hash(body)
