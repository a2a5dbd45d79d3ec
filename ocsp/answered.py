"""How many requests responders have answered, by outcome, added up in Redis over all hosts and restarts.

Owns the hash that they are added up in. As with other counts (decision 0030), what Redis loses begins at zero again, and who
reaches Redis may write anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import redis

from .responder.answers import OUTCOMES

HASH = "quicklime:answered"  # outcome → count


class Adding:
    """Adds what has come to `totals`, by outcome, since the last time; at first 0, so that the first of a kind is an increase."""

    def __init__(self, totals: Callable[[], list[int]]) -> None:
        self._totals = totals
        self._added: list[int] | None = None
        self._adding = threading.Lock()

    def add(self, client: redis.Redis) -> None:
        """Raises RedisError; then it is added the next time."""
        with self._adding:
            totals = self._totals()
            if totals == self._added:
                return
            with client.pipeline() as pipe:
                for outcome, total, before in zip(OUTCOMES, totals, self._added or [0] * len(totals), strict=True):
                    pipe.hincrby(HASH, outcome, total - before)
                pipe.execute()
            self._added = totals
