"""Group commit at the door: submissions that arrive while another is being committed share the next commit.

Owns the queue between the threads of one process. A commit and a wake-up cost the same for one row as for fifty, so
under load their cost per request falls; an idle system commits each request at once. Knows nothing of what it stores.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from django.db import DataError, IntegrityError, OperationalError

Row = TypeVar("Row")
Result = TypeVar("Result")


class SharedCommit(Generic[Row, Result]):
    """Callable like `store`, which commits rows and returns one result for all of them; threads that call at the same
    time get the same result object or the same exception."""

    def __init__(self, store: Callable[[Sequence[Row]], Result]) -> None:
        self._store = store
        self._waiting: deque[tuple[Sequence[Row], Future[Result]]] = deque()
        self._leader = threading.Lock()

    def __call__(self, rows: Sequence[Row]) -> Result:
        mine: Future[Result] = Future()
        self._waiting.append((rows, mine))
        with self._leader:
            if not mine.done():
                self._commit(self._queued())
        return mine.result()

    def _queued(self) -> list[tuple[Sequence[Row], Future[Result]]]:
        return [self._waiting.popleft() for _ in range(len(self._waiting))]

    def _commit(self, group: list[tuple[Sequence[Row], Future[Result]]]) -> None:
        try:
            result = self._store([row for rows, _ in group for row in rows])
        except BaseException as error:
            self._failed(group, error)
        else:
            for _, future in group:
                future.set_result(result)

    def _failed(self, group: list[tuple[Sequence[Row], Future[Result]]], error: BaseException) -> None:
        if len(group) > 1 and isinstance(error, DataError | IntegrityError):
            for one in group:  # the database refused one submission's data: the others must not fail with it
                self._commit([one])
            return
        if isinstance(error, OperationalError):  # the database is away, for those who queued up meanwhile, too: each would
            group = [*group, *self._queued()]  # find that out no sooner than the first did
        for _, future in group:
            future.set_exception(error)
