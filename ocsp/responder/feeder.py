"""Fills a host's store from the database, and keeps it as the log and the tables are.

Owns what is in the store. It reads two things that do not know of each other: the ready answers, by their revision, and the
log itself, which says revoked before anybody has signed that. So a good is gone as soon as the log says revoked, whether
the workers live or not. A message from Redis says when to look; lost, it costs half a second. Must never make, sign or
change anything.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from datetime import datetime
from itertools import islice
from typing import Any, cast

import redis
from cryptography import x509
from django.conf import settings
from django.db import connection, transaction

from ca.pki.ocsp_request import SHA1, SHA256
from ca.pki.ocsp_response import issuer_hashes
from eventlog import head
from eventlog.bulk import read_rows
from eventlog.models import Cursor, Event

from .. import heartbeats
from ..answered import Adding
from ..feed import CHANNEL
from ..heartbeats import Heartbeat
from ..models import Crl, Feed, Issuer, Response
from . import record
from .answers import ISSUERS, pack_issuers
from .answers import Issuer as Named
from .record import DOCUMENT, Record
from .store import Full, Store

log = logging.getLogger(__name__)
_PROJECTION, _REVOKED = "ocsp", "certificate.revoked"
_UNSEEN = "WHERE position > %s AND position <= %s AND type = %s ORDER BY position LIMIT %s"
_CHUNK = 2_000  # rows read at a time
_SAYS_REVOKED = 2  # the column of _select
_EPOCH = {"postgresql": "floor(extract(epoch FROM {0}))::bigint", "sqlite": "CAST(strftime('%%s', {0}) AS integer)"}
_KEPT = 3_600  # seconds that an answer stays in memory after its nextUpdate before the database is asked whether it still has it
_SWEPT = 1 << 14  # slots that are looked through for these at a time
_EDITIONS = 8  # places of a CRL's size: there may be new ones more often than old places are free again
_PAUSE = 1.0  # seconds between two tries to reach Redis
_LISTENED = 0.2  # seconds in which who listens to Redis notices that it shall end


class Rewound(Exception):
    """The database is behind what was read from it before: it was emptied or restored, and all has to be read anew."""


class Feeder:
    """Fills one store. Make it, then `load`, then `look` for ever."""

    def __init__(self) -> None:
        self._position = self._revision = self._swept = 0
        self._leaf: bytes | None = None  # of the event at that position
        self._rewound = False
        self._full: Full | None = None  # what had no room in the last look
        self._left: dict[str, bool] = {}  # serials whose answers had none → whether they say revoked
        self._numbers: dict[str, int] = {}  # issuer → its number in records
        self._issuers: set[str] = set()
        self._crls: dict[tuple[str, int], int] = {}  # (issuer, shard) → CRL number

    def load(self) -> Store:
        """A new store with everything that is in the database. Raises DatabaseError, Rewound, OSError without the memory for
        it, store.Full with those that there was room for in `store`."""
        self._rewound = False
        self._go_to(_projected())
        self._revision = _revision()
        self.store, self._issuers, self._crls, self._left = Store.for_records(*_size()), set(), {}, {}
        self._put(_responses("", []))
        self.look()
        return self.store

    def look(self) -> None:
        """Take over all that was committed before the call, revocations first. Raises DatabaseError; Rewound and store.Full
        after all else was taken over, and again with each call as long as that is so."""
        size, revision = head.size(), _revision()
        turned = size < self._position or revision < self._revision or _leaf(self._position) != self._leaf
        if turned:
            self._rewound = True
            self._go_to(min(_projected(), size))
            self._revision = revision
        self._withdraw(size)
        self._full = None
        self._put_answers(revision, turned)
        self._take_issuers()
        self._take_crls()
        if self._rewound:
            raise Rewound
        if self._full:
            raise self._full

    @property
    def position(self) -> int:
        """Of the last event that was taken over."""
        return self._position

    def sweep(self, now: float) -> None:
        """Forget some of the answers that ended long ago and that the database has no more. Called now and then."""
        keys = list(self.store.expired(int(now) - _KEPT, self._swept, _SWEPT))
        self._swept = self._swept + _SWEPT if self._swept + _SWEPT < self.store.slots else 0
        kept = set(Response.objects.filter(serial__in=[key.hex() for key in keys]).values_list("serial", flat=True))
        for key in keys:
            if key.hex() not in kept:
                self.store.remove(key)

    def _withdraw(self, size: int) -> None:
        """What the log calls revoked up to its `size`, whatever the tables say."""
        if size == self._position:
            return
        after = self._position
        while rows := read_rows(Event, ("position", "subject"), _UNSEEN, [after, size, _REVOKED, _CHUNK]):
            for _, serial in rows:
                self.store.withdraw(bytes.fromhex(serial))
            after = rows[-1][0]
        self._go_to(size)

    def _go_to(self, position: int) -> None:
        self._position, self._leaf = position, _leaf(position)

    def _put_answers(self, revision: int, turned: bool) -> None:
        """What is new, and what had no room. Of a database that `turned` only what takes back a good: the rest is for another
        store, and new revocations shall not wait for it."""
        if turned:
            self._put(_responses("WHERE revoked", []))
        self._put_left()
        if revision > self._revision:
            self._put_new()
            self._revision = revision

    def _put_new(self) -> None:
        """Those that say revoked first. There is no sorting them where there are many: that takes too long for one statement."""
        found = _few_responses("WHERE revision > %s LIMIT %s", [self._revision, _CHUNK])
        if len(found) < _CHUNK:
            self._put(sorted(found, key=lambda row: not row[_SAYS_REVOKED]))
            return
        for which in ("revoked", "NOT revoked"):
            self._put(_responses(f"WHERE revision > %s AND {which}", [self._revision]))

    def _put(self, rows: Iterable[tuple[Any, ...]]) -> None:
        number, put = self._number, self.store.put
        for serial, issuer, revoked, this_update, next_update, sha1, sha256 in rows:
            try:
                put(Record(bytes.fromhex(serial), number(issuer), bool(revoked), this_update, next_update, sha1, sha256))
            except Full as full:  # the next one may be smaller, or replace what is there
                self._full, self._left[serial] = full, bool(revoked)

    def _put_left(self) -> None:
        serials = list(islice((each for each, revoked in self._left.items() if revoked), _CHUNK)) or list(islice(self._left, _CHUNK))
        if serials:
            rows = list(_responses(f"WHERE serial IN ({', '.join(['%s'] * len(serials))})", serials))
            for serial in serials:
                del self._left[serial]
            self._put(rows)

    def _number(self, issuer: str) -> int:
        found = self._numbers.get(issuer)
        return self._numbers.setdefault(issuer, len(self._numbers)) if found is None else found

    def _take_issuers(self) -> None:
        names = {name for (name,) in read_rows(Issuer, ("name",), "")}
        if names == self._issuers:
            return
        rows = [(name, bytes(certificate)) for name, certificate in Issuer.objects.values_list("name", "certificate")]
        held = True
        for name, certificate in rows:
            since = x509.load_der_x509_certificate(certificate).not_valid_before_utc
            held &= self._put_document(f"/issuers/{name}.der", since, since, certificate)
        named = [Named(self._number(name), issuer_hashes(each, SHA1), issuer_hashes(each, SHA256)) for name, each in rows]
        held &= self._take(Record(record.document_key(ISSUERS), DOCUMENT, False, 0, 0, pack_issuers(named), b""))
        if held:
            self._issuers = names

    def _take_crls(self) -> None:
        for issuer, shard, number in read_rows(Crl, ("issuer", "shard", "number"), ""):
            if self._crls.get((issuer, shard)) == number:
                continue
            crl = Crl.objects.filter(issuer=issuer, shard=shard).first()
            if crl:
                path = f"/crl/{issuer}.crl" if shard < 0 else f"/crl/{issuer}/{shard}.crl"
                if self._put_document(path, crl.this_update, crl.next_update, bytes(crl.der)):
                    self._crls[issuer, shard] = crl.number

    def _put_document(self, path: str, this_update: datetime, next_update: datetime, body: bytes) -> bool:
        times = int(this_update.timestamp()), int(next_update.timestamp())
        return self._take(Record(record.document_key(path.encode()), DOCUMENT, False, *times, body, b""))

    def _take(self, document: Record) -> bool:
        """Whether there was room for it."""
        try:
            return self.store.put(document)
        except Full as full:
            self._full = full
            return False


class Hints:
    """Redis's word that there is something new. Without Redis it is only a clock. Redis has a thread of its own, as nothing
    bounds the time in which the name of its host is looked up. The same thread says there what was `told`, and adds up what was
    answered."""

    def __init__(self, adding: Adding) -> None:
        self.adding = adding
        self._news = threading.Event()
        self.told: Heartbeat | None = None
        self._listener: tuple[threading.Thread, threading.Event] | None = None  # with what tells it to end

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or as soon as there is a message."""
        if not self._listener:
            end = threading.Event()
            self._listener = threading.Thread(target=_listen, args=(self, self._news, end), daemon=True), end
            self._listener[0].start()
        self._news.wait(seconds)
        self._news.clear()

    def close(self) -> None:
        """Hang up, before a fork."""
        if self._listener:
            thread, end = self._listener
            end.set()
            thread.join(2 * _LISTENED)  # where it is stuck, it ends by itself later
        self._listener = None


