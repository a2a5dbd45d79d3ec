"""Who does a periodic work now, so that two beats or workers do not do it twice.

Owns the Lease rows. A lease saves work, nothing depends on it: whoever works for longer than it lasts is joined by another,
and what both do is the same. It is known by its end, which the holder passes on with a message.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from .models import Lease


def take(name: str, now: datetime, period: timedelta) -> datetime | None:
    """The end of the lease from now on; None while somebody else holds it."""
    until = now + period
    Lease.objects.bulk_create([Lease(name=name, until=now)], ignore_conflicts=True)
    return until if Lease.objects.filter(name=name, until__lte=now).update(until=until) else None


def prolong(name: str, held: datetime, now: datetime, period: timedelta) -> datetime | None:
    """The new end of the lease that ends at `held`; None if another has taken it since."""
    until = now + period
    return until if Lease.objects.filter(name=name, until=held).update(until=until) else None


def give_back(name: str, held: datetime, now: datetime) -> None:
    """End the lease before its time."""
    Lease.objects.filter(name=name, until=held).update(until=now)
