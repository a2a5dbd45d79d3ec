"""A generation and its master while something lasts: who asks for a successor, how often, and who starts one."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ocsp.responder import __main__ as master
from ocsp.responder import generation
from ocsp.responder.__main__ import Master
from ocsp.responder.feeder import Feeder, Hints, Rewound
from ocsp.responder.generation import _Feeding
from ocsp.responder.store import Full


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
        self.now = 1000.0
        fake = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep, time=lambda: self.now)
        monkeypatch.setattr(module, "time", fake)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


# --- a generation


class Failing:
    """A feeder that always ends with `error`."""

    store, position = SimpleNamespace(crowded=False), 0

    def __init__(self, error: Exception) -> None:
        self._error = error

    def look(self) -> None:
        raise self._error

    load = look


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    signals: list[int] = []
    monkeypatch.setattr(generation.os, "kill", lambda pid, number: signals.append(number))
    return signals


def feeding(error: Exception, clock: Clock) -> _Feeding:
    return _Feeding(cast(Feeder, Failing(error)), cast(Hints, SimpleNamespace(wait=clock.sleep)), "here:80")


@pytest.mark.parametrize("error", [Rewound(), Full("the heap"), MemoryError()])
def test_a_successor_is_asked_for_again_while_the_cause_lasts(
    error: Exception, asked: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock(monkeypatch, generation)
    it, began = feeding(error, clock), clock.now
    while clock.now < began + 35:
        it.step()
    assert asked == [signal.SIGUSR1] * 4
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("error", [Rewound(), MemoryError(), OSError(12, "no memory")])
def test_what_cannot_be_loaded_is_tried_again(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert feeding(error, Clock(monkeypatch, generation)).load() is None


def test_what_there_was_room_for_is_served(asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A successor would have no more of it, so that none is asked for soon."""
    clock = Clock(monkeypatch, generation)
    it, began = feeding(Full("the heap"), clock), clock.now
    assert cast(Any, it.load()) is Failing.store
    while clock.now < began + 50:
        it.step()
    assert asked == []
    while clock.now < began + 65:
        it.step()
    assert len(asked) == 1


# --- the master


class Process:
    """A generation of nobody. It never serves unless told to."""

    def __init__(self) -> None:
        self.alive, self.ready = True, False
        self.process = SimpleNamespace(returncode=1)

    def serves(self) -> bool:
        return self.ready

    def lives(self) -> bool:
        return self.alive

    def end(self) -> None:
        self.alive = False

    def ended(self) -> bool:
        return True


class Run:
    """A master of such, one second after another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.started, self.dying = Clock(monkeypatch, master), list[Process](), False
        monkeypatch.setattr(Master, "_start", self._start)
        self.master = Master([])
        self.step()
        self.started[0].ready = True
        self.step()

    def _start(self, *_: object) -> Process:
        self.started.append(Process())
        self.started[-1].alive = not self.dying
        return self.started[-1]

    def step(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.clock.now += 1
            self.master._step()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(monkeypatch)


@pytest.mark.parametrize("ask", ["_on_asked", "_on_hangup"])
def test_a_successor_that_dies_is_followed_by_another_but_less_and_less_often(run: Run, ask: str) -> None:
    run.dying = True
    getattr(run.master, ask)()
    run.step(60)
    assert 5 <= len(run.started) <= 8
    assert run.started[0].alive
    run.dying = False
    run.step(70)
    run.started[-1].ready = True
    run.step(200)
    assert not run.started[0].alive
    assert run.master._serving is cast(Any, run.started[-1])
    assert run.master._coming is None


def test_without_one_that_feeds_there_is_no_long_pause(run: Run) -> None:
    run.dying = True
    run.master._on_asked()
    run.step(60)
    before = len(run.started)
    run.started[0].alive = False
    run.step(10)
    assert len(run.started) >= before + 4


def test_asking_again_while_one_is_coming_starts_no_third(run: Run) -> None:
    for _ in range(5):
        run.master._on_asked()
        run.step(10)
    run.started[1].ready = True
    run.step(10)
    assert len(run.started) == 2
    assert run.started[1].alive
