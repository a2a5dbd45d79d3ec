"""Group commit at the door: who shares, and who does not suffer for whom."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import DataError, OperationalError

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
