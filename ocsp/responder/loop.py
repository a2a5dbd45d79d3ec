"""Waits for many descriptors at once and calls whoever is concerned: of an event loop, what a server needs that keeps nobody waiting.

Owns the waiting, and knows nothing of sockets, clients or time. One thread turns it; others may only `call`. What has to be
awaited is awaited in a thread of its own (`Aside`), so that those who need not wait do not pay for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TypeVar

log = logging.getLogger(__name__)
READ, WRITE, BROKEN = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR | select.EPOLLHUP
_AT_ONCE = 256  # descriptors taken from the kernel in one turn
_T = TypeVar("_T")

Handler = Callable[[int], None]  # (what it is ready for: READ, WRITE, BROKEN)


class Loop:
    """Descriptors and their handlers. A handler that fails is not called again, and nobody else suffers."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._calls: deque[Callable[[], None]] = deque()
        woken, self._wake = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(self._wake, False)
        self.watch(woken, READ, lambda _: self._run(woken))

    def watch(self, descriptor: int, events: int, handler: Handler) -> None:
        """Call `handler` whenever `descriptor` is ready for one of `events`; BROKEN is always reported."""
        self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler

    def change(self, descriptor: int, events: int) -> None:
        """Wait for other events of one that is watched."""
        if descriptor in self._handlers:
            self._epoll.modify(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Watch it no more; to be called before it is closed."""
        if self._handlers.pop(descriptor, None):
            self._epoll.unregister(descriptor)

    def call(self, function: Callable[[], None]) -> None:
        """Have it called in the next turn. From any thread or signal handler."""
        self._calls.append(function)
        with suppress(BlockingIOError):  # a full pipe wakes as well
            os.write(self._wake, b".")

    def turn(self, seconds: float, begin: Callable[[], None]) -> None:
        """Wait until something is ready, at most `seconds`; then call `begin`, once for all, and the handlers."""
        ready, handlers = self._epoll.poll(seconds, _AT_ONCE), self._handlers
        begin()
        for descriptor, event in ready:
            handler = handlers.get(descriptor)  # None: another one closed it in this turn
            if handler:
                try:
                    handler(event)
                except Exception:
                    log.exception("the handler of a connection failed")
                    self.forget(descriptor)

    def _run(self, woken: int) -> None:
        os.read(woken, 4096)
        while self._calls:
            try:
                self._calls.popleft()()
            except Exception:
                log.exception("a call into the loop failed")


class Aside:
    """A thread that awaits."""

    def __init__(self, loop: Loop) -> None:
        self._loop, self._awaiting = loop, asyncio.new_event_loop()
        threading.Thread(target=self._awaiting.run_forever, daemon=True).start()

    def run(self, made: Awaitable[_T], then: Callable[[Future[_T]], None]) -> Future[_T]:
        """Await `made`, then call `then` in the loop with what came of it, also if it was cancelled."""
        future = asyncio.run_coroutine_threadsafe(_awaited(made), self._awaiting)
        future.add_done_callback(lambda done: self._loop.call(partial(then, done)))
        return future


async def _awaited(made: Awaitable[_T]) -> _T:
    return await made
