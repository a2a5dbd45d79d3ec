"""How often one token, and one address with wrong tokens or wrong secrets, may call. Counted in each web process by itself.

Owns the counts. Must never be a reason for an answer to differ in anything but 429: a limit that is passed changes nothing. Nor
keep a holder out: strangers may share the address, so a right secret or proof is never asked to wait. Wrong ones are; what keeps
them from being guessed is their length, not the wait.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from ca.errors import Problem

if TYPE_CHECKING:
    from rest_framework.views import APIView  # at run time it imports this module

FAILURES, FAILURES_PER_SECOND = 20, 0.5
GUESSES, GUESSES_PER_SECOND = 5, 1 / 60  # at the secret of one certificate
ALL_GUESSES, ALL_GUESSES_PER_SECOND = 50, 0.5
REMEMBERED = 10_000  # keys; beyond them the one longest unused starts afresh


class Buckets:
    """One token bucket for each key: `burst` at once, `rate` a second in the long run. Safe for threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable, rate: float, burst: float) -> float:
        """Take one. 0.0 if it was there, else the seconds until it will be."""
        with self._lock:
            level, now = self._level(key, rate, burst)
            taken = level >= 1
            self._levels[key] = (level - 1 if taken else level, now)
            self._levels.move_to_end(key)
            if len(self._levels) > REMEMBERED:
                self._levels.popitem(last=False)
        return 0.0 if taken else (1 - level) / rate

    def wait(self, key: Hashable, rate: float, burst: float) -> float:
        """The seconds until one will be there, without taking it."""
        with self._lock:
            level, _ = self._level(key, rate, burst)
        return max(0.0, (1 - level) / rate)

    def _level(self, key: Hashable, rate: float, burst: float) -> tuple[float, float]:
        now = self._clock()
        level, at = self._levels.get(key, (burst, now))
        return min(burst, level + (now - at) * rate), now

    def clear(self) -> None:
        """Forget every key."""
        with self._lock:
            self._levels.clear()


failures, calls, guesses, all_guesses = Buckets(), Buckets(), Buckets(), Buckets()


def network(address: str) -> str:
    """What counts as one address: all of it in IPv4, the /64 that one host may pick from in IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address  # a unix socket has none
    return address if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))


def failure_wait(address: str) -> float:
    """Seconds that `address` has to wait after its failed attempts; 0.0 if it need not."""
    return failures.wait(network(address), FAILURES_PER_SECOND, FAILURES)


def count_failure(address: str) -> None:
    """`address` sent a token that is none."""
    failures.take(network(address), FAILURES_PER_SECOND, FAILURES)


def check_guess(serial: str, address: str) -> None:
    """`address` sent a secret or proof that is not of the certificate `serial`, which need not exist. Counts that, or raises
    Problem if there were too many, for this certificate or for any."""
    here = network(address)
    wait = max(guesses.wait((serial, here), GUESSES_PER_SECOND, GUESSES), all_guesses.wait(here, ALL_GUESSES_PER_SECOND, ALL_GUESSES))
    if wait:
        raise Problem("tooManyRequests", "too many wrong secrets or proofs from this address", retry_after=math.ceil(wait))
    guesses.take((serial, here), GUESSES_PER_SECOND, GUESSES)
    all_guesses.take(here, ALL_GUESSES_PER_SECOND, ALL_GUESSES)


class TokenRate(BaseThrottle):
    """settings.RATE calls a second for each token."""

    _wait = 0.0

    def allow_request(self, request: Request, view: APIView) -> bool:
        caller: Any = request.auth
        if caller is not None:
            self._wait = calls.take(caller.grant.token, settings.RATE, settings.RATE)
        return self._wait == 0.0

    def wait(self) -> float:
        return self._wait
