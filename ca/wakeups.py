"""The two hints that Redis carries between processes besides Celery's messages: "a wake-up is already on its way" and
"these requests are done".

Nothing here is a truth: every function may fail or lie when Redis is away, and callers go on. The rows in the database
say what is waiting and what is done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from functools import cache

import redis
from django.conf import settings

log = logging.getLogger(__name__)
_PENDING, DONE = "quicklime:wake", "quicklime:done"
_SPARED = 1.0  # seconds
_silent_until = 0.0  # on the monotonic clock: when a Redis that took connections and did not answer is asked again


@cache
def client() -> redis.Redis:
    """This process's, for all of its threads; half a second is all that a hint may cost."""
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.5, socket_connect_timeout=0.5, retry=None)


def claim_wake_up() -> bool:
    """True for the one caller that should wake the pipeline; the claim ends when `validate` starts, or after a second
    in case the wake-up was lost. Raises redis.RedisError when Redis is away; at once if it did not answer a moment ago, as
    submissions queue behind the one that asks."""
    global _silent_until
    if time.monotonic() < _silent_until:
        raise redis.TimeoutError("it did not answer a moment ago")
    try:
        return bool(client().set(_PENDING, 1, nx=True, px=1000))
    except redis.TimeoutError:
        _silent_until = time.monotonic() + _SPARED
        raise


def wake_up_arrived() -> None:
    """From here on the next submission wakes the pipeline again: this run may look before that row is there."""
    try:
        client().delete(_PENDING)
    except redis.RedisError as error:
        log.warning("could not clear the pending wake-up: %s", error)


def announce_done(requests: Iterable[object]) -> None:
    """Tell waiting web processes that these request ids are issued or rejected. Lost messages cost them a second."""
    ids = "\n".join(str(request) for request in requests)
    if not ids:
        return
    try:
        client().publish(DONE, ids)
    except redis.RedisError as error:
        log.warning("could not announce finished requests: %s", error)
