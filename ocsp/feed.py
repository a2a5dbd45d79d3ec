"""Response rows and their revisions, by which readers follow.

Owns every write to Response and Feed. Whoever writes locks the Feed row, takes its next revision, and commits; a reader who saw
revision n has seen every commit up to n. Whether an answer still holds is asked under that lock, in the statement that
stores it: a good one is never stored for what the log calls revoked, and never over a revoked or a withdrawn one.
Deletions have no revision: what is deleted could not be given any more.

Lock order: the projection's cursor, then Feed, then the log's head.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

import redis
from django.conf import settings
from django.db import connection, models, transaction

from ca.crash import point
from eventlog.bulk import places, read_rows
from eventlog.clock import SKEW

from .models import Feed, Response

log = logging.getLogger(__name__)
CHANNEL = "quicklime:ocsp"
AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)  # refresh_at of what presign signs before all else
_SPARED = 1.0  # seconds
_silent_until = 0.0  # on the monotonic clock: when a Redis that failed is asked again

_COLUMNS = ("serial", "issuer", "revoked", "this_update", "next_update", "refresh_at", "sha1", "sha256")
_KINDS = ("text", "text", "boolean", "timestamptz", "timestamptz", "timestamptz", "bytea", "bytea", "bigint")
_CHANGED = ", ".join(f"{name} = excluded.{name}" for name in (*_COLUMNS[1:], "revision"))
# fmt: off
# What Status says, or the log beyond what Status has read, must be what was signed; `revoked` never becomes false.
_UPSERT = f"""
    INSERT INTO ocsp_response AS old ({', '.join(_COLUMNS)}, revision)
    SELECT {', '.join(f'new.{name}' for name in _COLUMNS)}, %s FROM {{source}}
    WHERE new.position = COALESCE((SELECT position FROM ocsp_status WHERE serial = new.serial AND state <> 'intended'), 0)
      AND (new.revoked OR NOT EXISTS (
        SELECT 1 FROM eventlog_event AS unread WHERE unread.subject = new.serial AND unread.type = 'certificate.revoked'
          AND unread.position > (SELECT COALESCE(max(position), 0) FROM eventlog_cursor WHERE name = 'ocsp')))
    ON CONFLICT (serial) DO UPDATE SET {_CHANGED} WHERE excluded.revoked OR NOT old.revoked"""  # noqa: S608 (constants)
_MANY = _UPSERT.format(source=f"unnest({', '.join(f'%b::{kind}[]' for kind in _KINDS)}) AS new ({', '.join(_COLUMNS)}, position)")
_ONE = _UPSERT.format(source=f"(SELECT {', '.join(f'%s AS {name}' for name in (*_COLUMNS, 'position'))}) AS new")
_WITHDRAW = f"""
    INSERT INTO ocsp_response AS old ({', '.join(_COLUMNS)}, revision) VALUES ({places((*_COLUMNS, 'revision'))})
    ON CONFLICT (serial) DO UPDATE SET {_CHANGED} WHERE NOT old.revoked"""  # noqa: S608 (constants)
# fmt: on
_NEXT = "UPDATE ocsp_feed SET revision = revision + 1 WHERE id = {row} RETURNING revision"
_UNLOCKED = "(SELECT id FROM ocsp_feed WHERE id = 1 FOR UPDATE SKIP LOCKED)"
_PAUSE = 0.002  # seconds


class Ready(NamedTuple):
    """Two signed answers about a serial. `position` is Status.position of what they say, 0 for a certificate that is being
    issued in this very transaction: if the log has said more since, they are not stored."""

    serial: str
    issuer: str
    revoked: bool
    this_update: datetime
    next_update: datetime
    refresh_at: datetime
    sha1: bytes
    sha256: bytes
    position: int


class Busy(Exception):
    """Others write responses for so long that the caller shall not wait for them."""


def store(ready: Sequence[Ready], patience: float | None = None) -> int:
    """Store those answers that still hold; how many did. The lock is held from here to the end of the caller's transaction.
    With `patience`, in seconds, raises Busy if it is not to be had in that time."""
    if not ready:
        return 0
    with transaction.atomic(savepoint=False):
        revision = _next_revision() if patience is None else _next_revision_within(patience)
        stored = _upsert(ready, revision)
        point("ocsp.store_mid")
        _publish_on_commit()
    return stored


def withdraw(revoked: Iterable[tuple[str, str, datetime]]) -> None:
    """Take back whatever is said of `revoked` = (serial, issuer, time of the revocation): from the commit on there are two
    empty answers and no good one can be stored, until a revoked one is. Those that say revoked already stay.

    Without any of the others it takes no lock: a rebuild of the projection, which comes by every revocation of old, shall
    not hold back who issues."""
    rows = list(revoked)
    final = _already_revoked([serial for serial, _, _ in rows])
    rows = [row for row in rows if row[0] not in final]
    if not rows:
        return
    with transaction.atomic():
        revision = _next_revision()
        with connection.cursor() as cursor:
            cursor.executemany(_WITHDRAW, [(*adapted(_withdrawn(*row)), revision) for row in rows])
        _publish_on_commit()


def sign_again(serials: Collection[str]) -> None:
    """Have the answers that say revoked signed anew at once, as the log says more of these now."""
    if not serials:
        return
    with transaction.atomic():
        _next_revision()  # who signs at this moment asked what the log said before
        Response.objects.filter(serial__in=list(serials), revoked=True).update(refresh_at=AT_ONCE)


def forget(expired: Collection[str], now: datetime) -> None:
    """Delete the answers about certificates that expired; one that may still be given is kept until its nextUpdate. One of a
    time that has not come is not given."""
    if not expired:
        return
    with transaction.atomic():
        _next_revision()  # whoever stores answers locks their rows in another order
        rows = Response.objects.filter(serial__in=expired)
        rows.filter(models.Q(next_update__lte=now) | models.Q(this_update__gt=now + SKEW)).delete()
        rows.update(refresh_at=models.F("next_update"))


def adapted(row: Sequence[object]) -> list[Any]:
    """The row as the database's driver takes it."""
    adapt = connection.ops.adapt_datetimefield_value
    return [adapt(value) if isinstance(value, datetime) else value for value in row]


