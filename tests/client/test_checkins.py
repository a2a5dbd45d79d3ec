"""Check-ins: what the agent tells, when, what it makes of the answer, and that none disturbs a renewal."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from quicklime_client import schedule
from quicklime_client.health import Level

from .conftest import LABEL, Node
from .fake import Drop, Say
from .test_agent import generation, serial
from .test_status import judged, serving_pair

START = datetime(2030, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LATE = START + 66 * DAY


@pytest.fixture
def aged(node: Node) -> Node:
    """A node whose certificate is of START and due at LATE."""
    node.fake.now = START
    node.request()
    return node


def reported(node: Node) -> str:
    found = node.record().reported
    assert found
    return found.error or "heard"


def only_check_ins(method: str, path: str) -> bool:
    return path.endswith("/checkin/")


def test_what_is_served_is_told_at_each_look(aged: Node) -> None:
    with serving_pair(aged.current()) as address:
        aged.request("--serves", address)
        old = serial(aged)
        for minutes in (0, 5, 10):
            aged.pass_at(START + DAY + minutes * MINUTE)
        assert [word[:2] for word in aged.fake.words] == [(old, old)] * 3
        aged.pass_at(LATE)
        assert len(aged.fake.words) == 3, "not before somebody looked"
        aged.pass_at(LATE + MINUTE)
        assert aged.fake.words[3] == (serial(aged), old, "2030-03-08T00:01:00Z"), "issued but not deployed"
    aged.pass_at(LATE + 6 * MINUTE)
    assert aged.fake.words[4][:2] == (serial(aged), "none")


def test_where_nobody_looks_it_is_told_once_an_hour_or_so(aged: Node) -> None:
    for minutes in range(0, 10 * 60, 5):
        aged.pass_at(START + DAY + minutes * MINUTE)
    assert {word[:2] for word in aged.fake.words} == {(serial(aged), None)}
    assert 8 <= len(aged.fake.words) <= 14


def test_a_new_certificate_is_told_of_at_once(aged: Node) -> None:
    aged.pass_at(LATE - MINUTE)
    aged.pass_at(LATE)
    assert [word[0] for word in aged.fake.words][-1] == serial(aged)


def test_a_clock_that_was_set_back_silences_nobody(aged: Node) -> None:
    aged.pass_at(START + 20 * DAY)
    aged.pass_at(START + 10 * DAY)
    assert len(aged.fake.words) == 2


# --- what goes wrong


@pytest.mark.parametrize("status", [403, 404, 409, 422, 429, 500, 503])
def test_a_refused_one_is_noted_and_disturbs_nothing(aged: Node, status: int) -> None:
    def refuse(method: str, path: str) -> None:
        if only_check_ins(method, path):
            raise Say(status, "application/problem+json", b'{"detail": "your clock is wrong", "code": "x"}')

    aged.fake.before = refuse
    for minutes in range(0, 300, 5):
        aged.pass_at(START + 50 * DAY + minutes * MINUTE)
    assert "your clock is wrong" in reported(aged)
    assert len(aged.said) == 1, "once, not at every look"
    assert judged(aged, START + 50 * DAY)[0] == Level.OK
    aged.pass_at(LATE)
    assert (generation(aged), aged.record().trouble) == (2, None)
    aged.fake.before = lambda method, path: None
    aged.pass_at(LATE + HOUR)
    assert reported(aged) == "heard"


def test_an_absent_server_is_asked_once_a_pass(aged: Node) -> None:
    aged.run("request", "--service", "s", "--name", "b.internal")
    asked = []

    def drop(method: str, path: str) -> None:
        asked.append(path)
        raise Drop

    aged.fake.before = drop
    aged.pass_at(START + DAY)
    assert len(asked) == 1
    aged.fake.before = lambda method, path: None
    aged.pass_at(START + DAY + HOUR)
    assert {word[0] for word in aged.fake.words} == set(aged.fake.certificates)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"status": 1}', b'{"status": "active", "replace_by": "soon"}', b'{"status": "active", "revoked_at": 7}']
)
def test_an_answer_that_is_none_changes_nothing(aged: Node, body: bytes) -> None:
    def answer(method: str, path: str) -> None:
        if only_check_ins(method, path):
            raise Say(200, "application/json", body)

    before = aged.record()
    aged.fake.before = answer
    aged.pass_at(START + DAY)
    assert "not understood" in reported(aged)
    assert (aged.record().current, aged.record().revoked_at) == (before.current, None)


def test_none_is_sent_while_a_request_is_pending(aged: Node) -> None:
    """The server would tell of a successor, or of a revocation, that is about to arrive here."""

    def lose(method: str, path: str) -> None:
        if path.endswith("/renew/"):
            raise Drop

    aged.fake.after = lose
    aged.pass_at(LATE)
    assert aged.record().pending
    assert aged.fake.words == []


def test_a_damaged_record_or_key_stops_no_other(aged: Node) -> None:
    aged.run("request", "--service", "s", "--name", "a.internal")
    path = aged.state / "certificates" / "a.internal.json"
    path.write_text(path.read_text().replace("PRIVATE KEY", "PUBLIC LIE"))
    aged.run("request", "--service", "s", "--name", "b.internal")
    (aged.state / "certificates" / "b.internal.json").write_text("{")
    aged.pass_at(START + DAY)
    assert [word[0] for word in aged.fake.words] == [serial(aged)]


# --- what it learns


def test_a_renewal_that_is_wanted_early_is_spread_over_the_time_there_is(aged: Node) -> None:
    aged.fake.replace_by = "2030-01-13T00:00:00Z"
    now = START + 10 * DAY
    aged.pass_at(now)
    current = aged.record().current
    assert current
    assert now <= current.renew_at <= now + 36 * HOUR
    assert "to be replaced, so it will be renewed at" in aged.said[0]
    for minutes in range(5, 60, 5):
        aged.pass_at(min(now + minutes * MINUTE, current.renew_at - MINUTE))
    chosen = aged.record().current
    assert chosen
    assert chosen.renew_at == current.renew_at, "chosen once"
    aged.fake.replace_by = None
    aged.pass_at(current.renew_at)
    assert generation(aged) == 2


def test_what_is_due_before_stays_so() -> None:
    deadline = START + 4 * DAY
    assert schedule.early(START + DAY, deadline, START) == START + DAY
    assert schedule.early(START - DAY, deadline, START) == START - DAY
    for chance, expected in ((0.0, START), (1.0, START + 3 * DAY)):
        assert schedule.early(LATE, deadline, START, lambda least, most, chance=chance: least + (most - least) * chance) == expected
    assert schedule.early(LATE, START - DAY, START) == START, "a deadline that has passed means now"


def test_a_fleet_that_is_told_at_once_comes_evenly() -> None:
    moments = sorted(schedule.early(LATE, START + 4 * DAY, START) for _ in range(2_000))
    assert moments[0] >= START
    assert moments[-1] <= START + 3 * DAY
    for part in range(6):
        share = sum(START + part * DAY / 2 <= moment < START + (part + 1) * DAY / 2 for moment in moments)
        assert 250 < share < 420, "a sixth each: 333, with six standard deviations to either side"


def test_a_revocation_is_learned(aged: Node) -> None:
    aged.fake.certificates[serial(aged)].reason = "superseded"
    aged.pass_at(START + DAY)
    assert aged.record().revoked_at == datetime(2030, 3, 1, tzinfo=UTC)
    assert "revoked at 2030-03-01" in aged.said[0]
    assert judged(aged, START + DAY)[0] == Level.CRITICAL
    aged.request()
    assert generation(aged) == 2


def test_a_state_that_was_set_back_is_noticed(aged: Node) -> None:
    aged.fake.certificates[serial(aged)].replaced_by = "ab"
    aged.pass_at(START + DAY)
    level, remarks = judged(aged, START + DAY)
    assert level == Level.WARNING
    assert "renewed elsewhere" in remarks[0]


def test_status_shows_the_last_one(aged: Node) -> None:
    aged.pass_at(START + DAY)
    (shown,) = json.loads(aged.run("status", "--json"))["certificates"]
    assert shown["label"] == LABEL
    assert shown["check_in"] == {"at": "2030-01-02T00:00:00Z", "status": "active", "replaced_by": None, "replace_by": None, "error": None}
