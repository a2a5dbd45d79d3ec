"""/livez and /readyz: each fault turns its own light red, in numbers, and no fault makes them hang."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.test import Client
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from ca.models import Request, Shape, State, new_request_id
from eventlog import fence, projections
from eventlog.append import NewEvent, append
from eventlog.models import Cursor
from ocsp import feed, publishing
from ocsp.models import Feed, Response, Status
from quicklime_site import health

db = pytest.mark.django_db
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def beat() -> None:
    every = IntervalSchedule.objects.create(every=2, period="seconds")
    PeriodicTask.objects.create(name="resume", task="ca.resume", interval=every, last_run_at=NOW - timedelta(seconds=3))


def red(report: health.Report) -> list[str]:
    return sorted(name for name, check in report.items() if not check["ok"])


def request(state: State, age: timedelta) -> None:
    Request.objects.create(
        id=new_request_id(int((NOW - age).timestamp() * 1000), bytes(10)), state=state, token="t", owner="o", profile="server",
        csr=b"", body_hash=b"", created_at=NOW - age, updated_at=NOW,
    )  # fmt: skip


@db
@pytest.mark.usefixtures("hierarchy", "beat")
def test_a_sound_installation_is_ready() -> None:
    for name in projections.names():
        projections.catch_up(name)
    report = health.look(NOW)
    assert red(report) == []
    assert report["beat"]["seconds_ago"] == 3
    assert report["requests"] == {"ok": True, "unfinished": 0, "oldest_seconds": 0.0}
    assert all(behind == 0 for behind in report["projections"]["behind"].values())


@db
@pytest.mark.usefixtures("beat")
@pytest.mark.parametrize(("state", "seconds", "expected"), [
    (State.RECEIVED, 59, []), (State.RECEIVED, 61, ["requests"]), (State.SIGNED, 61, ["requests"]), (State.REJECTED, 61, []),
])  # fmt: skip
def test_a_request_that_nobody_finishes(state: State, seconds: int, expected: list[str]) -> None:
    request(state, timedelta(seconds=seconds))
    assert red(health.look(NOW)) == expected


@db
@pytest.mark.usefixtures("beat")
def test_a_shape_that_failed_its_lint_is_named() -> None:
    Shape.objects.create(key="k", description="server 1 issuing-1 dns P-256", passed=False, findings=["x"], at=NOW)
    report = health.look(NOW)
    assert red(report) == ["shapes"]
    assert report["shapes"]["failed"] == ["server 1 issuing-1 dns P-256"]


@db
@pytest.mark.usefixtures("hierarchy", "beat")
def test_a_stopped_projection_is_named_with_how_far_it_is_behind() -> None:
    name = projections.names()[0]
    Cursor.objects.filter(name=name).update(error="no handler", position=1)
    report = health.look(NOW)
    assert red(report) == ["projections"]
    assert report["projections"]["stopped"] == [name]
    assert report["projections"]["behind"][name] > 0


@db
@pytest.mark.usefixtures("beat")
def test_a_log_behind_its_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def behind() -> None:
        raise fence.LogBehind("set back")

    monkeypatch.setattr(fence, "check", behind)
    assert red(health.look(NOW)) == ["log"]


@db
def test_no_beat_at_all() -> None:
    assert red(health.look(NOW)) == ["beat"]


@db
@pytest.mark.usefixtures("beat")
def test_a_lost_beat() -> None:
    assert red(health.look(NOW + timedelta(seconds=90))) == ["beat"]


@db
@pytest.mark.usefixtures("beat")
def test_redis_away(settings: Any) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    assert red(health.look(NOW)) == ["redis"]


def test_the_database_away_is_told_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OperationalError("connection to db.internal as ca failed")

    monkeypatch.setattr(projections, "status", away)
    report = health.look(NOW)
    assert red(report) == ["database"]
    assert report["database"] == {"ok": False, "error": "OperationalError"}


def test_a_look_that_hangs_does_not_make_the_answer_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LATE", 0.05)
    gate, looks = threading.Event(), list[int]()

    def look() -> health.Report:
        looks.append(1)
        gate.wait(10)
        return {"database": {"ok": True}}

    probe = health.Probe(look)
    try:
        before = time.monotonic()
        assert [red(probe.latest()) for _ in range(3)] == [["answer"]] * 3
        assert time.monotonic() - before < 2
        assert len(looks) == 1
    finally:
        gate.set()


def test_a_look_that_fails_unexpectedly_is_not_health() -> None:
    def look() -> health.Report:
        raise PermissionError("checkpoint")

    assert [check["ok"] for check in health.Probe(look).latest().values()] == [False]


def test_a_fresh_report_is_given_again() -> None:
    looks: list[int] = []

    def look() -> health.Report:
        looks.append(1)
        return {"n": {"ok": True, "n": len(looks)}}

    probe = health.Probe(look)
    assert probe.latest() == probe.latest() == {"n": {"ok": True, "n": 1}}


@pytest.mark.parametrize(("ok", "status"), [(True, 200), (False, 503)])
def test_readyz_answers_with_its_status(monkeypatch: pytest.MonkeyPatch, ok: bool, status: int) -> None:
    monkeypatch.setattr(health, "_probe", health.Probe(lambda: {"redis": {"ok": ok}}))
    answer = Client().get("/readyz")
    assert answer.status_code == status
    assert answer.json() == {"ready": ok, "checks": {"redis": {"ok": ok}}}


def test_not_being_ready_is_answered_not_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(health, "_probe", health.Probe(lambda: {"redis": {"ok": False}}))
    assert Client().get("/readyz", secure=True).status_code == 503
    assert not caplog.records


def test_livez_needs_nothing() -> None:
    assert Client().get("/livez").status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_health_is_only_read(path: str) -> None:
    assert Client().post(path).status_code == 405


SERIAL = "1" * 40


def response(**more: Any) -> None:
    row = {"serial": SERIAL, "issuer": "issuing-1", "revoked": False, "this_update": NOW, "next_update": NOW + timedelta(hours=5),
           "refresh_at": NOW, "sha1": b"a", "sha256": b"b", "revision": 1}  # fmt: skip
    Response.objects.create(**row | more)


@db
@pytest.mark.usefixtures("beat")
@pytest.mark.parametrize(("hours", "expected"), [(-1, []), (5.9, []), (6.1, ["ocsp"])])
def test_answers_that_nobody_makes_anew(hours: float, expected: list[str]) -> None:
    response(refresh_at=NOW - timedelta(hours=hours))
    report = health.look(NOW)
    assert red(report) == expected
    assert report["ocsp"]["overdue_seconds"] == max(0, hours) * 3600
    assert report["ocsp"]["next_update"] == "2026-03-01T17:00:00Z"


@db
@pytest.mark.usefixtures("beat")
@pytest.mark.parametrize(("minutes", "expected"), [(4.9, []), (5.1, ["ocsp"])])
def test_answers_of_a_time_to_come(minutes: float, expected: list[str]) -> None:
    begin = NOW + timedelta(minutes=minutes)
    response(this_update=begin, next_update=begin + timedelta(hours=24), refresh_at=begin + timedelta(hours=6))
    report = health.look(NOW)
    assert red(report) == expected
    assert report["ocsp"]["ahead"] == len(expected)


@db
@pytest.mark.usefixtures("beat")
def test_files_that_fall_behind_are_counted(settings: Any, tmp_path: Path) -> None:
    response(refresh_at=NOW + timedelta(hours=1), revision=7)
    Feed.objects.create(id=1, revision=7)
    assert "files_behind" not in health.look(NOW)["ocsp"]
    settings.STATUS_DIR = tmp_path
    assert health.look(NOW)["ocsp"]["files_behind"] == 7
    publishing.publish(NOW)
    assert health.look(NOW)["ocsp"]["files_behind"] == 1, "its issuer is not known yet"


@db
@pytest.mark.usefixtures("beat")
@pytest.mark.parametrize(("seconds", "expected"), [(59, []), (61, ["ocsp"])])
def test_a_revocation_that_nobody_signs(seconds: int, expected: list[str]) -> None:
    at = NOW - timedelta(seconds=seconds)
    response(revoked=True, this_update=at, next_update=at, refresh_at=feed.AT_ONCE, sha1=b"", sha256=b"")
    report = health.look(NOW)
    assert red(report) == expected
    assert report["ocsp"]["revoked_unsigned_seconds"] == seconds


def orphaned(at: datetime) -> int:
    with transaction.atomic():
        data = {"serial": SERIAL, "issuer": "issuing-1", "request": "r", "code": "c"}
        (event,) = append([NewEvent("quicklime/issuance.orphaned/1-0-0", SERIAL, data)], at)
    return event.position


@db
@pytest.mark.usefixtures("beat")
@pytest.mark.parametrize(("seconds", "expected"), [(59, []), (61, ["ocsp"])])
def test_an_event_that_status_does_not_show(seconds: int, expected: list[str]) -> None:
    orphaned(NOW - timedelta(seconds=seconds))
    report = health.look(NOW)
    assert red(report) == expected
    assert report["ocsp"]["unread_seconds"] == seconds


@db
@pytest.mark.usefixtures("beat")
@pytest.mark.parametrize(("seconds", "expected"), [(59, []), (61, ["ocsp"])])
def test_a_certificate_without_an_answer(seconds: int, expected: list[str]) -> None:
    first_of_a_round = datetime.fromtimestamp(NOW.timestamp() // 600 * 600, UTC)
    position = orphaned(first_of_a_round - timedelta(seconds=seconds))
    projections.catch_up("ocsp")
    Status.objects.all().delete()
    Status.objects.create(serial="0" * 39 + "1", issuer="issuing-1", state="issued", profile="server", channels="", position=position)
    report = health.look(first_of_a_round)
    assert red(report) == expected
    assert (report["ocsp"]["missing"], report["ocsp"]["missing_seconds"]) == (1, seconds)


@db
@pytest.mark.usefixtures("hierarchy", "beat")
def test_answers_for_a_million_are_not_counted(django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(9):
        health._ocsp(NOW)
