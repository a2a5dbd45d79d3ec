"""The door: what is refused at once, what is stored, and what a repeated key gives."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import connection, transaction
from kombu.exceptions import OperationalError

from ca import pipeline, tasks, tokens, wakeups
from ca.errors import Problem
from ca.models import Request, Token
from tests import oracle
from tests.material import csr, many
from tests.processes import eventually

AWAY = [redis.ConnectionError("refused"), redis.TimeoutError("slow"), OperationalError("gone"), OSError("reset")]


@pytest.fixture
def token(hierarchy: None, now: datetime) -> Token:
    return Token.objects.get(id=tokens.create("test", "alice", tokens.Scope(), now, by="test")[0])


def one(token: Token, now: datetime, der: bytes, **more: Any) -> Request | Problem:
    return pipeline.submit(token, [pipeline.Submission(csr=der, **more)], now)[0]


@pytest.mark.django_db
def test_what_policy_refuses_is_not_stored(token: Token, now: datetime) -> None:
    answers = pipeline.submit(token, [pipeline.Submission(csr=csr("a.internal")), pipeline.Submission(csr=csr("evil.example.org"))], now)
    assert isinstance(answers[0], Request)
    assert isinstance(answers[1], Problem)
    assert Request.objects.count() == 1


@pytest.mark.django_db
def test_garbage_is_refused_at_the_door(token: Token, now: datetime) -> None:
    answer = one(token, now, b"\x30\x03\x02\x01\x00")
    assert isinstance(answer, Problem)
    assert answer.where.startswith("csr")


@pytest.mark.django_db
def test_a_token_without_the_action_may_not_even_ask(hierarchy: None, now: datetime) -> None:
    reader = Token.objects.get(id=tokens.create("r", "bob", tokens.Scope(actions=("read",)), now, by="test")[0])
    with pytest.raises(Problem) as caught:
        one(reader, now, csr("a.internal"))
    assert caught.value.code == "forbidden"


@pytest.mark.django_db
def test_the_same_key_gives_the_same_request(token: Token, now: datetime) -> None:
    der = csr("a.internal")
    first = one(token, now, der, idempotency_key="k", body_hash=b"1" * 32)
    again = one(token, now, der, idempotency_key="k", body_hash=b"1" * 32)
    assert isinstance(first, Request)
    assert isinstance(again, Request)
    assert first.id == again.id
    assert Request.objects.count() == 1


@pytest.mark.django_db
def test_the_same_key_with_another_body_is_refused(token: Token, now: datetime) -> None:
    one(token, now, csr("a.internal"), idempotency_key="k", body_hash=b"1" * 32)
    answer = one(token, now, csr("b.internal"), idempotency_key="k", body_hash=b"2" * 32)
    assert isinstance(answer, Problem)
    assert answer.code == "idempotencyMismatch"


@pytest.mark.django_db
def test_two_tokens_do_not_share_keys(token: Token, now: datetime) -> None:
    other = Token.objects.get(id=tokens.create("o", "bob", tokens.Scope(), now, by="test")[0])
    der = csr("a.internal")
    first, second = (one(who, now, der, idempotency_key="k", body_hash=b"1" * 32) for who in (token, other))
    assert isinstance(first, Request)
    assert isinstance(second, Request)
    assert first.id != second.id


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("keys", [1, 50])
def test_fifty_at_once(token: Token, now: datetime, keys: int, run_pipeline: Any) -> None:
    der = many(1)[0]

    def submit(number: int) -> Request | Problem:
        try:
            return one(token, now, der, idempotency_key=f"k{number % keys}", body_hash=b"1" * 32)
        finally:
            connection.close()

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(submit, range(50)))
    assert all(isinstance(answer, Request) for answer in answers)
    assert len({answer.id for answer in answers if isinstance(answer, Request)}) == keys
    run_pipeline()
    assert Request.objects.filter(state="issued").count() == keys
    oracle.check()


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"), reason="SQLite has no pool")
def test_who_queues_at_the_door_holds_no_connection(token: Token, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that looked something up before submitting must not keep the pool from the one that commits for all."""
    held: list[bool] = []
    real = pipeline._accept
    monkeypatch.setattr(pipeline, "_accept", lambda rows: held.append(connection.connection is not None) or real(rows))
    Token.objects.count()
    one(token, now, csr("a.internal"))
    assert held == [False]


@pytest.mark.django_db(transaction=True)
def test_keys_that_two_processes_store_in_another_order_do_not_deadlock(token: Token, now: datetime) -> None:
    """Repeated submissions reach another process in another order; the database would end the deadlock by failing one of
    the two commits, and with it everybody who shares it."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer")
    asked = [pipeline.Submission(csr=csr(f"{key}.internal"), idempotency_key=key, body_hash=key.encode() * 32) for key in ("b", "a")]
    first, second = (pipeline._admitted(token.grant(), each, now) for each in reversed(asked))

    def elsewhere() -> list[Request | Problem]:
        try:
            return pipeline.submit(token, asked, now)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            Request.objects.bulk_create([first])
            other = pool.submit(elsewhere)
            eventually(_somebody_waits_for_a_lock)
            Request.objects.bulk_create([second])
        assert {answer.id for answer in other.result(20)} == {first.id, second.id}


def _somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


@pytest.mark.django_db
@pytest.mark.parametrize("error", AWAY)
def test_without_redis_the_request_is_stored(token: Token, now: datetime, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def away() -> bool:
        raise error

    monkeypatch.setattr(wakeups, "claim_wake_up", away)
    assert isinstance(one(token, now, csr("a.internal")), Request)
    assert Request.objects.get().state == "received"


@pytest.mark.django_db
def test_a_pending_wake_up_is_not_sent_twice(token: Token, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    wakeups.client().flushdb()
    started: list[Any] = []
    monkeypatch.setattr(tasks, "_start", lambda batch, steps: started.append(steps))
    for der in many(5):
        one(token, now, der)
    assert len(started) == 1
    wakeups.wake_up_arrived()
    one(token, now, csr("a.internal"))
    assert len(started) == 2


def test_request_ids_are_ordered_by_time() -> None:
    from ca.models import new_request_id

    early, late = new_request_id(1_000, b"\xff" * 10), new_request_id(1_001, b"\x00" * 10)
    assert early < late
    assert (early.version, early.variant) == (7, "specified in RFC 4122")
    assert datetime.fromtimestamp((late.int >> 80) / 1000, UTC).microsecond == 1000
