"""Keeps a handful of child processes running, and ends all of them together.

Owns the children's life: start, restart with back-off, orderly stop in a bounded time. Must never know what they do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TETHER = str(Path(__file__).with_name("tether.py"))
_FIRST_DELAY, _LONGEST_DELAY, _STEADY = 0.5, 30.0, 60.0
_TICK = 0.2


@dataclass(frozen=True)
class Child:
    """A process to keep running: `environ` is all of its environment, `grace` the seconds it gets after SIGTERM."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str]
    grace: float = 10.0


@dataclass
class _Running:
    child: Child
    process: subprocess.Popen[bytes]
    started: float
    delay: float = _FIRST_DELAY
    due: float | None = None  # when to start it again; None: it runs

    def ended(self) -> str | None:
        """How the process ended, in words, the first time that is seen."""
        code = self.process.poll()
        if code is None or self.due is not None:
            return None
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


@dataclass
class Supervisor:
    """Starts children in order, restarts those that end, stops them in reverse order. `say` prints one line.

    Call everything from one thread that lives as long as the children: the kernel ties a child to the thread that
    started it.
    """

    say: Callable[[str], None]
    _children: list[_Running] = field(default_factory=list)
    _stop: bool = False

    def start(self, child: Child) -> int:
        """Start `child`; its process id."""
        process = _spawn(child)
        self._children.append(_Running(child, process, time.monotonic()))
        return process.pid

    def alive(self, name: str) -> bool:
        """Whether the child of that name runs now."""
        return any(each.child.name == name and each.process.poll() is None for each in self._children)

    def request_stop(self) -> None:
        """Make `run` return soon. Safe in a signal handler: it only sets a flag."""
        self._stop = True

    def run(self, tick: Callable[[], None] = lambda: None) -> None:
        """Keep the children running until `request_stop`; `tick` is called several times a second and must be quick."""
        while not self._stop:
            self.look()
            tick()
            time.sleep(_TICK)

    def look(self) -> None:
        """Start again what ended, once its delay is over. `run` does this; before it, whoever waits for a child does."""
        for each in self._children:
            self._tend(each)

    def stop(self) -> None:
        """End the children, last started first; one that outstays its grace is killed with all that it started."""
        for each in reversed(self._children):
            _end(each)
        self._children.clear()

    def _tend(self, each: _Running) -> None:
        now = time.monotonic()
        how = each.ended()
        if how:
            each.delay = _FIRST_DELAY if now - each.started > _STEADY else each.delay
            each.due = now + each.delay
            _kill_group(each.process)  # what the dead one started must not live on beside its successor
            self.say(f"{each.child.name} ended ({how}); starting it again in {each.delay:g} s")
        elif each.due is not None and now >= each.due:
            each.process, each.started, each.due = _spawn(each.child), now, None
            each.delay = min(2 * each.delay, _LONGEST_DELAY)


def _spawn(child: Child) -> subprocess.Popen[bytes]:
    """A session of its own, so that Ctrl-C in the terminal reaches only the supervisor, which knows the order."""
    command = [sys.executable, "-I", "-S", _TETHER, str(os.getpid()), *child.command]
    return subprocess.Popen(command, env=dict(child.environ), stdin=subprocess.DEVNULL, start_new_session=True)


def _end(each: _Running) -> None:
    each.process.terminate()
    if each.process.returncode is not None:
        return  # its number may already be somebody else's
    each.process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        each.process.wait(each.child.grace)
    _kill_group(each.process)
    each.process.wait()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # nobody of the group is left
        os.killpg(process.pid, signal.SIGKILL)
