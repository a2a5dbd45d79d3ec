"""What an event is, and reading events back.

Owns the two shapes and the envelope that is hashed. Reading never changes anything and always goes forward by position, in
chunks, so that memory does not grow with the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from . import canonical, schemas
from .bulk import read_rows
from .models import Event

MAX_BODY = 65_535  # entry bundles give each event a 16-bit length, C2SP tlog-tiles
COLUMNS = ("position", "time", "type", "subject", "body", "leaf_hash")
CHUNK = 1_000

# What reading takes: all but the time, which is in the body, and which as a column costs more to parse than the rest.
_READ = ("position", "type", "subject", "body", "leaf_hash")
Row = tuple[int, str, str, bytes, bytes]


@dataclass(frozen=True, slots=True)
class NewEvent:
    """A fact to be appended: `data` holds JSON values without floats, and no secret."""

    schema: str
    subject: str
    data: dict[str, Any]


class StoredEvent(NamedTuple):
    """A fact in the log. `schema` and `data` are of the newest version known here, whatever version `body` holds."""

    position: int
    time: datetime
    schema: str
    subject: str
    data: dict[str, Any]
    body: bytes
    leaf_hash: bytes

    @property
    def type(self) -> str:
        """ "certificate.issued" of "quicklime/certificate.issued/1-0-0"."""
        return _type_of(self.schema)


@cache
def _type_of(schema: str) -> str:
    """Remembered: a projection asks it of each event several times, and there are few schemas."""
    return schema.split("/")[1]


def rfc3339(time: datetime) -> str:
    """ "2026-01-31T08:00:00.000000Z": always UTC, always microseconds. Raises ValueError for any other zone."""
    if time.utcoffset():
        raise ValueError(f"{time!r} is not in UTC")
    if time.tzinfo is None:
        raise ValueError(f"{time!r} has no time zone")
    return time.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def envelope(event: NewEvent, time: str) -> bytes:
    """The canonical bytes that are stored and hashed. Raises ValueError for what cannot be logged."""
    if len(event.subject) > 200 or "\x00" in event.subject:
        raise ValueError("a subject has at most 200 characters, NUL not among them")
    body = canonical.encode({"data": event.data, "schema": event.schema, "subject": event.subject, "time": time})
    if len(body) > MAX_BODY:
        raise ValueError(f"an event of {len(body)} bytes: at most {MAX_BODY} fit")
    return body


def rows_after(position: int, upto: int | None = None) -> Iterator[Row]:
    """The raw rows beyond `position` in order, to the end or to position `upto`."""
    while True:
        chunk = chunk_after(position, CHUNK, upto)
        yield from chunk
        if len(chunk) < CHUNK:
            return
        position = chunk[-1][0]


def chunk_after(position: int, limit: int, upto: int | None = None) -> list[Row]:
    """At most `limit` raw rows beyond `position`, in order. What is committed has no gaps, so no row is missed."""
    bound, parameters = ("", ()) if upto is None else (" AND position <= %s", (upto,))
    tail = f"WHERE position > %s{bound} ORDER BY position LIMIT %s"
    return [(*row,) for row in read_rows(Event, _READ, tail, [position, *parameters, limit], binary=True)]


def about(subject: str, *kinds: str) -> list[StoredEvent]:
    """The events of the types `kinds` about `subject`, oldest first."""
    return [stored(row) for row in Event.objects.filter(subject=subject, type__in=kinds).order_by("position").values_list(*_READ)]


def stored(row: Row) -> StoredEvent:
    """The event of a row. Raises schemas.UnknownSchema when newer code wrote it."""
    position, _, subject, body, leaf_hash = row
    parsed = json.loads(body.decode())
    schema, data = schemas.upcast(parsed["schema"], parsed["data"])
    return StoredEvent(position, datetime.fromisoformat(parsed["time"]), schema, subject, data, body, leaf_hash)


def time_of(body: bytes) -> str:
    """The time in an envelope: its last member, of fixed length."""
    return body[-29:-2].decode()
