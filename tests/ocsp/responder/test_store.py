"""The shared store: what is put is found, what is replaced is never seen half, and nothing grows without end."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from ocsp.responder import record, store
from ocsp.responder.record import DOCUMENT, Record
from ocsp.responder.store import GRACE, Full, Store

OWNER = record.owner(7)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def answers(key: bytes, first: bytes = b"first", second: bytes = b"second", final: bool = False, until: int = 2**31) -> Record:
    return Record(key, 7, final, 1, until, first, second)


def keys(count: int, seed: int = 1) -> list[bytes]:
    chance = random.Random(seed)
    return [chance.randbytes(record.KEY) for _ in range(count)]


def get(held: Store, key: bytes) -> Record | None:
    packed = held.get(key, OWNER)
    return record.unpack(packed) if packed else None


def fill(held: Store, known: list[bytes], first: bytes = b"first") -> None:
    for key in known:
        held.put(answers(key, first))


def test_what_is_put_is_found_and_nothing_else() -> None:
    held, known = Store(1 << 10, 1 << 20), keys(600)
    for number, key in enumerate(known):
        assert held.put(answers(key, b"%d" % number, b"x" * number))
    for number, key in enumerate(known):
        assert get(held, key) == answers(key, b"%d" % number, b"x" * number)
        assert held.get(key, record.owner(8)) is None, "an issuer's answer is for its own certificates"
    assert all(held.get(key, OWNER) is None for key in keys(600, seed=2))


def test_the_last_one_put_is_the_one() -> None:
    held, (key,) = Store(16, 1 << 16), keys(1)
    for number in range(100):
        held.put(answers(key, b"%d" % number))
    found = get(held, key)
    assert found
    assert found.first == b"99"


def test_a_revoked_answer_is_replaced_by_a_revoked_one_only() -> None:
    held, (key,) = Store(16, 1 << 16), keys(1)
    assert held.put(answers(key, b"good"))
    assert held.put(answers(key, b"revoked", final=True))
    assert not held.put(answers(key, b"good"))
    held.withdraw(key)
    found = get(held, key)
    assert found
    assert found.first == b"revoked", "what says revoked is not withdrawn"
    assert held.put(answers(key, b"revoked again", final=True))


def test_withdrawn_before_there_was_anything() -> None:
    held, (key,) = Store(16, 1 << 16), keys(1)
    held.withdraw(key)
    assert not held.put(answers(key, b"good"))
    assert held.put(answers(key, b"revoked", final=True))
    found = get(held, key)
    assert found
    assert found.first == b"revoked"


def test_a_full_table_is_refused_and_stays_as_it_was() -> None:
    held, known = Store(16, 1 << 16), keys(20)
    with pytest.raises(Full):
        fill(held, known)
    assert sum(held.get(key, OWNER) is not None for key in known) == 12  # three quarters: the probing must end
    assert held.crowded
    assert held.put(answers(known[0], b"another")), "what is there can be replaced"


def test_a_full_heap_is_refused_and_a_withdrawal_is_not() -> None:
    held, known = Store(1 << 10, 4096), keys(3)
    held.put(answers(known[0], b"x" * 3500))
    with pytest.raises(Full):
        held.put(answers(known[1], b"x" * 1000))
    with pytest.raises(Full):
        fill(held, known[2:] * 10, b"x" * 300)
    held.withdraw(known[0])
    found = get(held, known[0])
    assert found is None or not found.first


@pytest.mark.parametrize("known", [True, False])
def test_a_withdrawal_without_room_is_final_all_the_same(known: bool) -> None:
    clock = Clock()
    held, (filler, key) = Store(1 << 10, 4096, clock), keys(2)
    if known:
        held.put(answers(key, b"good"))
    taken = []
    for size in range(3900, 0, -16):
        with suppress(Full):
            taken.append(held.put(answers(filler, b"x" * size)) and size)
    held.withdraw(key)
    assert get(held, key) is None
    held.remove(filler)
    clock.now += GRACE  # now there is
    assert not held.put(answers(key, b"x" * taken[-1]))
    assert get(held, key) is None
    assert held.put(answers(key, b"x" * taken[-1], final=True))
    assert not held.put(answers(key, b"good"))


def test_room_is_used_again_but_not_at_once() -> None:
    clock = Clock()
    held, known = Store(1 << 10, 64 * 1024, clock), keys(10)
    for round_ in range(1000):
        clock.now += GRACE
        for key in known:
            held.put(answers(key, b"%04d" % round_ * 100))
    with pytest.raises(Full):
        fill(held, known[:1] * 1000, b"x" * 400)


def test_editions_of_a_growing_document_use_each_others_room() -> None:
    clock, key = Clock(), record.document_key(b"/crl/issuing-1.crl")
    held = Store(16, 4 << 20, clock)
    for edition in range(500):
        clock.now += GRACE
        held.put(Record(key, DOCUMENT, False, 1, 2, b"x" * (200_000 + 100 * edition), b""))


def test_removed_ones_leave_the_others_to_be_found() -> None:
    held, known = Store(1 << 8, 1 << 20), keys(150)
    for key in known:
        held.put(answers(key))
    for key in known[::2]:
        held.remove(key)
    assert [held.get(key, OWNER) is None for key in known] == [True, False] * 75
    for key in known[::2]:
        held.put(answers(key))
    assert all(held.get(key, OWNER) for key in known)


def test_what_ended_is_named_in_parts() -> None:
    held, known = Store(1 << 8, 1 << 20), keys(100)
    for number, key in enumerate(known):
        held.put(answers(key, until=number))
    held.put(Record(record.document_key(b"/x"), DOCUMENT, False, 0, 0, b"document", b""))
    named = [key for start in range(0, held.slots, 64) for key in held.expired(50, start, 64)]
    assert set(named) == set(known[:50])


def test_memory_per_certificate() -> None:
    """At most 1.3 times the bytes of the two answers, everything counted, at the fullest and the emptiest that a store is made."""
    count, octets = 50_000, 50_000 * 2 * 304
    held = Store.for_records(count, octets)
    for key in keys(count):
        held.put(answers(key, b"x" * 304, b"y" * 304))
    assert (held._top * 16 + held.slots * 8) / octets < 1.3


def test_a_record_that_is_replaced_while_it_is_copied_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader was stopped between entry and copy, for so long that the place is another certificate's."""
    clock = Clock()
    held, (mine, other) = Store(16, 1 << 16, clock), keys(2)
    held.put(answers(mine, b"old"))
    heap, stopped = held._heap, []

    class Slow:
        def __getitem__(self, part: slice) -> bytes:
            if not stopped:
                stopped.append(part)
                held._heap = heap
                held.put(answers(mine, b"new"))
                clock.now += GRACE
                held.put(answers(other, b"oth"))
                assert record.unpack(heap[part]).key == other
            return heap[part]

    held._heap = Slow()  # type: ignore[assignment]
    found = get(held, mine)
    assert found
    assert found.first == b"new"


