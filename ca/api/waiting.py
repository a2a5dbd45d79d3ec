"""How a web process waits for certificates: one listener for all of its waiting requests.

Owns the hub: a thread that hears on Redis which requests are done, and reads the rows of all that somebody waits for in
one query. Once a second it looks at whatever is still waited for, which is all that a lost message or an absent Redis
costs. Must never decide anything by a message: it says where to look, the rows say what is.

A waiting thread holds no database connection. If the hub dies, its callers run into their time limit and are answered
202, and the next one starts it again.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Collection, Iterable
from uuid import UUID

import redis
from django.conf import settings
from django.db import Error, connection
from redis.client import PubSub

from ca import wakeups

from .representations import Row, is_done, load

log = logging.getLogger(__name__)
RECHECK = 1.0  # seconds


class _Waiter:
    """One caller's ids that are not done yet, and the rows of those that are. `ended` is held until all are: a lock wakes its one
    waiter for a third of what an Event costs."""

    def __init__(self, ids: Iterable[UUID]) -> None:
        self.missing = {str(request) for request in ids}
        self.rows: dict[UUID, Row] = {}
        self.ended = threading.Lock()
        self.ended.acquire()

    def give(self, request: UUID, row: Row) -> None:
        self.rows[request] = row
        self.missing.discard(str(request))
        if not self.missing and self.ended.locked():
            self.ended.release()


class Hub:
    """See the module. One for each process, made when the first request waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[str, list[_Waiter]] = {}
        self._waiting = 0
        # What was announced in this second and the last: a request may end before its submitter has begun to wait.
        self._recent: set[str] = set()
        self._before: set[str] = set()
        self._thread: threading.Thread | None = None
        self._channel: PubSub | None = None
        self._closed = False

    def listen(self) -> None:
        """Have the listener running; call it before submitting, so that no announcement is missed."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="quicklime-waiting", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Let the listener end, within a second."""
        self._closed = True

    def wait(self, ids: Collection[UUID], seconds: float) -> dict[UUID, Row] | None:
        """Block until all of `ids` are done or `seconds` have passed. The rows (of representations.load) of those that are
        done; None, at once, if settings.WAITERS callers are waiting already."""
        waiter = self._register(ids)
        if waiter is None:
            return None
        try:
            self._look([request for request in map(str, ids) if request in self._recent or request in self._before])
            waiter.ended.acquire(timeout=seconds)
        finally:
            self._leave(waiter)
        return waiter.rows

    def _register(self, ids: Iterable[UUID]) -> _Waiter | None:
        waiter = _Waiter(ids)
        with self._lock:
            if self._waiting >= settings.WAITERS:
                return None
            self._waiting += 1
            for request in waiter.missing:
                self._waiters.setdefault(request, []).append(waiter)
        return waiter

    def _leave(self, waiter: _Waiter) -> None:
        with self._lock:
            self._waiting -= 1
            for request in waiter.missing:
                others = [other for other in self._waiters.pop(request, []) if other is not waiter]
                if others:
                    self._waiters[request] = others

    def _settle(self, ids: Iterable[str]) -> None:
        """Give the rows of those of `ids` that are done to whoever waits for them; what nobody waits for may be any text."""
        with self._lock:
            wanted = [UUID(request) for request in ids if request in self._waiters]
        if not wanted:
            return
        done = {request: row for request, row in load(wanted).items() if is_done(row)}
        with self._lock:
            for request, row in done.items():
                for waiter in self._waiters.pop(str(request), []):
                    waiter.give(request, row)

    def _run(self) -> None:
        due = time.monotonic() + RECHECK
        while not self._closed:
            announced = self._announced(due - time.monotonic())
            self._recent.update(announced)
            self._look(announced)
            if time.monotonic() >= due:
                self._before, self._recent = self._recent, set()
                self._look(list(self._waiters))
                due = time.monotonic() + RECHECK
        self._hang_up()

    def _look(self, ids: Iterable[str]) -> None:
        """Settle, and hand the connection back to the pool. A database that is away is no answer to requests that it has
        accepted: they stay pending."""
        try:
            self._settle(ids)
        except Error as error:
            log.warning("waiting requests could not be looked up, trying again in a second: %s", error)
        finally:
            connection.close_if_unusable_or_obsolete()

    def _announced(self, seconds: float) -> list[str]:
        """The ids announced until now; waits for the first up to `seconds`."""
        try:
            if self._channel is None:
                self._channel = _subscribed()
            return _drain(self._channel, max(0.0, seconds))
        except (redis.RedisError, OSError) as error:
            if self._channel is not None and not self._closed:
                log.warning("Redis is away (%s): waiting requests are looked up once a second", error)
            self._hang_up()
            time.sleep(max(0.0, seconds))
            return []

    def _hang_up(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel = None


def _subscribed() -> PubSub:
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=0.5, retry=None)
    channel: PubSub = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    channel.subscribe(wakeups.DONE)
    return channel


def _drain(channel: PubSub, seconds: float) -> list[str]:
    """All messages that are there, so that one query serves them; the first is waited for."""
    found: list[str] = []
    message = channel.get_message(timeout=seconds)
    while message is not None:
        found += message["data"].decode("ascii", "replace").split("\n")
        message = channel.get_message(timeout=0)
    return found


_hub: Hub | None = None
_making = threading.Lock()


def hub() -> Hub:
    """This process's hub."""
    global _hub
    with _making:
        if _hub is None:
            _hub = Hub()
        return _hub


def _forget() -> None:
    global _hub, _making
    _hub, _making = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)  # the thread is not in the child, and the lock may be held there for ever


@atexit.register
def close() -> None:
    """End this process's hub, if there is one; the next that waits makes another."""
    if _hub is not None:
        _hub.close()
    _forget()
