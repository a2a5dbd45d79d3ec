"""How many requests each server of a host has answered, by outcome, in memory that the feeder shares with them.

Owns the memory. Each row has one writer, which counts in a list of its own and writes it here once a second; every number is one
aligned 8-byte store, as in store.py. A server that takes another's place goes on from its row.
"""

from __future__ import annotations

import mmap

from .answers import OUTCOMES

_WIDTH = len(OUTCOMES)


class Tally:
    """A row for each of so many servers."""

    def __init__(self, servers: int) -> None:
        self._all = memoryview(mmap.mmap(-1, servers * _WIDTH * 8)).cast("Q")

    def row(self, place: int) -> memoryview[int]:
        """By the place of an outcome in OUTCOMES."""
        return self._all[place * _WIDTH : (place + 1) * _WIDTH]

    def totals(self) -> list[int]:
        """Of all servers, by outcome."""
        return [sum(self._all[at::_WIDTH]) for at in range(_WIDTH)]