@contextmanager
def forked(work: Callable[[], None]) -> Iterator[int]:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_readers_never_see_half_an_update_or_anothers_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer without pause, places used again at once after 50 ms, and readers in other processes that check every octet."""
    monkeypatch.setattr(store, "GRACE", 0.05)
    held, known = Store(1 << 8, 8 << 20), keys(50)

    def body(key: bytes, number: int) -> bytes:
        return (key + number.to_bytes(4, "big")) * 12

    def write() -> None:
        number = 0
        while True:
            for key in known:
                number += 1
                held.put(Record(key, 7, False, number, number, body(key, number), body(key, number)[::-1]))

    for key in known:
        held.put(Record(key, 7, False, 0, 0, body(key, 0), body(key, 0)[::-1]))
    newest, until, read = dict.fromkeys(known, 0), time.monotonic() + 3, 0
    with forked(write):
        while time.monotonic() < until:
            for key in known:
                found = get(held, key)
                assert found
                assert found.key == key
                assert found.issuer == 7
                assert found.first == body(key, found.this_update)
                assert found.second == found.first[::-1]
                assert found.this_update >= newest[key], "never back"
                newest[key] = found.this_update
                read += 1
    assert read > 10_000
    assert min(newest.values()) > 100, "the writer's stores are seen in this process"
