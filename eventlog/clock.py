"""Whether this host's clock may date what is signed: it must agree with the database server's, which all hosts share.

Owns that comparison. Where the database is a file there is one host and one clock, and nothing to compare.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from django.db import connection

SKEW = timedelta(minutes=5)
_FRESH = 1.0  # seconds for which the server is not asked again
_seen: tuple[datetime, float] | None = None  # what the server's clock said, and the monotonic clock then


class ClockApart(Exception):
    """This host's clock and the database server's differ by more than SKEW: what one of them dates is wrong."""


def check(now: datetime) -> None:
    """Raises ClockApart unless `now`, this host's time, is the database server's. At most one statement a second."""
    server = _server_now()
    if server is not None and abs(now - server) > SKEW:
        raise ClockApart(
            f"this host's clock says {now:%Y-%m-%dT%H:%M:%SZ}, the database server's {server:%Y-%m-%dT%H:%M:%SZ}: "
            "nothing is signed here; set the clock that is wrong"
        )


def _server_now() -> datetime | None:
    """None on SQLite."""
    global _seen
    if connection.vendor != "postgresql":
        return None
    if _seen is None or time.monotonic() - _seen[1] >= _FRESH:
        _seen = _asked(), time.monotonic()
    said, at = _seen
    return said + timedelta(seconds=time.monotonic() - at)


def _asked() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")  # now() is when the transaction began
        found: datetime = cursor.fetchone()[0]
    return found