def publish() -> None:
    """Tell the readers to look now. Never raises: without it they look within the second by themselves. A Redis that failed
    is left alone for a moment, as whoever issues or signs waits for this."""
    global _silent_until
    if time.monotonic() < _silent_until:
        return
    try:
        client().publish(CHANNEL, b"")
    except redis.RedisError as error:
        _silent_until = time.monotonic() + _SPARED
        log.warning("could not announce new OCSP responses: %s", error)


@cache
def client() -> redis.Redis:
    """This process's, for all of its threads; half a second is all that a hint may cost."""
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.5, socket_connect_timeout=0.5, retry=None)


def _publish_on_commit() -> None:
    transaction.on_commit(publish, robust=True)


def _next_revision() -> int:
    """Lock the Feed row, waiting for it, and count on."""
    found = _count_on("1")
    if found is None:  # the very first write; two of them agree on one row
        Feed.objects.bulk_create([Feed(id=1, revision=0)], ignore_conflicts=True)
        found = _count_on("1")
    assert found is not None
    return found


def _next_revision_within(patience: float) -> int:
    """The same, or Busy. Asked again and again rather than by lock_timeout, which would hold for what the caller does next."""
    if not connection.features.has_select_for_update_skip_locked:
        return _next_revision()
    deadline = time.monotonic() + patience
    while (found := _count_on(_UNLOCKED)) is None:
        if not Feed.objects.filter(id=1).exists():
            return _next_revision()
        if time.monotonic() > deadline:
            raise Busy(f"no response could be stored within {patience:g} s")
        time.sleep(_PAUSE)
    return found


def _count_on(row: str) -> int | None:
    with connection.cursor() as cursor:
        cursor.execute(_NEXT.format(row=row))
        found = cursor.fetchone()
    return found[0] if found else None


def _upsert(ready: Sequence[Ready], revision: int) -> int:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_MANY, [revision, *(list(column) for column in zip(*ready, strict=True))])
        else:
            cursor.executemany(_ONE, [(revision, *adapted(row)) for row in ready])
        stored: int = cursor.rowcount
    return stored


def _withdrawn(serial: str, issuer: str, at: datetime) -> tuple[object, ...]:
    return serial, issuer, True, at, at, AT_ONCE, b"", b""


def _already_revoked(serials: list[str]) -> set[str]:
    if not serials:
        return set()
    return {serial for (serial,) in read_rows(Response, ("serial",), f"WHERE revoked AND serial IN ({places(serials)})", serials)}
