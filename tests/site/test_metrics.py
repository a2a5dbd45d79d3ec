"""/metrics: who may read it, that it tells what it says it tells, and that nothing makes it hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.http import HttpResponse
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from ca import tokens, wakeups
from ca.api import authentication, limits
from ca.models import Request, new_request_id
from dashboard.models import Ending
from eventlog import projections
from quicklime_site import health, measuring, metrics

FAR = "198.51.100.7"


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look now, in the test's own transaction."""

    class Now(health.Probe[Any]):
        def latest(self) -> Any:
            return self._look()

    def look() -> health.Report:
        return health.look(datetime.now(metrics.UTC))

    wakeups.client().flushall()
    monkeypatch.setattr(health, "_probe", Now(look, health._unanswered))
    monkeypatch.setattr(metrics, "_counted", Now(metrics._ask, metrics._nothing))
    monkeypatch.setattr(metrics, "_more", Now(lambda: metrics.look(datetime.now(metrics.UTC)), metrics._nothing))
    yield
    limits.failures.clear()
    authentication._known.clear()


def get(address: str = "127.0.0.1", **headers: str) -> HttpResponse:
    return Client().get(
        "/metrics", REMOTE_ADDR=address, secure=True, headers={key.replace("_", "-"): text for key, text in headers.items()}
    )  # type: ignore[return-value]


def values(answer: HttpResponse) -> dict[tuple[str, str], float]:
    """(name, labels as text) → value; the text must be well-formed, and no name described twice."""
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(answer.content.decode()))
    assert len({family.name for family in families}) == len(families)
    assert all(family.name.startswith("quicklime_") and family.documentation.endswith(".") for family in families)
    return {(sample.name, ",".join(sample.labels.values())): sample.value for family in families for sample in family.samples}


@pytest.fixture
def bearer(db: None, now: datetime) -> Callable[..., str]:
    def make(*actions: str) -> str:
        return f"Bearer {tokens.create('t', 'alice', tokens.Scope(actions=actions, profiles=('*',)), now, by='test')[1]}"

    return make


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_who_is_on_the_machine_may_read(address: str) -> None:
    assert get(address).status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("address", [FAR, "10.0.0.1", "0.0.0.0", "", "localhost"])
def test_nobody_else_may(address: str) -> None:
    answer = get(address)
    assert (answer.status_code, answer.json()["code"]) == (401, "notAuthenticated")  # type: ignore[attr-defined]
    assert b"quicklime_" not in answer.content


@pytest.mark.django_db
@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_who_was_forwarded_is_not_on_the_machine(header: str) -> None:
    assert get(**{header: FAR}).status_code == 401


@pytest.mark.parametrize(("actions", "status"), [(("audit",), 200), (("issue", "read", "revoke"), 403), (("issue", "audit"), 200)])
def test_a_token_may_if_it_may_audit(bearer: Callable[..., str], actions: tuple[str, ...], status: int) -> None:
    for address in (FAR, "127.0.0.1"):  # a token that is sent is what counts
        assert get(address, Authorization=bearer(*actions)).status_code == status


@pytest.mark.django_db
@pytest.mark.parametrize("wrong", ["Bearer ql_wrong", "Basic YTpi", ""])
def test_a_wrong_token_is_401_wherever_it_comes_from(wrong: str) -> None:
    assert get(Authorization=wrong).status_code == 401


def test_it_is_only_read() -> None:
    assert Client().post("/metrics", secure=True).status_code == 405


