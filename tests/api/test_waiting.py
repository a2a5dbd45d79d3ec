"""Prefer: wait, and the hub behind it: announced, unannounced, late, too many, without Redis."""

from __future__ import annotations

import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError, connection, connections
from django.test.utils import CaptureQueriesContext

from ca import tokens, wakeups
from ca.api import representations, waiting
from ca.api.waiting import Hub
from tests.material import csr

from .conftest import Caller, code

pytestmark = pytest.mark.django_db(transaction=True)
Pipeline = Callable[[], None]


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Run `work` in a thread as soon as somebody waits in the hub."""

    def run() -> None:
        deadline = time.monotonic() + 20
        while not waiting.hub()._waiting and time.monotonic() < deadline:
            time.sleep(0.005)
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()


def test_answers_when_the_certificate_exists(hierarchy: None, alice: Caller, run_pipeline: Pipeline) -> None:
    with meanwhile(run_pipeline):
        answer = alice.post("certificates/", {"csr": b64encode(csr("a.internal")).decode()}, Prefer="respond-async, wait=20")
    assert answer.status_code == 201
    shown = answer.json()
    assert (shown["status"], shown["certificate"]["names"]) == ("issued", ["dns:a.internal"])
    assert "revocation_secret" in shown["certificate"]
    assert answer["Location"] == f"/api/v1/certificates/{shown['certificate']['serial']}/"
    assert answer["Preference-Applied"] == "wait=20"
    assert "Retry-After" not in answer


def test_answers_202_when_the_time_is_up(hierarchy: None, alice: Caller) -> None:
    began = time.monotonic()
    answer = alice.post("certificates/", {"csr": b64encode(csr("a.internal")).decode()}, Prefer="wait=1")
    assert 1 <= time.monotonic() - began < 25
    assert (answer.status_code, answer["Preference-Applied"], answer["Retry-After"]) == (202, "wait=1", "1")
    assert waiting.hub()._waiters == {}


def test_a_longer_wait_than_the_longest_is_cut_and_said(hierarchy: None, alice: Caller, run_pipeline: Pipeline) -> None:
    with meanwhile(run_pipeline):
        answer = alice.post("certificates/", {"csr": b64encode(csr("a.internal")).decode()}, Prefer="wait=600")
    assert answer["Preference-Applied"] == "wait=30"


def test_a_rejection_ends_the_wait_with_the_problem(hierarchy: None, alice: Caller, run_pipeline: Pipeline, now: Any) -> None:
    def reject() -> None:
        tokens.revoke(alice.id, now, "test", "test")
        run_pipeline()

    with meanwhile(reject):
        answer = alice.post("certificates/", {"csr": b64encode(csr("a.internal")).decode()}, Prefer="wait=20")
    assert (answer.status_code, code(answer)) == (401, "tokenRevoked")
    assert answer["Location"].startswith("/api/v1/requests/")


def test_bulk_waits_for_all(hierarchy: None, alice: Caller, run_pipeline: Pipeline) -> None:
    asked = [{"csr": b64encode(csr(name)).decode()} for name in ("a.internal", "www.example.com", "b.internal")]
    with meanwhile(run_pipeline):
        answer = alice.post("certificates/bulk/", {"requests": asked}, Prefer="wait=20")
    assert [result["status"] for result in answer.json()["results"]] == [201, 422, 201]
    assert answer["Preference-Applied"] == "wait=20"


def test_without_a_word_from_redis_it_takes_a_second(
    hierarchy: None, alice: Caller, run_pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "announce_done", lambda requests: None)
    with meanwhile(run_pipeline):
        answer = alice.post("certificates/", {"csr": b64encode(csr("a.internal")).decode()}, Prefer="wait=20")
    assert answer.status_code == 201


def test_without_redis_it_takes_a_second(hierarchy: None, alice: Caller, run_pipeline: Pipeline, settings: Any, tmp_path: Any) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/no-such-socket"
    with meanwhile(run_pipeline):
        answer = alice.post("certificates/", {"csr": b64encode(csr("a.internal")).decode()}, Prefer="wait=20")
    assert answer.status_code == 201


def test_too_many_waiters_are_answered_at_once(hierarchy: None, alice: Caller, settings: Any) -> None:
    settings.WAITERS = 0
    answer = alice.post("certificates/", {"csr": b64encode(csr("a.internal")).decode()}, Prefer="wait=20")
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer
    assert waiting.hub()._waiters == {}


def test_done_before_anybody_waits(hierarchy: None, alice: Caller, run_pipeline: Pipeline) -> None:
    """The pipeline may be faster than the way from the commit to the hub."""
    hub = waiting.hub()
    hub.listen()
    deadline = time.monotonic() + 20
    while hub._channel is None and time.monotonic() < deadline:
        time.sleep(0.005)
    hub.wait([uuid4()], 0.01)
    request = alice.submit("a.internal").json()["id"]
    run_pipeline()
    while request not in hub._recent | hub._before and time.monotonic() < deadline:
        time.sleep(0.005)
    began = time.monotonic()
    rows = hub.wait([UUID(request)], 20)
    assert rows is not None
    assert rows.keys() == {UUID(request)}
    assert time.monotonic() - began < 0.5


def test_forged_announcements_do_nothing(hierarchy: None, alice: Caller, run_pipeline: Pipeline) -> None:
    def forge() -> None:
        client = wakeups.client()
        deadline = time.monotonic() + 20
        while not client.publish(wakeups.DONE, "") and time.monotonic() < deadline:
            time.sleep(0.01)
        (mine,) = waiting.hub()._waiters
        for message in (b"\xff\xfe", b"\n\n", b"x" * 10_000, str(uuid4()).encode(), mine.encode()):
            client.publish(wakeups.DONE, message)
        run_pipeline()

    with meanwhile(forge):
        answer = alice.post("certificates/", {"csr": b64encode(csr("a.internal")).decode()}, Prefer="wait=20")
    assert answer.json()["status"] == "issued"
    assert answer.json()["certificate"]["names"] == ["dns:a.internal"]


def test_a_fault_while_waiting_does_not_deny_what_was_accepted(
    hierarchy: None, alice: Caller, run_pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(ids: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(waiting, "load", gone)
    with meanwhile(run_pipeline):
        answer = alice.post("certificates/", {"csr": b64encode(csr("a.internal")).decode()}, Prefer="wait=2")
    assert answer.status_code == 202
    assert alice.get(answer["Location"]).json()["status"] == "issued"


def test_one_query_for_all_who_wait(
    hierarchy: None, alice: Caller, run_pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(waiting, "RECHECK", 60.0)
    asked: list[int] = []
    load = waiting.load

    def counted(ids: Any) -> Any:
        asked.append(len(ids))
        return load(ids)

    monkeypatch.setattr(waiting, "load", counted)
    hub = waiting.hub()
    hub.listen()
    while hub._channel is None:
        time.sleep(0.005)
    ids = [UUID(alice.submit(f"n{number}.internal").json()["id"]) for number in range(10)]
    found: list[Any] = []
    threads = [threading.Thread(target=lambda each=each: found.append(hub.wait([each], 30))) for each in ids]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    while hub._waiting < 10:
        time.sleep(0.005)
    run_pipeline()
    for thread in threads:
        thread.join()
    assert sorted(str(key) for rows in found for key in rows) == sorted(map(str, ids))
    assert asked == [10]


def test_a_waiting_thread_holds_no_connection(hierarchy: None, alice: Caller) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no pool")
    hub, mine = Hub(), []

    def wait() -> None:
        connection.ensure_connection()
        mine.append(connections["default"])
        hub.wait([uuid4()], 0.5)

    thread = threading.Thread(target=wait)
    thread.start()
    while not hub._waiting:
        time.sleep(0.001)
    time.sleep(0.1)
    assert hub._waiting, "still waiting"
    assert mine[0].connection is None
    thread.join()


def test_a_child_process_starts_its_own_hub() -> None:
    before = waiting.hub()
    waiting._forget()
    assert waiting.hub() is not before


@pytest.mark.django_db
def test_what_is_issued_between_the_two_queries_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose row says issued is done only with its certificate: it was once answered as a rejection without a reason."""
    request = UUID(int=7 << 76 | 2 << 62)
    assert not representations.is_done({"id": request, "state": "issued", "owner": "alice", "error": None})
    with CaptureQueriesContext(connection) as queries:
        assert representations.load([request]) == {}
    assert ["ca_request" in query["sql"] for query in queries.captured_queries] == [True, False]
