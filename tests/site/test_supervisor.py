"""The supervisor: children restart, stop in bounded time, and never outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quicklime_site import supervisor
from quicklime_site.supervisor import Child, Supervisor


def wait_for(true: Callable[[], bool], what: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """No such process, or only its zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] in "ZX"
    except FileNotFoundError:
        return True


def sh(script: str, name: str = "child", grace: float = 5) -> Child:
    return Child(name, ["/bin/sh", "-c", script], {"PATH": os.environ["PATH"]}, grace)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def boss(said: list[str]) -> Iterator[Supervisor]:
    boss = Supervisor(said.append)
    yield boss
    boss.stop()


def run_until(boss: Supervisor, true: Callable[[], bool]) -> None:
    """The supervisor's loop, ended by its own tick once `true`; a bound against hanging."""
    deadline = time.monotonic() + 10

    def tick() -> None:
        if true() or time.monotonic() > deadline:
            boss.request_stop()

    boss.run(tick)
    assert true()


def test_a_killed_child_is_started_again_and_said(boss: Supervisor, said: list[str], tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    pid = boss.start(sh(f"echo $$ >> {starts}; exec sleep 60", "worker"))
    wait_for(starts.exists, "first start")
    os.kill(pid, signal.SIGKILL)
    run_until(boss, lambda: len(starts.read_text().split()) == 2)
    assert said == ["worker ended (killed by SIGKILL); starting it again in 0.5 s"]
    assert boss.alive("worker")


def test_the_delay_doubles_while_a_child_keeps_failing(boss: Supervisor, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_DELAY", 0.01)
    monkeypatch.setattr(supervisor, "_TICK", 0.01)
    boss.start(sh("exit 3"))
    boss._children[0].delay = 0.01
    run_until(boss, lambda: len(said) >= 4)
    assert [line.rsplit(" ", 2)[1] for line in said[:4]] == ["0.01", "0.02", "0.04", "0.08"]
    assert "exit status 3" in said[0]


def test_stop_is_bounded_for_a_child_that_ignores_term_and_takes_grandchildren(boss: Supervisor, tmp_path: Path) -> None:
    note = tmp_path / "pids"
    pid = boss.start(sh(f"trap '' TERM; sleep 60 & echo $! > {note}; while :; do sleep 60; done", grace=0.3))
    wait_for(lambda: note.exists() and note.read_text().strip() != "", "grandchild")
    before = time.monotonic()
    boss.stop()
    assert time.monotonic() - before < 3
    assert gone(pid)
    wait_for(lambda: gone(int(note.read_text())), "grandchild gone")


def test_children_stop_last_started_first(boss: Supervisor, tmp_path: Path) -> None:
    order = tmp_path / "order"
    for name in ("redis", "web"):
        ready = tmp_path / name
        boss.start(sh(f"trap 'echo {name} >> {order}; exit' TERM; touch {ready}; while :; do sleep 0.05; done", name))
        wait_for(ready.exists, name)
    boss.stop()
    assert order.read_text().split() == ["web", "redis"]


def test_children_see_only_the_environment_they_are_given(boss: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKLIME_KEY_PASSPHRASE", "hunter2")
    out = tmp_path / "env"
    boss.start(sh(f"env > {out}.part; mv {out}.part {out}; exec sleep 60"))
    wait_for(out.exists, "environment")
    assert "hunter2" not in out.read_text()


def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    program = (
        "from quicklime_site.supervisor import *\n"
        "boss = Supervisor(print)\n"
        f"boss.start(Child('c', ['/bin/sh', '-c', 'echo $$ > {note}; exec sleep 60'], {{'PATH': '/bin:/usr/bin'}}))\n"
        "boss.run()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    try:
        wait_for(lambda: note.exists() and note.read_text().strip() != "", "child")
        child = int(note.read_text())
        assert not gone(child)
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: gone(child), "child gone with its parent")


def test_a_stop_request_from_elsewhere_ends_the_loop(boss: Supervisor) -> None:
    threading.Timer(0.1, boss.request_stop).start()
    boss.run()
