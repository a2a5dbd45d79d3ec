"""What responders say of themselves in Redis: when each last looked at the database, and how far it had read the log by then.

Owns the hash that it is said in. Only a hint for who watches them: it may be lost, and whoever reaches Redis may write anything, of
which what cannot be read is passed over. Of a responder that is gone nothing is said after a day.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

import redis

HASH, EVERY = "quicklime:responders", 5.0  # seconds
_FORGOTTEN = 86_400.0  # seconds


class Heartbeat(NamedTuple):
    """`responder`: host and port; `at`: Unix time of its last look; `position`: of the last event that it has read."""

    responder: str
    at: float
    position: int


def say(client: redis.Redis, heartbeat: Heartbeat) -> None:
    """Raises RedisError."""
    client.hset(HASH, heartbeat.responder, json.dumps([heartbeat.at, heartbeat.position]))


def read(fields: Mapping[str, str], now: float) -> list[Heartbeat]:
    """The heartbeats in the hash's `fields`, by name."""
    found = [_read(name, text) for name, text in sorted(fields.items())]
    return [each for each in found if each and now - each.at < _FORGOTTEN]


def _read(name: str, text: str) -> Heartbeat | None:
    try:
        at, position = json.loads(text)
        return Heartbeat(name, float(at), int(position))
    except (ValueError, TypeError, OverflowError):
        return None
