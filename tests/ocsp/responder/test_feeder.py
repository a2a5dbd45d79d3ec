"""What the feeder takes over from the database, in which order, and what it does without it."""

from __future__ import annotations

import socket
import threading
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis
from cryptography import x509
from django.db import connection

from eventlog.models import Cursor, Event
from ocsp import answered, feed, heartbeats
from ocsp.answered import Adding
from ocsp.heartbeats import Heartbeat
from ocsp.models import Crl, Feed, Response
from ocsp.responder import feeder as feeding
from ocsp.responder import record
from ocsp.responder.answers import ISSUERS, OUTCOMES, no_counts, unpack_issuers
from ocsp.responder.feeder import Feeder, Hints, Rewound
from ocsp.responder.record import DOCUMENT, Record
from ocsp.responder.store import Full
from tests.ocsp.support import Issue, follow, log, revoked

pytestmark = pytest.mark.django_db


@pytest.fixture
def feeder(leaves: list[x509.Certificate]) -> Feeder:
    feeder = Feeder()
    feeder.load()
    return feeder


def serial_of(leaf: x509.Certificate) -> str:
    return f"{leaf.serial_number:040x}"


def held(feeder: Feeder, serial: str) -> Record | None:
    packed = feeder.store.get(bytes.fromhex(serial), record.owner(feeder._numbers["issuing-1"]))
    return record.unpack(packed) if packed else None


def document(feeder: Feeder, name: bytes) -> Record | None:
    packed = feeder.store.get(record.document_key(name), record.owner(DOCUMENT))
    return record.unpack(packed) if packed else None


def test_everything_is_loaded_as_it_stands(feeder: Feeder) -> None:
    rows = list(Response.objects.all())
    assert len(rows) == 3
    for row in rows:
        found = held(feeder, row.serial)
        assert found
        assert (found.first, found.second, found.final) == (bytes(row.sha1), bytes(row.sha256), False)
        assert found.this_update == int(row.this_update.timestamp())
        assert found.next_update == int(row.next_update.timestamp())


def test_issuers_are_loaded_for_desk_and_download(feeder: Feeder, issuer: x509.Certificate) -> None:
    packed = document(feeder, ISSUERS)
    assert packed
    digests = {each.sha1[1] for each in unpack_issuers(packed.first)}
    assert x509.SubjectKeyIdentifier.from_public_key(issuer.public_key()).digest in digests
    assert len(digests) == 2  # the root's, too
    found = document(feeder, b"/issuers/issuing-1.der")
    assert found
    assert x509.load_der_x509_certificate(found.first) == issuer


def test_what_the_log_revokes_is_taken_back_before_the_projection_knows(
    feeder: Feeder, leaves: list[x509.Certificate], now: datetime
) -> None:
    serial = serial_of(leaves[0])
    log(now, revoked(serial))
    feeder.look()
    found = held(feeder, serial)
    assert found
    assert (found.first, found.second, found.final) == (b"", b"", True)
    good = held(feeder, serial_of(leaves[1]))
    assert good
    assert good.first


def test_what_was_revoked_before_the_start_is_not_good_after_it(leaves: list[x509.Certificate], now: datetime) -> None:
    """The projection had not read it: the log is read from where that stands."""
    serial = serial_of(leaves[0])
    log(now, revoked(serial))
    assert not Response.objects.get(serial=serial).revoked
    feeder = Feeder()
    feeder.load()
    found = held(feeder, serial)
    assert found
    assert not found.first


def test_a_good_answer_that_comes_late_is_not_taken(feeder: Feeder, leaves: list[x509.Certificate], now: datetime) -> None:
    serial = serial_of(leaves[0])
    log(now, revoked(serial))
    revision = Feed.objects.get().revision + 1
    Response.objects.filter(serial=serial).update(revision=revision)
    Feed.objects.update(revision=revision)
    feeder.look()
    found = held(feeder, serial)
    assert found
    assert not found.first


def test_new_rows_come_by_their_revision(feeder: Feeder, issue: Issue) -> None:
    (other,) = issue(1)
    assert held(feeder, other.serial) is None
    feeder.look()
    assert held(feeder, other.serial)


