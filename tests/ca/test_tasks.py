"""The periodic tasks, run in this process: what they do beside waking others."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from ca import tasks
from ca.gathering import Expectation
from eventlog import checkpoints, saved


@pytest.mark.django_db(transaction=True)
def test_a_checkpoint_is_committed_before_it_is_published(hierarchy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[str] = []

    def publish(text: str, *_: Any) -> None:
        assert not connection.in_atomic_block, "a crash now would have published what no database remembers"
        published.append(text)

    monkeypatch.setattr(saved, "publish", publish)
    tasks.checkpoint()
    newest = checkpoints.latest()
    assert newest is not None
    assert set(published) == {newest.note}


class Clock:
    """Time that passes only by sleeping; `arrivals`: how many wait after each look."""

    def __init__(self, arrivals: list[int]) -> None:
        self.now, self.slept, self._arrivals = 100.0, 0.0, arrivals

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds

    def waiting(self) -> int:
        return self._arrivals.pop(0) if len(self._arrivals) > 1 else self._arrivals[0]


@pytest.mark.parametrize(
    ("peak", "fresh", "arrivals", "waits"),
    [
        (1, True, [1], "not at all"),
        (64, False, [1, 64], "not at all"),
        (16, True, [1, 5, 9, 16], "until all are back"),
        (16, True, [1, 5, 5], "until no more come"),
        (16, True, [40], "not at all"),
    ],
)
def test_gathering(peak: int, fresh: bool, arrivals: list[int], waits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(arrivals)
    monkeypatch.setattr(tasks, "time", clock)
    monkeypatch.setattr(tasks.issuance, "waiting", clock.waiting)
    monkeypatch.setattr(tasks, "_expected", expected := Expectation(tasks._TELLING))
    expected.came(peak, clock.now - (0 if fresh else tasks._TELLING))
    tasks._gather()
    if waits == "not at all":
        assert clock.slept == 0
    elif waits == "until all are back":
        assert clock.slept == pytest.approx(3 * tasks._PAUSE)
    else:
        assert peak * tasks._EACH <= clock.slept < peak * tasks._EACH + 3 * tasks._PAUSE