def _listen(hints: Hints, news: threading.Event, end: threading.Event) -> None:
    """Set `news` with each message until `end` is set, and say now and then what the hints were told."""
    away, next_beat = False, 0.0
    while not end.is_set():
        try:
            with _client() as client, _subscribed(client) as pubsub:
                away = False
                news.set()  # there may have been messages before
                while not end.is_set():
                    if hints.told and time.monotonic() >= next_beat:
                        next_beat = time.monotonic() + heartbeats.EVERY
                        heartbeats.say(client, hints.told)
                        hints.adding.add(client)
                    if pubsub.get_message(ignore_subscribe_messages=True, timeout=_LISTENED):
                        news.set()
                hints.adding.add(client)
        except Exception as error:  # whatever it is, the next try may succeed
            if not away:
                log.warning("Redis is away (%s): the database is looked at twice a second all the same", type(error).__name__)
            away = True
            end.wait(_PAUSE)


def _client() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=0.5, socket_timeout=0.5, retry=None)


def _subscribed(client: redis.Redis) -> redis.client.PubSub:
    pubsub = client.pubsub()  # type: ignore[no-untyped-call]
    pubsub.subscribe(CHANNEL)
    return cast(redis.client.PubSub, pubsub)


def _projected() -> int:
    """How far the log is in the tables."""
    rows = read_rows(Cursor, ("position",), "WHERE name = %s", [_PROJECTION])
    return int(rows[0][0]) if rows else 0