@pytest.mark.parametrize("chunk", [2, 2_000])
def test_of_what_is_new_the_revoked_comes_first(
    chunk: int, feeder: Feeder, leaves: list[x509.Certificate], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much it is."""
    monkeypatch.setattr(feeding, "_CHUNK", chunk)
    gone = serial_of(leaves[2])
    log(now, revoked(gone))
    follow()
    Feed.objects.update(revision=(revision := Feed.objects.get().revision + 1))
    Response.objects.update(revision=revision)
    put: list[str] = []
    monkeypatch.setattr(feeder.store, "put", lambda each: put.append(each.key.hex()))
    monkeypatch.setattr(feeder.store, "withdraw", lambda _: None)
    feeder.look()
    assert put[0] == gone
    assert sorted(put) == sorted(map(serial_of, leaves))


@pytest.mark.django_db(transaction=True)
def test_many_rows_come_one_after_the_other(leaves: list[x509.Certificate]) -> None:
    """Else the first of a million would take longer than a statement may."""
    rows = feeding._responses("WHERE NOT revoked", [])
    next(rows)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT is_holdable FROM pg_cursors WHERE name LIKE '\\_django%'")  # a holdable one is a copy
            assert cursor.fetchall() == [(False,)]
    else:
        assert not connection.in_atomic_block, "nobody else could write meanwhile"
    assert len(list(rows)) == len(leaves) - 1


def test_a_database_that_was_put_back_is_noticed(feeder: Feeder) -> None:
    Feed.objects.update(revision=0)
    for _ in range(2):
        with pytest.raises(Rewound):
            feeder.look()


def test_after_that_what_the_log_revokes_is_still_taken_back(feeder: Feeder, leaves: list[x509.Certificate], now: datetime) -> None:
    """Until the successor has loaded, and if it never does, all the more."""
    first, second, third = map(serial_of, leaves)
    feeder._position += 1000  # where the log was before
    log(now, revoked(first))
    with pytest.raises(Rewound):
        feeder.look()
    log(now, revoked(second))
    with pytest.raises(Rewound):
        feeder.look()
    assert [held(feeder, each).first == b"" for each in (first, second, third)] == [True, True, False]  # type: ignore[union-attr]


def test_after_that_what_the_tables_took_back_is_taken_back(feeder: Feeder, leaves: list[x509.Certificate], now: datetime) -> None:
    """The projection has read the revocation in the meantime, so that it is before the place where the log is read on."""
    serial = serial_of(leaves[0])
    log(now, revoked(serial))
    follow()
    feeder._position, feeder._revision = feeder._position + 1000, 10**6
    with pytest.raises(Rewound):
        feeder.look()
    found = held(feeder, serial)
    assert found
    assert (found.first, found.final) == (b"", True)


@pytest.mark.parametrize("there", [True, False])
def test_a_log_that_lost_its_end_and_was_overtaken_is_noticed(
    feeder: Feeder, leaves: list[x509.Certificate], now: datetime, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """A failover: as many events or more, and another one where this one had read to."""
    log(now, revoked(serial_of(leaves[0])))
    feeder.look()
    position = feeder._position
    feeder.look()
    leaf = bytes(Event.objects.get(position=position).leaf_hash)[::-1] if there else None
    monkeypatch.setattr(feeding, "_leaf", lambda at: leaf if at == position else b"")
    log(now, revoked(serial_of(leaves[1])))
    with pytest.raises(Rewound):
        feeder.look()
    assert not held(feeder, serial_of(leaves[1])).first  # type: ignore[union-attr]


def test_an_answer_without_room_keeps_no_other_one_back(
    feeder: Feeder, leaves: list[x509.Certificate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that say revoked come first, and what had no room is tried again."""
    first, second, third = map(serial_of, leaves)
    revision = Feed.objects.get().revision + 1
    Response.objects.update(revision=revision, sha1=b"newer")
    Response.objects.filter(serial=third).update(revoked=True)
    Feed.objects.update(revision=revision)
    put, tried = feeder.store.put, list[str]()

    def put_some(new: Record) -> bool:
        tried.append(new.key.hex())
        if new.key.hex() == first:
            raise Full("the heap")
        return put(new)

    monkeypatch.setattr(feeder.store, "put", put_some)
    for _ in range(2):
        with pytest.raises(Full):
            feeder.look()
        bodies = [held(feeder, each).first for each in (second, third)]  # type: ignore[union-attr]
        assert bodies == [b"newer", b"newer"]
    assert tried[0] == third
    assert tried.count(first) == 2
    monkeypatch.setattr(feeder.store, "put", put)
    feeder.look()
    assert held(feeder, first).first == b"newer"  # type: ignore[union-attr]


def test_a_crl_without_room_keeps_no_other_one_back(feeder: Feeder, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"this_update": now, "next_update": now + timedelta(hours=1), "position": 1}
    for shard in (1, 2):
        Crl.objects.create(issuer="issuing-1", shard=shard, number=1, der=b"%d" % shard, **row)
    put = feeder.store.put

    def put_some(new: Record) -> bool:
        if new.first == b"1":
            raise Full("the heap")
        return put(new)

    monkeypatch.setattr(feeder.store, "put", put_some)
    with pytest.raises(Full):
        feeder.look()
    assert document(feeder, b"/crl/issuing-1/2.crl")
    monkeypatch.setattr(feeder.store, "put", put)
    feeder.look()
    assert document(feeder, b"/crl/issuing-1/1.crl")


def test_the_log_is_followed_from_the_projections_place(leaves: list[x509.Certificate]) -> None:
    follow()
    feeder = Feeder()
    feeder.load()
    assert feeder._position == Cursor.objects.get(name="ocsp").position


@pytest.mark.parametrize(("shard", "path"), [(-1, b"/crl/issuing-1.crl"), (3, b"/crl/issuing-1/3.crl")])
def test_crls_come_and_are_replaced(feeder: Feeder, now: datetime, shard: int, path: bytes) -> None:
    assert document(feeder, path) is None
    row = {"this_update": now, "next_update": now + timedelta(hours=1), "position": 1}
    Crl.objects.create(issuer="issuing-1", shard=shard, number=1, der=b"one", **row)
    feeder.look()
    assert document(feeder, path).first == b"one"  # type: ignore[union-attr]
    Crl.objects.filter(issuer="issuing-1", shard=shard).update(number=2, der=b"two")
    feeder.look()
    assert document(feeder, path).first == b"two"  # type: ignore[union-attr]


def test_an_answer_that_the_database_dropped_is_dropped_after_its_time(
    feeder: Feeder, leaves: list[x509.Certificate], now: datetime
) -> None:
    first, second = map(serial_of, leaves[:2])
    Response.objects.filter(serial=first).delete()
    for at, kept in ((now, True), (now + timedelta(days=3), False)):
        for _ in range(10):
            feeder.sweep(at.timestamp())
        assert (held(feeder, first) is not None) is kept
    assert held(feeder, second), "a row that is still there may be renewed, or is withdrawn"


def test_looking_when_nothing_happened_asks_little(feeder: Feeder, django_assert_max_num_queries: object) -> None:
    with django_assert_max_num_queries(5):  # type: ignore[operator]
        feeder.look()
    assert connection.vendor in ("postgresql", "sqlite")


def test_a_name_server_that_does_not_answer_costs_no_look(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    answer, asked = threading.Event(), threading.Event()

    def look_up(*_: object, **__: object) -> list[Any]:
        asked.set()
        answer.wait(20)
        raise OSError

    settings.REDIS_URL = "redis://redis.example:6379/0"
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    hints, began = Hints(Adding(no_counts)), time.monotonic()
    hints.wait(0.2)
    hints.wait(0.2)
    hints.close()
    assert time.monotonic() - began < 3
    assert asked.is_set()
    answer.set()


def test_what_hints_are_told_is_said_in_redis() -> None:
    hints, told = Hints(Adding(no_counts)), Heartbeat("here:80", 1000.0, 7)
    try:
        hints.told = told
        for _ in range(100):
            hints.wait(0.1)
            if found := feed.client().hget(heartbeats.HASH, "here:80"):
                break
        assert heartbeats.read({"here:80": found}, 1001.0) == [told]
    finally:
        hints.close()


def test_what_was_answered_is_added_up_and_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answered, "HASH", "quicklime:test-answered")
    client, here = feed.client(), [1, 0, 0, 0, 0]
    one, other = Adding(lambda: list(here)), Adding(lambda: [0, 0, 2, 0, 0])
    for adding in (one, one, other):
        adding.add(client)
    assert client.hgetall(answered.HASH) == {name.encode(): b"%d" % count for name, count in zip(OUTCOMES, (1, 0, 2, 0, 0), strict=True)}
    here[0] = 5
    with pytest.raises(redis.RedisError):
        one.add(redis.Redis(port=1))
    one.add(client)
    assert client.hget(answered.HASH, "good") == b"5"
    client.delete(answered.HASH)


def test_one_looks_at_once_when_it_begins_to_listen_and_at_each_message() -> None:
    hints = Hints(Adding(no_counts))
    try:
        for tell in (lambda: None, lambda: feed.client().publish(feed.CHANNEL, b"")):  # before it listened there may have been messages
            tell()
            began = time.monotonic()
            hints.wait(20)
            assert time.monotonic() - began < 10
    finally:
        hints.close()
