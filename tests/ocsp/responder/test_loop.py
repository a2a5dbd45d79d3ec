"""The loop under the responder: one that fails harms nobody, others may wake it, and who waits keeps nobody waiting."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from ocsp.responder.loop import BROKEN, READ, WRITE, Aside, Loop


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def turn(loop: Loop, seconds: float = 5.0) -> None:
    loop.turn(seconds, lambda: None)


def test_a_handler_is_called_for_what_is_asked_and_no_more(pipe: tuple[int, int]) -> None:
    loop, seen = Loop(), list[int]()
    loop.watch(pipe[1], WRITE, seen.append)
    turn(loop)
    assert seen == [WRITE]
    loop.change(pipe[1], 0)
    turn(loop, 0)
    loop.change(pipe[1], WRITE)
    loop.forget(pipe[1])
    loop.forget(pipe[1])
    loop.change(pipe[1], WRITE)
    turn(loop, 0)
    assert seen == [WRITE]


def test_that_the_other_end_is_gone_is_always_told() -> None:
    loop, seen, (read, write) = Loop(), list[int](), os.pipe()
    loop.watch(write, 0, seen.append)
    os.close(read)
    turn(loop)
    assert seen
    assert seen[0] & BROKEN
    loop.forget(write)
    os.close(write)


def test_a_handler_that_fails_is_not_called_again_and_the_others_are(pipe: tuple[int, int], caplog: pytest.LogCaptureFixture) -> None:
    loop, calls = Loop(), list[int]()

    def fails(_: int) -> None:
        calls.append(1)
        raise ValueError

    loop.watch(pipe[0], READ, fails)
    loop.watch(pipe[1], WRITE, lambda _: calls.append(2))
    os.write(pipe[1], b".")
    for _ in range(3):
        turn(loop)
    assert calls.count(1) == 1
    assert calls.count(2) == 3
    assert len(caplog.records) == 1


def test_one_that_another_forgot_in_the_same_turn_is_not_called(pipe: tuple[int, int]) -> None:
    """Its descriptor may be somebody else's by then."""
    loop, calls = Loop(), list[int]()

    def first(descriptor: int) -> None:
        calls.append(descriptor)
        for each in pipe:
            loop.forget(each)

    loop.watch(pipe[0], READ, lambda _: first(pipe[0]))
    loop.watch(pipe[1], WRITE, lambda _: first(pipe[1]))
    os.write(pipe[1], b".")
    turn(loop)
    assert len(calls) == 1


def test_other_threads_wake_it_however_often_they_call() -> None:
    loop, calls = Loop(), list[int]()
    for number in range(100_000):  # more than a pipe holds
        loop.call(lambda number=number: calls.append(number))  # type: ignore[misc]
    turn(loop)
    assert calls == list(range(100_000))
    threading.Timer(0.05, lambda: loop.call(lambda: calls.append(-1))).start()
    began = time.monotonic()
    while calls[-1] != -1 and time.monotonic() < began + 5:
        turn(loop)
    assert time.monotonic() - began < 2


def test_a_call_that_fails_does_not_keep_the_next_from_waking_it(caplog: pytest.LogCaptureFixture) -> None:
    loop, calls = Loop(), list[int]()
    loop.call(lambda: calls.append(1 // 0))
    loop.call(lambda: calls.append(1))
    turn(loop)
    loop.call(lambda: calls.append(2))
    turn(loop)
    assert calls == [1, 2]
    assert len(caplog.records) == 1


def test_what_is_awaited_aside_comes_back_to_the_loop() -> None:
    loop, came = Loop(), list[Future[int]]()
    aside = Aside(loop)

    async def soon() -> int:
        await asyncio.sleep(0.02)
        return 7

    async def never() -> int:
        raise ValueError

    for made in (soon(), never()):
        aside.run(made, came.append)
    aside.run(asyncio.sleep(60, 1), came.append).cancel()
    until = time.monotonic() + 5
    while len(came) < 3 and time.monotonic() < until:
        turn(loop, 0.1)
    assert [each.result() for each in came if not each.cancelled() and not each.exception()] == [7]
    assert len(came) == 3
