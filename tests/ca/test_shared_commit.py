"""Group commit at the door: who shares, and who does not suffer for whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from django.db import DataError, OperationalError

from ca import gathering, shared_commit
from ca.shared_commit import SharedCommit
from tests.processes import eventually


class Store:
    """Commits slowly while `gate` is closed, and counts its commits."""

    def __init__(self) -> None:
        self.gate, self.entered = threading.Event(), threading.Event()
        self.commits: list[list[int]] = []

    def __call__(self, rows: Sequence[int]) -> int:
        self.entered.set()
        self.gate.wait(10)
        if 13 in rows:
            raise DataError("refused")
        if 99 in rows:
            raise OperationalError("gone")
        self.commits.append(sorted(rows))
        return len(self.commits)


def queue_behind(store: Store, shared: SharedCommit[int, int], rows: list[int], leader: int = 0) -> list[BaseException | int]:
    """Submit `leader` and, while it is being committed, each of `rows` from a thread of its own; what each of these got."""
    with ThreadPoolExecutor(len(rows) + 1) as pool:
        first = pool.submit(shared, [leader])
        store.entered.wait(10)
        others = [pool.submit(shared, [row]) for row in rows]
        eventually(lambda: len(shared._waiting) == len(rows))
        store.gate.set()
        first.exception(10)
        return [future.exception(10) or future.result() for future in others]


def test_those_who_arrive_during_a_commit_share_the_next() -> None:
    store = Store()
    assert queue_behind(store, SharedCommit(store), [1, 2, 3]) == [2, 2, 2]
    assert store.commits == [[0], [1, 2, 3]]


def test_one_submission_the_database_refuses_fails_alone() -> None:
    store = Store()
    got = queue_behind(store, SharedCommit(store), [1, 13, 3])
    assert [isinstance(answer, DataError) for answer in got] == [False, True, False]
    assert sorted(row for commit in store.commits for row in commit) == [0, 1, 3]


def test_a_lost_database_fails_everyone_of_the_group() -> None:
    store = Store()
    got = queue_behind(store, SharedCommit(store), [1, 99, 3])
    assert all(isinstance(answer, OperationalError) for answer in got)
    assert store.commits == [[0]]


def test_those_who_queued_while_the_database_was_found_away_need_not_wait_to_find_out() -> None:
    store = Store()
    got = queue_behind(store, SharedCommit(store), [1, 2], leader=99)
    assert all(isinstance(answer, OperationalError) for answer in got)
    assert store.commits == []


def test_a_failed_leader_leaves_the_door_open() -> None:
    store = Store()
    store.gate.set()
    shared = SharedCommit(store)
    with pytest.raises(OperationalError):
        shared([99])
    assert shared([1]) == 1


class Gated(Store):
    """Commits once for each release of `let`."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Semaphore(0)

    def __call__(self, rows: Sequence[int]) -> int:
        self.let.acquire(timeout=10)
        self.commits.append(sorted(rows))
        return len(self.commits)


def test_whoever_is_committed_goes_on_while_others_are_being_committed() -> None:
    store = Gated()
    shared = SharedCommit(store)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(shared, [0])
        eventually(lambda: shared._led and not shared._waiting)
        second, third = pool.submit(shared, [1]), pool.submit(shared, [2])
        eventually(lambda: len(shared._waiting) == 2)
        store.let.release()
        assert first.result(10) == 1
        eventually(lambda: not shared._waiting)
        fourth = pool.submit(shared, [3])
        eventually(lambda: len(shared._waiting) == 1)
        store.let.release()
        assert (second.result(10), third.result(10), fourth.done()) == (2, 2, False)
        store.let.release()
        assert fourth.result(10) == 3
    assert store.commits == [[0], [1, 2], [3]]


@pytest.fixture
def shared() -> SharedCommit[int, int]:
    """After a commit that two callers shared, of which it will be told for long."""
    store = Store()
    shared = SharedCommit(store)
    queue_behind(store, shared, [1, 2])
    expect(shared, 2)
    return shared


def expect(shared: SharedCommit[int, int], number: int) -> None:
    shared._expected = gathering.Expectation(60.0)
    shared._expected.came(number, time.monotonic())


def test_soon_after_a_shared_commit_the_next_waits_for_who_is_about_to_join(
    shared: SharedCommit[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And goes on as soon as all are there: a pause to its end would be longer than the test may take."""
    for name in ("PAUSE", "EACH"):
        monkeypatch.setattr(gathering, name, 60.0)
    monkeypatch.setattr(shared_commit, "_MOST", 60.0)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(shared, [3])
        eventually(lambda: len(shared._waiting) == 1)
        second = pool.submit(shared, [4])
        assert first.result(10) == second.result(10) == 3


def test_who_does_not_join_is_not_waited_for_longer_than_a_moment(shared: SharedCommit[int, int]) -> None:
    assert shared([3]) == 3
    expect(shared, 3)
    assert shared([4]) == 4


@pytest.mark.parametrize(("expected", "milliseconds"), [(20, 40), (10_000, 130)])
def test_who_keeps_joining_is_waited_for_as_long_as_so_many_take(
    shared: SharedCommit[int, int], monkeypatch: pytest.MonkeyPatch, expected: int, milliseconds: int
) -> None:
    began = time.monotonic()
    clock = SimpleNamespace(now=began)

    def joined(seconds: float) -> None:
        clock.now += seconds
        shared._waiting.insert(0, shared_commit._Turn([0]))

    expect(shared, expected)
    monkeypatch.setattr(shared_commit, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(shared._all_there, "wait", joined)
    monkeypatch.setattr(gathering, "PAUSE", 0.003)  # the last is begun in time
    shared([3])
    assert milliseconds <= (clock.now - began) * 1e3 < milliseconds + 3


def test_nobody_is_waited_for_once_all_are_there(shared: SharedCommit[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared._all_there, "wait", lambda _: pytest.fail("waited"))
    expect(shared, 1)
    assert shared([3]) == 3


def test_a_single_caller_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    store.gate.set()
    shared = SharedCommit(store)
    monkeypatch.setattr(shared._all_there, "wait", lambda _: pytest.fail("waited"))
    assert [shared([row]) for row in (1, 2, 3)] == [1, 2, 3]
