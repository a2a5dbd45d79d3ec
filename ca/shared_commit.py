"""Group commit at the door: submissions that arrive while another is being committed share the next commit.

Owns the queue between the threads of one process. A commit and a wake-up cost the same for one row as for fifty, so
under load their cost per request falls; an idle system commits each request at once. Knows nothing of what it stores.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from django.db import DataError, IntegrityError, OperationalError

from . import gathering

Row = TypeVar("Row")
Result = TypeVar("Result")

_MOST, _TELLING = 0.13, 0.25  # seconds


class _Turn(Generic[Row, Result]):
    """One caller's rows, and what became of them. `woken` is held until it is to look: it is done, or it leads."""

    result: Result
    error: BaseException | None = None
    done = False

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.woken = threading.Lock()
        self.woken.acquire()

    def end(self, result: Result) -> None:
        self.result, self.done = result, True
        self.woken.release()

    def fail(self, error: BaseException) -> None:
        self.error, self.done = error, True
        self.woken.release()


class SharedCommit(Generic[Row, Result]):
    """Callable like `store`, which commits rows and returns one result for all of them; threads that call at the same
    time get the same result object or the same exception."""

    def __init__(self, store: Callable[[Sequence[Row]], Result]) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._waiting: list[_Turn[Row, Result]] = []
        self._led = False
        self._expected = gathering.Expectation(_TELLING)
        self._awaited, self._all_there = 1, threading.Event()  # set by who makes them so many while a leader gathers

    def __call__(self, rows: Sequence[Row]) -> Result:
        mine: _Turn[Row, Result] = _Turn(rows)
        with self._lock:
            self._waiting.append(mine)
            if len(self._waiting) >= self._awaited:
                self._all_there.set()
            leads, self._led = not self._led, True
        if not leads:
            mine.woken.acquire()
        if not mine.done:
            self._lead()
        if mine.error:
            raise mine.error
        return mine.result

    def _lead(self) -> None:
        """Commit for all who wait, and have the first of those who came meanwhile lead. Nothing here raises: what `store` raises is
        for its callers."""
        self._gather()
        group = self._queued()
        self._commit(group)
        self._expected.came(len(group), time.monotonic())
        self._hand_on()

    def _gather(self) -> None:
        """Under load, so soon after a commit that was shared, until as many wait as shared that, or nobody joins for a moment."""
        seen, now = 0, time.monotonic()
        with self._lock:
            self._awaited = self._expected.number(now)
            self._all_there.clear()
        until = now + gathering.patience(self._awaited, _MOST)
        while seen < len(self._waiting) < self._awaited and time.monotonic() < until:
            seen = len(self._waiting)
            self._all_there.wait(gathering.PAUSE)

    def _queued(self) -> list[_Turn[Row, Result]]:
        with self._lock:
            group, self._waiting = self._waiting, []
        return group

    def _hand_on(self) -> None:
        with self._lock:
            self._led = bool(self._waiting)
            if self._led:
                self._waiting[0].woken.release()

    def _commit(self, group: Sequence[_Turn[Row, Result]]) -> None:
        try:
            result = self._store([row for turn in group for row in turn.rows])
        except BaseException as error:
            self._failed(group, error)
        else:
            for turn in group:
                turn.end(result)

    def _failed(self, group: Sequence[_Turn[Row, Result]], error: BaseException) -> None:
        if len(group) > 1 and isinstance(error, DataError | IntegrityError):
            for one in group:  # the database refused one submission's data: the others must not fail with it
                self._commit([one])
            return
        if isinstance(error, OperationalError):  # the database is away, for those who queued up meanwhile, too: each would
            group = [*group, *self._queued()]  # find that out no sooner than the first did
        for turn in group:
            turn.fail(error)
