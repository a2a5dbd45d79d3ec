"""The agent: renews in time, outlives every fault, and never makes things worse. The time is an argument: nothing sleeps."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from quicklime_client import api, hooks, schedule
from quicklime_client.agent_command import _connect
from quicklime_client.failures import Failure

from .conftest import LABEL, Node, check_pair
from .fake import TOKEN, Authority, Drop, Say

START = datetime(2030, 1, 1, tzinfo=UTC)
DAY, LATE = timedelta(days=1), START + timedelta(days=66)


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """What the reload command has said, a line each time."""
    return tmp_path / "told"


@pytest.fixture
def aged(node: Node, told: Path) -> Node:
    """A node whose certificate is of START and due at LATE."""
    node.fake.now = START
    node.request("--reload", f'echo "$QUICKLIME_LABEL $QUICKLIME_SERIAL" >> {told}')
    return node


def serial(node: Node) -> str:
    current = node.record().current
    assert current
    assert check_pair(node.current(), node.state / "root.pem") == int(current.serial, 16)
    return current.serial


def generation(node: Node) -> int:
    current = node.record().current
    assert current
    return current.generation


def trouble(node: Node) -> str:
    found = node.record().trouble
    return found.message if found else ""


def drop(method: str, path: str) -> None:
    raise Drop


def say(status: int, **headers: str) -> Callable[[str, str], None]:
    def answer(method: str, path: str) -> None:
        raise Say(status, "application/problem+json", b'{"detail": "later", "code": "x"}', **headers)

    return answer


def test_nothing_is_done_before_its_time(aged: Node, told: Path) -> None:
    seen = len(aged.fake.seen)
    wanted = aged.pass_at(START + 50 * DAY)
    assert wanted == START + 50 * DAY + schedule.LOOK
    assert [path.rsplit("/", 2)[1] for _, path, _ in aged.fake.seen[seen:]] == ["checkin"]
    assert not told.exists()


def test_a_due_certificate_is_renewed_with_a_new_key_and_the_service_told(aged: Node, told: Path) -> None:
    before, key = serial(aged), (aged.current() / "key.pem").read_text()
    aged.pass_at(LATE)
    assert generation(aged) == 2
    assert (aged.current() / "key.pem").read_text() != key
    assert told.read_text() == f"{LABEL} {serial(aged)}\n"
    assert aged.fake.certificates[before].replaced_by == serial(aged)
    assert aged.said == [f"{LABEL}: generation 2, serial {serial(aged)}, until {LATE + 90 * DAY - timedelta(seconds=1)}"]


def test_the_next_renewal_is_chosen_once(aged: Node) -> None:
    aged.pass_at(LATE)
    current = aged.record().current
    assert current
    assert LATE + 55 * DAY < current.renew_at < LATE + 65 * DAY
    aged.pass_at(LATE + DAY)
    again = aged.record().current
    assert again
    assert again.renew_at == current.renew_at


def test_ten_generations_and_only_two_on_the_disk(aged: Node) -> None:
    for number in range(1, 11):
        aged.pass_at(START + number * 66 * DAY)
        assert generation(aged) == number + 1
    assert len(list((aged.current().parent / "versions").iterdir())) == 2
    lineage, at = 0, next(iter(aged.fake.certificates))
    while (after := aged.fake.certificates[at].replaced_by) is not None:
        lineage, at = lineage + 1, after
    assert (lineage, at) == (10, serial(aged))


def test_an_absent_server_is_survived_and_asked_less_and_less(aged: Node) -> None:
    aged.fake.before = drop
    now, times = LATE, []
    for _ in range(12):
        aged.pass_at(now)
        found = aged.record().trouble
        assert found
        times.append((found.retry_at - now).total_seconds())
        now = found.retry_at
    assert all(15 * 2**n <= wait <= 30 * 2**n for n, wait in enumerate(times[:6]))
    assert all(1_800 <= wait <= 3_600 for wait in times[8:])
    assert serial(aged)
    assert trouble(aged).endswith("check the address, the network and HTTPS_PROXY")
    aged.fake.before = lambda method, path: None
    aged.pass_at(now)
    assert (generation(aged), aged.record().trouble, len(aged.fake.certificates)) == (2, None, 2)


def test_between_attempts_it_asks_nothing(aged: Node) -> None:
    aged.fake.before = drop
    aged.pass_at(LATE)
    seen, message = len(aged.fake.seen), trouble(aged)
    aged.fake.before = lambda method, path: None
    aged.pass_at(LATE + timedelta(seconds=1))
    assert (len(aged.fake.seen), trouble(aged)) == (seen, message)
    assert generation(aged) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(aged: Node, status: int) -> None:
    aged.fake.before = say(status, Retry_After="7200")
    aged.pass_at(LATE)
    found = aged.record().trouble
    assert found
    assert timedelta(hours=2) <= found.retry_at - LATE <= timedelta(hours=2.5)


def test_retry_after_as_a_date_is_honoured(aged: Node) -> None:
    date = (datetime.now(UTC) + timedelta(hours=2)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    aged.fake.before = say(503, Retry_After=date)
    aged.pass_at(LATE)
    found = aged.record().trouble
    assert found
    assert timedelta(hours=1.9) <= found.retry_at - LATE <= timedelta(hours=2.5)


@pytest.mark.parametrize("text", ["", "soon", "-5", "9" * 400, "Wed, 99 Foo 2030"])
def test_a_retry_after_that_is_none_harms_nothing(aged: Node, text: str) -> None:
    aged.fake.before = say(503, Retry_After=text)
    aged.pass_at(LATE)
    found = aged.record().trouble
    assert found
    assert found.retry_at - LATE <= 8 * DAY


def test_a_lost_answer_is_recovered_with_the_same_key(aged: Node) -> None:
    """Otherwise the renewal would be spent, and the node could never renew again."""
    aged.fake.after = drop
    aged.pass_at(LATE)
    pending = aged.record().pending
    assert pending
    assert len(aged.fake.certificates) == 2
    aged.fake.after = lambda method, path: None
    aged.pass_at(LATE + timedelta(hours=1))
    assert (generation(aged), len(aged.fake.certificates)) == (2, 2)
    current = aged.record().current
    assert current
    assert current.key == pending.key


@pytest.mark.parametrize("refusal", [(403, "forbidden"), (404, "notFound"), (409, "alreadyRenewed"), (422, "nameForbidden")])
def test_a_refusal_keeps_what_may_have_been_granted(aged: Node, refusal: tuple[int, str]) -> None:
    aged.fake.after = drop
    aged.pass_at(LATE)
    pending = aged.record().pending
    aged.fake.after = lambda method, path: None
    aged.fake.before = say(refusal[0])
    aged.pass_at(LATE + timedelta(hours=1))
    assert aged.record().pending == pending
    aged.fake.before = lambda method, path: None
    aged.pass_at(LATE + timedelta(hours=2))
    assert (generation(aged), len(aged.fake.certificates)) == (2, 2)


def test_a_stored_rejection_is_followed_by_a_new_request(aged: Node) -> None:
    aged.fake.rejection = {"code": "caaForbidden", "detail": "not this week"}
    aged.pass_at(LATE)
    assert "not this week (caaForbidden)" in trouble(aged)
    assert aged.record().pending is None
    aged.fake.rejection = None
    aged.fake.certificates[serial(aged)].replaced_by = None
    aged.pass_at(LATE + timedelta(hours=1))
    assert generation(aged) == 2


def test_what_awaits_approval_is_taken_when_it_is_there(aged: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quicklime_client.agent.WAIT", 0)
    aged.fake.undecided = 3
    now = LATE
    for _ in range(4):
        aged.pass_at(now)
        now += timedelta(hours=1)
    assert (generation(aged), len(aged.fake.requests)) == (2, 2)


@pytest.mark.parametrize("token", ["stale", None])
def test_a_proof_needs_no_token(aged: Node, token: str | None) -> None:
    """A token that has expired must not be the end of every renewal; the secret is then not had, and the key revokes."""
    aged.fake.now, aged.fake.undecided = LATE, 1
    (aged.state / "token").unlink()
    if token:
        (aged.state / "token").write_text(token)
    aged.run("renew", LABEL)
    current = aged.record().current
    assert current
    assert (current.generation, current.secret) == (2, None)
    aged.run("revoke", LABEL, "--yes", "--reason", "keyCompromise")
    assert aged.fake.certificates[current.serial].reason == "keyCompromise"


def test_after_expiry_it_still_tries(aged: Node) -> None:
    aged.pass_at(START + 200 * DAY)
    assert generation(aged) == 2


def test_a_clock_set_back_does_not_stop_attempts(aged: Node) -> None:
    aged.fake.before = drop
    aged.pass_at(LATE + 20 * DAY)
    aged.fake.before = lambda method, path: None
    aged.pass_at(LATE)
    assert generation(aged) == 2


def test_a_revoked_one_is_left_alone(aged: Node) -> None:
    aged.run("revoke", LABEL, "--yes")
    aged.pass_at(LATE)
    assert generation(aged) == 1


def test_a_first_request_is_finished_by_the_agent(node: Node) -> None:
    node.fake.now, node.fake.before = START, lambda method, path: None
    node.fake.undecided = 1
    node.request("--wait", "0", code=1)
    node.pass_at(START)
    assert generation(node) == 1
    assert serial(node)


# --- the reload command


def test_a_reload_that_fails_is_tried_again_and_the_pair_stays(aged: Node, tmp_path: Path, told: Path) -> None:
    aged.request("--reload", f"test -e {tmp_path}/ready || {{ echo no nginx; exit 3; }}; echo ok >> {told}", code=1)
    aged.pass_at(LATE)
    assert generation(aged) == 2
    assert "exit status 3: no nginx" in trouble(aged)
    assert aged.record().reload_due
    assert serial(aged)
    (tmp_path / "ready").touch()
    aged.pass_at(LATE + timedelta(hours=1))
    assert (told.read_text(), aged.record().reload_due, aged.record().trouble) == ("ok\n", False, None)
    assert len(aged.fake.certificates) == 2


def test_a_reload_that_hangs_is_ended(aged: Node, tmp_path: Path) -> None:
    record = aged.record()
    hanging = replace(record, place=replace(record.place, reload=f"sleep 60 & echo $! > {tmp_path}/pid; wait"))
    with pytest.raises(Failure, match="still running"):
        hooks.run(hanging, limit=0.5)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_the_reload_command_is_told_no_token(aged: Node, told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKLIME_TOKEN", TOKEN)
    aged.request("--reload", f"env > {told}")
    aged.pass_at(LATE)
    assert f"QUICKLIME_LABEL={LABEL}" in told.read_text()
    assert TOKEN not in told.read_text()


# --- other things that break


def test_files_that_were_removed_come_back(aged: Node) -> None:
    current = aged.current()
    (current / "key.pem").unlink()
    aged.pass_at(START + DAY)
    assert serial(aged)
    current.unlink()
    aged.pass_at(START + DAY)
    assert serial(aged)
    assert len(aged.fake.certificates) == 1


def test_one_damaged_record_stops_no_other(aged: Node) -> None:
    aged.run("request", "--service", "s", "--name", "b.internal")
    (aged.state / "certificates" / f"{LABEL}.json").write_text("{")
    aged.pass_at(LATE)
    assert "is damaged" in aged.said[1]
    current = aged.record("b.internal").current
    assert current
    assert current.generation == 2
    assert (aged.state / "certificates" / f"{LABEL}.json").read_text() == "{"


def test_a_key_that_is_damaged_in_the_record_is_said(aged: Node) -> None:
    path = aged.state / "certificates" / f"{LABEL}.json"
    path.write_text(path.read_text().replace("PRIVATE KEY", "PUBLIC LIE"))
    aged.pass_at(LATE)
    assert "no proof of renewal can be made" in trouble(aged)


def test_another_quicklime_at_work_is_waited_for(aged: Node) -> None:
    with aged.store.locked(LABEL):
        aged.pass_at(LATE)
        assert "another quicklime" in aged.said[0]
        assert "another quicklime" in aged.run("renew", LABEL, code=1)
    assert generation(aged) == 1


def test_two_agents_do_not_run_on_one_state(aged: Node) -> None:
    with aged.store.agent():
        assert "another `quicklime agent` runs" in aged.run("agent", "--once", code=1)


def test_a_new_root_is_not_taken_over_silently(aged: Node) -> None:
    before = serial(aged)
    aged.fake.authority = Authority("another")
    aged.pass_at(LATE)
    assert trouble(aged)
    assert serial(aged) == before


def test_a_full_disk_keeps_the_old_pair(aged: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    before = serial(aged)

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        aged.pass_at(LATE)
    assert "No space left on device" in aged.said[-1]
    assert serial(aged) == before
    aged.pass_at(LATE + timedelta(hours=2))
    assert generation(aged) == 2


# --- the process


@contextmanager
def running(node: Node, *more: str) -> Iterator[subprocess.Popen[str]]:
    environ = {**os.environ, "QUICKLIME_CLIENT_STATE": str(node.state), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "quicklime_client.cli", "agent", *more]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def test_as_a_process_it_renews_on_sighup_and_ends_on_sigterm(node: Node) -> None:
    node.request()
    with running(node) as process:
        assert next_line(process) == f"quicklime: looking after {node.state}\n"
        node.fake.now = datetime.now(UTC) - 80 * DAY
        node.request("--label", "old.internal", "--out", str(node.directory / "old"))
        node.fake.now = datetime.now(UTC)
        process.send_signal(signal.SIGHUP)
        assert "old.internal: generation 2" in next_line(process)
        process.send_signal(signal.SIGTERM)
        assert next_line(process) == "quicklime: stopped\n"
        assert process.wait(10) == 0


def test_once_does_what_is_due_and_ends(node: Node) -> None:
    node.fake.now = datetime.now(UTC) - 80 * DAY
    node.request()
    node.fake.now = datetime.now(UTC)
    assert "generation 2" in node.run("agent", "--once")
    assert node.run("agent", "--once") == ""


def test_the_units_are_accepted_by_systemd(node: Node, tmp_path: Path) -> None:
    said = node.run("agent", "--systemd", "--token-file", str(tmp_path / "to ken"))
    assert f"--state {node.state} --token-file '{tmp_path}/to ken' --once" in said
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    service, timer = said.split("# /etc/systemd/system/quicklime-agent.timer\n")
    (tmp_path / "quicklime-agent.service").write_text(service)
    (tmp_path / "quicklime-agent.timer").write_text(timer)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "quicklime-agent.service", tmp_path / "quicklime-agent.timer"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "quicklime-agent" in line and "not executable" not in line]
    assert ours == []


def test_the_token_is_read_anew_for_each_connection(aged: Node) -> None:
    connect = _connect(aged.store, None)
    (aged.state / "token").write_text("first")
    with connect(aged.store.trust()) as server:
        assert isinstance(server, api.Server)
    (aged.state / "token").write_text("not a token")
    with pytest.raises(Failure, match="not one line"), connect(aged.store.trust()):
        pass