def _leaf(position: int) -> bytes | None:
    """The hash of that event, by which one log is told from another. None where there is none; b"" for the beginning."""
    if position == 0:
        return b""
    rows = read_rows(Event, ("leaf_hash",), "WHERE position = %s", [position])
    return bytes(rows[0][0]) if rows else None


def _revision() -> int:
    rows = read_rows(Feed, ("revision",), "WHERE id = 1")
    return int(rows[0][0]) if rows else 0


def _size() -> tuple[int, int]:
    """(how many records, how many octets they hold)."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*), coalesce(sum(length(sha1) + length(sha256)), 0) FROM {Response._meta.db_table}")  # noqa: S608
        count, octets = cursor.fetchone()
        cursor.execute(f"SELECT count(*), coalesce(sum(length(der)), 0) FROM {Crl._meta.db_table}")  # noqa: S608
        crls, crl_octets = cursor.fetchone()
    return count + crls, int(octets) + _EDITIONS * int(crl_octets)


def _select(where: str) -> str:
    """(serial, issuer, revoked, thisUpdate and nextUpdate in Unix seconds, both answers) of the rows `where`."""
    times = ", ".join(_EPOCH[connection.vendor].format(column) for column in ("this_update", "next_update"))
    return f"SELECT serial, issuer, revoked, {times}, sha1, sha256 FROM {Response._meta.db_table} {where}"  # noqa: S608 (columns)


def _few_responses(where: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
    """As `_select` says, of `where` that sets a limit."""
    with connection.cursor() as cursor:
        cursor.execute(_select(where), parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _responses(where: str, parameters: list[Any]) -> Iterator[tuple[Any, ...]]:
    """As `_select` says, as they come: on PostgreSQL in a transaction, or it would copy all of them before the first; not on SQLite,
    where that would keep out all writers."""
    with transaction.atomic() if connection.vendor == "postgresql" else nullcontext(), connection.chunked_cursor() as cursor:
        cursor.execute(_select(where), parameters)
        while rows := cursor.fetchmany(_CHUNK):
            yield from rows
