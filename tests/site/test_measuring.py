"""What is counted, that processes add up without counting twice, and that nothing in Redis can spoil it."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory
from prometheus_client import Metric

from ca import keys, measures, wakeups
from ca.models import Approval, new_request_id
from eventlog.append import StoredEvent
from ocsp import answered
from quicklime_site import measuring

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    wakeups.client().flushall()
    yield
    wakeups.client().flushall()


def local(name: str, **labels: str) -> float:
    """What this process counted."""
    return measures.registry.get_sample_value(name, labels) or 0.0


def added(name: str, **labels: str) -> float | None:
    """What all processes counted together."""
    values = [
        sample.value
        for metric in measuring.shared().metrics()
        for sample in metric.samples
        if (sample.name, sample.labels) == (name, labels)
    ]
    assert len(values) < 2
    return values[0] if values else None


def add(*sharing: measuring.Sharing) -> None:
    for each in sharing:
        with measuring._client() as client:
            each.add(client)


def test_processes_add_up_and_none_counts_twice() -> None:
    measures.KEY_FAULTS.labels("x").inc()
    own = local("quicklime_key_faults_total", key="x")
    one, other = measuring.Sharing(), measuring.Sharing()
    add(one, one, other)
    assert added("quicklime_key_faults_total", key="x") == 2 * own
    measures.KEY_FAULTS.labels("x").inc(3)
    add(one, one)
    assert added("quicklime_key_faults_total", key="x") == 2 * own + 3


def test_what_responders_answered_is_told() -> None:
    for outcome, count in (("good", 3), ("revoked", 1), ("good", 1)):
        wakeups.client().hincrby(answered.HASH, outcome, count)
    assert added("quicklime_ocsp_responses_total", outcome="good") == 4
    assert added("quicklime_ocsp_responses_total", outcome="revoked") == 1


def test_a_time_is_the_newest_not_a_sum() -> None:
    sharing = measuring.Sharing()
    for at in (1000.0, 2000.0):
        measuring.TASK_SUCCESS.labels("t").set(at)
        add(sharing, measuring.Sharing())
    assert measuring.shared().last_success()["t"] == 2000


def test_after_redis_lost_all_only_what_is_new_is_there() -> None:
    sharing = measuring.Sharing()
    measures.KEY_FAULTS.labels("x").inc()
    add(sharing)
    wakeups.client().flushall()
    measures.KEY_FAULTS.labels("x").inc()
    add(sharing)
    assert added("quicklime_key_faults_total", key="x") == 1


def test_without_redis_the_numbers_wait(settings: Any) -> None:
    measures.KEY_FAULTS.labels("x").inc()
    sharing, url = measuring.Sharing(), settings.REDIS_URL
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    sharing.add_quietly()
    settings.REDIS_URL = url
    sharing.add_quietly()
    assert added("quicklime_key_faults_total", key="x") == local("quicklime_key_faults_total", key="x")


def family(name: str) -> Metric:
    return next(metric for metric in measuring.shared().metrics() if metric.name == name)


def test_the_buckets_of_a_histogram_are_in_order() -> None:
    measuring.BATCH_SIZE.observe(100)
    add(measuring.Sharing())
    samples = family("quicklime_batch_size").samples
    bounds = [float(sample.labels["le"]) for sample in samples if sample.name.endswith("_bucket")]
    assert bounds == [*measuring._SIZES, math.inf]
    assert [sample.name.removeprefix("quicklime_batch_size_") for sample in samples[-2:]] == ["count", "sum"]


@pytest.mark.parametrize("field", [
    "", "quicklime_batch_size_bucket", "quicklime_batch_size_bucket {", 'quicklime_batch_size_bucket {"le": "x"}',
    "quicklime_batch_size_bucket []", 'quicklime_batch_size_bucket {"le": [1]}', "quicklime_batch_size_bucket 7", "unknown {}",
])  # fmt: skip
def test_what_is_no_number_of_ours_is_passed_over(field: str) -> None:
    wakeups.client().hset(measuring.HASH, field, "1")
    wakeups.client().hset(measuring.HASH, "quicklime_batch_size_sum {}", "many")
    assert all(not metric.samples for metric in measuring.shared().metrics())


def event(request: str) -> StoredEvent:
    return StoredEvent(1, NOW, "quicklime/issuance.intended/1-0-0", "s", {"request": request}, b"", b"")


@pytest.mark.django_db
def test_a_request_waits_from_the_time_in_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, approved = (new_request_id(int(NOW.timestamp() * 1000) - 1500, bytes(9) + bytes([number])) for number in range(3))
    Approval.objects.create(request=approved, asked=b"", granted=True, decided_at=NOW - timedelta(seconds=0.5), position=1)
    monkeypatch.setattr(measuring.time, "time", NOW.timestamp)
    names = ("quicklime_issuance_seconds_sum", "quicklime_issuance_seconds_count")
    before = [local(name, stage="intended") for name in names]
    sizes = local("quicklime_batch_size_sum")
    measuring._announced([event(str(each)) for each in (one, other, approved)])
    assert [local(name, stage="intended") - old for name, old in zip(names, before, strict=True)] == [pytest.approx(3.5), 3]
    assert local("quicklime_batch_size_sum") - sizes == 3


class _Task:
    name = "ca.test"


@pytest.mark.parametrize(("state", "failures", "successes"), [("SUCCESS", 0, 1), ("FAILURE", 1, 0), ("IGNORED", 0, 0), ("REJECTED", 0, 0)])
def test_a_task_is_counted_by_how_it_ended(state: str, failures: int, successes: int) -> None:
    measuring.TASK_SUCCESS.labels("ca.test").set(0)
    before = local("quicklime_task_failures_total", task="ca.test"), local("quicklime_task_seconds_count", task="ca.test")
    measuring._begin()
    measuring._end(task=_Task(), state=state)  # type: ignore[arg-type]
    assert local("quicklime_task_failures_total", task="ca.test") - before[0] == failures
    assert local("quicklime_task_seconds_count", task="ca.test") - before[1] == 1
    assert bool(local("quicklime_task_last_success_timestamp_seconds", task="ca.test")) == bool(successes)


def test_a_step_that_runs_within_another_counts_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 4.0, 9.0])  # the outer begins, the inner begins, the inner ends, the outer ends
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: next(clock))
    names = ("test.outer", "test.inner")
    before = [local("quicklime_task_seconds_sum", task=name) for name in names]
    measuring._begin()
    measuring._begin()
    measuring._end(task=SimpleNamespace(name="test.inner"), state="SUCCESS")  # type: ignore[arg-type]
    measuring._end(task=SimpleNamespace(name="test.outer"), state="SUCCESS")  # type: ignore[arg-type]
    took = [local("quicklime_task_seconds_sum", task=name) - was for name, was in zip(names, before, strict=True)]
    assert took == [6.0, 3.0]


def test_a_key_that_cannot_be_used_is_counted(settings: Any, tmp_path: Any) -> None:
    settings.KEYS_DIR = tmp_path
    keys.forget()
    wanted = {"gone": keys.issuer_signer, "_ocsp-gone": lambda _: keys.ocsp_signer("gone"), "_log": lambda _: keys.log_signer()}
    before = {key: local("quicklime_key_faults_total", key=key) for key in wanted}
    for key, want in wanted.items():
        with pytest.raises(keys.KeyFault):
            want(key)
    assert {key: local("quicklime_key_faults_total", key=key) for key in wanted} == {key: old + 1 for key, old in before.items()}


@pytest.mark.django_db
@pytest.mark.parametrize(("path", "view", "status"), [
    ("/livez", "livez", "2xx"), ("/api/v1/certificates/", "certificates", "4xx"), ("/nowhere/<b>", "none", "4xx"),
])  # fmt: skip
def test_a_request_is_counted_by_its_view_never_by_its_path(path: str, view: str, status: str) -> None:
    before = local("quicklime_http_requests_total", view=view, status=status), local("quicklime_http_request_seconds_count", view=view)
    Client().get(path, secure=True)
    assert local("quicklime_http_requests_total", view=view, status=status) == before[0] + 1
    assert local("quicklime_http_request_seconds_count", view=view) == before[1] + 1


def test_counting_in_many_threads_loses_nothing() -> None:
    counted = measuring.requests(lambda request: HttpResponse())
    before = local("quicklime_http_requests_total", view="none", status="2xx")
    threads = [threading.Thread(target=lambda: [counted(RequestFactory().get("/")) for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert local("quicklime_http_requests_total", view="none", status="2xx") == before + 400
