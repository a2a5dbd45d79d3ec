"""How many are to be waited for, who share a batch, and for how long.

Owns that guess, by the sizes of the batches just before: for the group commit at the door, and for validate. It is never a fact:
clients may have gone, so whoever waits has a limit.
"""

from __future__ import annotations

from collections import deque

PAUSE, EACH = 0.004, 0.002  # seconds: from one look to the next, and for each that is expected
_KEPT = 4  # sizes: a small batch among large ones lowers nothing, and when load falls a few wait in vain


def patience(expected: int, most: float) -> float:
    """Seconds in which so many come, and never more than `most`."""
    return min(expected * EACH, most)


class Expectation:
    """The largest of the last few sizes, until `seconds` after the newest. Times are of the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._sizes: deque[int] = deque(maxlen=_KEPT)
        self._until = 0.0

    def number(self, now: float) -> int:
        """How many are likely to come together; 1 where nothing says more."""
        return max(self._sizes) if now < self._until else 1

    def came(self, number: int, now: float) -> None:
        """A batch of `number` has come together."""
        if now >= self._until:
            self._sizes.clear()
        self._sizes.append(number)
        self._until = now + self._seconds