@pytest.mark.django_db
@pytest.mark.usefixtures("hierarchy")
def test_it_tells_what_waits_and_what_ends(now: datetime) -> None:
    for name in projections.names():
        projections.catch_up(name)
    for state, age in (("received", 40), ("received", 10), ("signed", 90), ("issued", 500), ("awaiting_approval", 700)):
        at = now - timedelta(seconds=age)
        request_id = new_request_id(int(at.timestamp() * 1000), bytes(10))
        Request.objects.create(
            id=request_id, state=state, token="t", owner="o", profile="server", csr=b"", body_hash=b"", created_at=at, updated_at=at
        )
    today: date = now.date()
    Ending.objects.bulk_create([Ending(day=today + timedelta(days), count=count) for days, count in ((-1, 99), (1, 3), (7, 5), (29, 2))])
    measuring.EVENTS.labels("certificate.issued").inc()
    with measuring._client() as client:
        measuring.Sharing().add(client)
        client.hset(measuring.HASH, 'quicklime_task_last_success_timestamp_seconds {"task": "ocsp.follow"}', now.timestamp())
    found = values(get())
    assert found["quicklime_requests_waiting", "received"] == 2
    assert found["quicklime_requests_waiting", "challenged"] == 0
    assert found["quicklime_requests_waiting_oldest_seconds", "received"] == pytest.approx(40, abs=5)
    assert found["quicklime_requests_oldest_seconds", ""] == pytest.approx(90, abs=5)
    assert found["quicklime_requests_awaiting_approval", ""] == 1
    assert found["quicklime_requests_awaiting_approval_seconds", ""] == pytest.approx(700, abs=5)
    assert found["quicklime_certificates_ending", "1d"] == 3
    assert found["quicklime_certificates_ending", "7d"] == 8
    assert found["quicklime_certificates_ending", "30d"] == 10
    assert found["quicklime_projection_lag_events", "ocsp"] == 0
    assert found["quicklime_log_size", ""] == found["quicklime_checkpoint_size", ""] + found["quicklime_log_uncovered_events", ""] > 0
    assert found["quicklime_issuer_not_after_timestamp_seconds", "issuing-1,intermediate"] > now.timestamp()
    assert found["quicklime_task_last_success_timestamp_seconds", "ocsp.follow"] == now.timestamp()
    assert found["quicklime_events_total", "certificate.issued"] >= 1
    assert found["quicklime_check_ok", "beat"] == found["quicklime_ready", ""] == 0


@pytest.mark.django_db
@pytest.mark.usefixtures("hierarchy")
def test_every_gauge_has_its_number(settings: Any, tmp_path: Any, now: datetime) -> None:
    """A name that a check no longer gives would be missing without a word."""
    settings.STATUS_DIR = tmp_path
    report = health.look(now)
    assert [gauge.name for gauge in metrics._GAUGES if gauge.key not in report[gauge.check]] == []


def hang(gate: threading.Event) -> list[Any]:
    gate.wait(10)
    return []


@pytest.mark.django_db
@pytest.mark.parametrize("probe", ["_more", "_counted"])
def test_a_look_that_hangs_is_left_out(probe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LATE", 0.05)
    gate = threading.Event()
    monkeypatch.setattr(metrics, probe, health.Probe(lambda: hang(gate), metrics._nothing))
    try:
        before = time.monotonic()
        assert ("quicklime_ready", "") in values(get())
        assert time.monotonic() - before < 5
    finally:
        gate.set()


def test_without_the_database_the_rest_is_told_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OperationalError("connection to db.internal as ca failed")

    monkeypatch.setattr(projections, "status", away)
    with measuring._client() as client:
        measuring.Sharing().add(client)
    found = values(get())
    assert found["quicklime_check_ok", "database"] == 0
    assert ("quicklime_batch_size_count", "") in found
    answer = get(FAR, Authorization="Bearer ql_of-an-auditor")
    assert answer.status_code == 503
    assert answer["Retry-After"]


@pytest.mark.django_db
def test_without_redis_the_rest_is_told(settings: Any) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    found = values(get())
    assert found["quicklime_check_ok", "redis"] == 0
    assert ("quicklime_log_size", "") in found
    assert ("quicklime_batch_size_count", "") not in found


@pytest.mark.django_db
@pytest.mark.usefixtures("hierarchy")
def test_a_scrape_asks_little(django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(35):
        get()
