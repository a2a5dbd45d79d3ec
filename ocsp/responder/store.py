"""The ready answers of one host, in memory that all its responder processes share.

Owns the memory: a hash table of 8-byte entries and a heap of records. One process writes, any number read, nobody waits. A record
is written where no entry points to, then published by one aligned 8-byte store, and never changed: a reader sees the old
one or the new one. The place of a replaced record is used again only seconds later; a reader copies it at once, looks
whether the entry still stands and whose the copy is, so that no delay makes it give another certificate's answer.

An entry is, from its low end: 32 bits of offset and 24 bits of size, both in units of 16 octets, and 8 bits of the key's hash.
0 is free, 1 was in use. Anonymous shared mappings exist on every Unix; what the processors of a host promise about the order of
stores is used as on x86-64 and, with the lock in `_publish`, on ARM.
"""

from __future__ import annotations

import mmap
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from . import record
from .record import DOCUMENT, NOBODY, Record

GRACE = 5.0  # seconds until the place of a replaced record is used again: far longer than any reader looks
_UNIT = 16
_GONE = 1
_OFFSET, _SIZE = (1 << 32) - 1, (1 << 24) - 1
_HASH = struct.Struct("<Q")
_KEY_AND_OWNER = record.KEY + 2
_FULL_TABLE, _FULL_HEAP = 0.75, 1.0  # of what there is
_CROWDED = 0.85  # of these: time for bigger ones
_LEAST_SLOTS, _LEAST_HEAP = 1 << 16, 64 << 20
_LARGE = 256  # units, from which on sizes are rounded up, so that each edition of a growing CRL fits the place of an earlier one


class Full(Exception):
    """There is no room for the record; a bigger store is needed."""


class Store:
    """`slots` entries, a power of two, and `heap` octets of records; memory is used as it is written to."""

    def __init__(self, slots: int, heap: int, clock: Callable[[], float] = time.monotonic) -> None:
        assert slots & (slots - 1) == 0
        self._table = memoryview(mmap.mmap(-1, slots * 8)).cast("Q")
        self._heap = mmap.mmap(-1, heap)
        self._mask, self._clock = slots - 1, clock
        self._top, self._used = 1, 0  # the unit where free space begins; entries that are not 0
        self._free: dict[int, deque[tuple[float, int]]] = {}  # size → (since, offset), oldest first
        self._withdrawn: set[bytes] = set()  # keys for whose final record there was no room
        self._fence = threading.Lock()

    @classmethod
    def for_records(cls, count: int, octets: int) -> Store:
        """A store that holds twice as many as `count` records of `octets` in all."""
        slots = max(_LEAST_SLOTS, 1 << (2 * count).bit_length())
        return cls(slots, max(_LEAST_HEAP, 2 * (octets + count * (record.BODY_AT + _UNIT))))

    def get(self, key: bytes, owner: bytes) -> bytes | None:
        """The packed record of `key`, if it is the owner's (see record.owner). For any process, at any time."""
        table, mask, heap = self._table, self._mask, self._heap
        (bits,) = _HASH.unpack_from(key, 12)
        mark, at, wanted = bits >> 56, bits & mask, key + owner
        while entry := table[at]:
            if entry >> 56 == mark:
                start = (entry & _OFFSET) << 4
                packed = heap[start : start + ((entry >> 28) & (_SIZE << 4))]
                if table[at] != entry:
                    continue  # replaced meanwhile: the copy may be of anything
                if packed[:_KEY_AND_OWNER] == wanted:
                    return packed
            at = (at + 1) & mask
        return None

    # --- for the one process that writes

    def put(self, new: Record) -> bool:
        """Publish `new` instead of what its key had; False where that is final and `new` is not. Raises Full, and then
        nothing has changed."""
        at, old = self._find(new.key)
        if not new.final and ((old and old.final) or new.key in self._withdrawn):
            return False
        packed = record.pack(new)
        units = _units(len(packed))
        offset = self._place(units)
        if self._table[at] == 0 and self._used + 1 > _FULL_TABLE * (self._mask + 1):
            raise Full("the table")
        self._heap[offset * _UNIT : offset * _UNIT + len(packed)] = packed
        self._publish(at, _entry(new.key, offset, units))
        self._withdrawn.discard(new.key)
        return True

    def withdraw(self, key: bytes) -> None:
        """Say of a certificate that is revoked neither good nor anything else, until its revoked answers come: also if none
        were there yet. Answers that say revoked stay."""
        at, old = self._find(key)
        if old and old.final:
            return
        issuer = old.issuer if old else NOBODY
        try:
            self.put(Record(key, issuer, True, 0, 0, b"", b""))
        except Full:
            self._withdrawn.add(key)
            if old:
                self._publish(at, _GONE)

    def remove(self, key: bytes) -> None:
        """Forget the record of `key`."""
        at, old = self._find(key)
        if old:
            self._publish(at, _GONE)

    def expired(self, before: int, start: int, slots: int) -> Iterator[bytes]:
        """Keys of certificates whose nextUpdate is before that Unix time, among `slots` entries from entry `start` on."""
        for at in range(start, min(start + slots, self._mask + 1)):
            found = self._record(self._table[at])
            if found and found.issuer != DOCUMENT and found.next_update < before:
                yield found.key

    @property
    def slots(self) -> int:
        return self._mask + 1

    @property
    def crowded(self) -> bool:
        """Whether it is time to make a bigger store, well before this one is full."""
        table = self._used > _CROWDED * _FULL_TABLE * (self._mask + 1)
        return table or self._top * _UNIT > _CROWDED * _FULL_HEAP * len(self._heap)

    def _find(self, key: bytes) -> tuple[int, Record | None]:
        """The slot of `key` and its record; the slot to use for it and None if there is none."""
        (bits,) = _HASH.unpack_from(key, 12)
        mark, at, vacant = bits >> 56, bits & self._mask, None
        while entry := self._table[at]:
            if entry == _GONE:
                vacant = at if vacant is None else vacant
            elif entry >> 56 == mark and (found := self._record(entry)) and found.key == key:
                return at, found
            at = (at + 1) & self._mask
        return at if vacant is None else vacant, None

    def _record(self, entry: int) -> Record | None:
        if entry in (0, _GONE):
            return None
        start = (entry & _OFFSET) * _UNIT
        return record.unpack(self._heap[start : start + (entry >> 32 & _SIZE) * _UNIT])

    def _place(self, units: int) -> int:
        """The offset of free space, in units."""
        freed = self._free.get(units)
        if freed and freed[0][0] + GRACE <= self._clock():
            return freed.popleft()[1]
        if (self._top + units) * _UNIT > len(self._heap):
            raise Full("the heap")
        self._top += units
        return self._top - units

    def _publish(self, at: int, entry: int) -> None:
        """The one moment in which readers go from the old record to the new one."""
        old = self._table[at]
        with self._fence:  # a lock's release orders the stores before it
            pass
        self._table[at] = entry
        self._used += old == 0
        if old not in (0, _GONE):
            self._free.setdefault(old >> 32 & _SIZE, deque()).append((self._clock(), old & _OFFSET))


def _entry(key: bytes, offset: int, units: int) -> int:
    return key[19] << 56 | units << 32 | offset


def _units(octets: int) -> int:
    units = -(-octets // _UNIT)
    if units < _LARGE:
        return units
    step = 1 << units.bit_length() - 4  # an eighth of the next lower power of two
    units = -(-units // step) * step
    if units > _SIZE:
        raise Full("a record of more than 256 MiB")
    return units
