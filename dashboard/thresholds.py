"""When a certificate is worth a word: the table of thresholds.

Owns the table and what a moment is. Pure: the time is an argument. Agents renew between 62 and 72 % of life
(quicklime_client.schedule), so that who renews reaches none of these, however short its certificates live.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from ca.profiles import PROFILES, RENEWED_BY, RENEWED_LEFT, late

SILENT = timedelta(days=30)  # after its end: nobody waits for it any more, and a log that was imported rings for no ancient ones


@dataclass(frozen=True, slots=True)
class Threshold:
    """Reached at `percent` of the whole life, but not while more than `left` of it is left."""

    name: str
    percent: int
    left: timedelta


_STANDARD = (
    Threshold("renewal-missed", RENEWED_BY, RENEWED_LEFT),
    Threshold("expiring", 95, timedelta(days=7)),
    Threshold("expired", 100, timedelta(0)),
)
_SHORT = (Threshold("renewal-missed", RENEWED_BY, RENEWED_LEFT), Threshold("expiring", 90, timedelta(days=1)), _STANDARD[-1])

# profile → its thresholds, gravest last. What the CA asks for itself (not requestable) it looks after itself.
THRESHOLDS: Mapping[str, tuple[Threshold, ...]] = MappingProxyType(
    {name: _STANDARD for name, profile in PROFILES.items() if profile.requestable} | {"short-lived": _SHORT}
)
NAMES = tuple(threshold.name for threshold in _STANDARD)  # of every profile, in this order


def moment(threshold: Threshold, not_before: datetime, not_after: datetime) -> datetime:
    """When a certificate reaches the threshold."""
    return late(not_before, not_after, threshold.percent, threshold.left)


def reached(profile: str, not_before: datetime, not_after: datetime, now: datetime) -> str:
    """The gravest threshold reached at `now`; "" before the first, or for a profile that is not watched."""
    found = [each.name for each in THRESHOLDS.get(profile, ()) if moment(each, not_before, not_after) <= now]
    return found[-1] if found else ""


def next_moment(profile: str, not_before: datetime, not_after: datetime, after: str) -> datetime | None:
    """When the next threshold beyond `after` ("": the first) is reached; None if there is none."""
    for threshold in THRESHOLDS.get(profile, ()):
        if graver(threshold.name, after):
            return moment(threshold, not_before, not_after)
    return None


def graver(name: str, than: str) -> bool:
    """Whether the threshold `name` comes after `than`; "" is before all."""
    return _rank(name) > _rank(than)


def _rank(name: str) -> int:
    return NAMES.index(name) if name else -1
