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

from ca import wakeups
from ca.models import Approval, Request, Shape, State, new_request_id
from dashboard.models import Reminder
from eventlog import backups, fence, head, projections
from eventlog.append import NewEvent, append
from eventlog.models import Cursor, Event
from ocsp import feed, heartbeats, publishing
from ocsp.heartbeats import Heartbeat
from ocsp.models import Feed, Response, Status
from quicklime_site import health, measuring

db = pytest.mark.django_db
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _empty_redis() -> None:
    wakeups.client().flushall()


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
def test_what_an_approver_took_is_no_delay() -> None:
    request(State.RECEIVED, timedelta(days=2))
    Approval.objects.create(request=Request.objects.get().id, asked=b"", granted=True, decided_at=NOW, position=1)
    report = health.look(NOW + timedelta(seconds=20))
    assert red(report) == []
    assert report["requests"]["oldest_seconds"] == 20


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
@pytest.mark.usefixtures("beat")
@pytest.mark.parametrize(("seconds", "expected"), [(119, []), (121, ["log"])])
def test_an_event_that_no_checkpoint_covers(seconds: int, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_ocsp", lambda now: {"ok": True})
    orphaned(NOW - timedelta(seconds=seconds))
    report = health.look(NOW)
    assert red(report) == expected
    assert report["log"] | {"ok": True} == {"ok": True, "events": 1, "uncovered": 1, "uncovered_seconds": seconds}


def done(task: str, ago: float) -> None:
    at = NOW.timestamp() - ago
    wakeups.client().hset(measuring.HASH, f'quicklime_task_last_success_timestamp_seconds {{"task": "{task}"}}', str(at))


@db
@pytest.mark.usefixtures("beat")
@pytest.mark.parametrize(("task", "ago", "expected"), [
    ("ocsp.follow", 59, []), ("ocsp.follow", 61, ["workers"]), ("ocsp.follow", -5, []), ("dashboard.remind", 3600, []),
])  # fmt: skip
def test_a_worker_that_does_nothing(task: str, ago: float, expected: list[str]) -> None:
    done(task, ago)
    report = health.look(NOW)
    assert red(report) == expected
    assert report["workers"]["seconds_ago"] == {task: max(0, ago)}


@db
@pytest.mark.usefixtures("beat")
@pytest.mark.parametrize(("messages", "expected"), [(59, []), (60, ["workers"])])
def test_messages_that_nobody_takes_after_redis_forgot_the_rest(messages: int, expected: list[str]) -> None:
    wakeups.client().rpush("status", *["{}"] * messages)
    wakeups.client().rpush("upkeep", *["{}"] * 600)  # later work may wait
    report = health.look(NOW)
    assert red(report) == expected
    assert (report["workers"]["waiting"]["status"], report["workers"]["waiting"]["upkeep"]) == (messages, 600)


@db
@pytest.mark.usefixtures("beat")
def test_responders_are_told_and_never_red(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_ocsp", lambda now: {"ok": True})
    orphaned(NOW)
    for name, ago, position in (("a:80", 5.0, 1), ("b:80", 400.0, 0), ("ahead:80", -3.0, 9), ("gone:80", 90_000.0, 1)):
        heartbeats.say(wakeups.client(), Heartbeat(name, NOW.timestamp() - ago, position))
    for name, text in (("c:80", "{}"), ("d:80", "["), ("e:80", '["x", 1]'), ("f:80", "[1e999, 1e999]"), ("g:80", "[NaN, 1]")):
        wakeups.client().hset(heartbeats.HASH, name, text)
    report = health.look(NOW)
    assert red(report) == []
    assert report["responders"] == {
        "ok": True, "seconds_ago": {"a:80": 5, "ahead:80": 0, "b:80": 400}, "behind": {"a:80": 0, "ahead:80": 0, "b:80": 1}
    }  # fmt: skip


@db
@pytest.mark.usefixtures("beat")
def test_reminders_are_counted_and_never_red() -> None:
    for number, (state, due, tries) in enumerate(
        [("due", -90, 0), ("due", -30, 1), ("due", 900, 3), ("sent", -900, 1), ("handed", -900, 1)]
    ):
        Reminder.objects.create(
            serial=f"{number:040}", threshold="expired", recipient="a@example.org", recipient_hash="h", state=state, tries=tries,
            due_at=NOW + timedelta(seconds=due),
        )  # fmt: skip
    report = health.look(NOW)
    assert report["reminders"] == {"ok": True, "waiting": 2, "waiting_seconds": 90, "refused": 2}


@db
@pytest.mark.usefixtures("hierarchy")
@pytest.mark.parametrize(("noted", "hours", "late"), [(None, 25, False), (None, 27, True), (0, 25, False), (0, 27, True), (2, 27, False)])
def test_backups_are_late_and_never_red(noted: int | None, hours: int, late: bool, settings: Any) -> None:
    """`noted`: hours after the log's first event, if at all."""
    settings.BACKUP_AGE = timedelta(hours=26)
    began = Event.objects.get(position=1).time
    if noted is not None:
        backups.note("pg_dump", head.size() - 2, began + timedelta(hours=noted))
    found = health.look(began + timedelta(hours=hours))["backups"]
    ago, since = (None, head.size()) if noted is None else (3600.0 * (hours - noted), 2)
    assert found == {"ok": True, "late": late, "by": "pg_dump" if noted is not None else "", "seconds_ago": ago, "events_since": since}


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

    probe = health.Probe(look, health._unanswered)
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

    assert [check["ok"] for check in health.Probe(look, health._unanswered).latest().values()] == [False]


def test_a_fresh_report_is_given_again() -> None:
    looks: list[int] = []

    def look() -> health.Report:
        looks.append(1)
        return {"n": {"ok": True, "n": len(looks)}}

    probe = health.Probe(look, health._unanswered)
    assert probe.latest() == probe.latest() == {"n": {"ok": True, "n": 1}}


@pytest.mark.parametrize(("ok", "status"), [(True, 200), (False, 503)])
def test_readyz_answers_with_its_status(monkeypatch: pytest.MonkeyPatch, ok: bool, status: int) -> None:
    monkeypatch.setattr(health, "_probe", health.Probe(lambda: {"redis": {"ok": ok}}, health._unanswered))
    answer = Client().get("/readyz")
    assert answer.status_code == status
    assert answer.json() == {"ready": ok, "checks": {"redis": {"ok": ok}}}


def test_not_being_ready_is_answered_not_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(health, "_probe", health.Probe(lambda: {"redis": {"ok": False}}, health._unanswered))
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
