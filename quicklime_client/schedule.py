"""When to renew and when to try again.

Owns the numbers. Pure: the time is an argument, and so is chance, so that a test can hold both still.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from secrets import SystemRandom

Chance = Callable[[float, float], float]  # uniform between two numbers
chance: Chance = SystemRandom().uniform

RENEW_AT, SPREAD = 2 / 3, 1 / 20  # of the whole life; the spread to either side keeps a fleet from renewing in one moment
ALARM_AT = 5 / 6  # of the whole life: half the time that was kept for renewing is over
FIRST, CAP, LATE_CAP = timedelta(seconds=30), timedelta(hours=1), timedelta(minutes=5)  # between two attempts
LOOK = timedelta(minutes=5)  # the longest time between two looks of the agent at its state
SEEN, UNSEEN = timedelta(minutes=1), timedelta(hours=1)  # between two check-ins, where somebody looks what is served, and elsewhere
EARLY = 3 / 4  # of the time to a deadline that renewals are spread over; the rest is for those that fail at first


def renew_at(not_before: datetime, not_after: datetime, chance: Chance = chance) -> datetime:
    """Around two thirds of life. Chosen once for each certificate and kept, so that a restart does not choose again."""
    return not_before + (not_after - not_before) * chance(RENEW_AT - SPREAD, RENEW_AT + SPREAD)


def retry_at(failures: int, asked: float | None, not_after: datetime | None, now: datetime, chance: Chance = chance) -> datetime:
    """When to try again after `failures` attempts in a row. Doubles up to an hour, or to less when little life is left, and is
    cut by up to half by chance, so that nodes which failed together do not return together. `asked`: the seconds of a
    Retry-After (RFC 9110 §10.2.3), of which a little more is waited, but never so much that the certificate would expire."""
    left = max(not_after - now, timedelta()) if not_after else timedelta.max / 10
    cap = min(CAP, max(LATE_CAP, left / 10))
    own = min(cap, FIRST * (1 << min(failures - 1, 10))) * chance(0.5, 1)
    wished = timedelta(seconds=min(asked or 0, 366 * 86_400)) * chance(1, 1.25)
    return now + max(own, min(wished, max(cap, left / 4)))


def early(renew_at: datetime, replace_by: datetime, now: datetime, chance: Chance = chance) -> datetime:
    """When to renew a certificate that is to be replaced before `replace_by`: any moment within EARLY of the time until then, so that
    a fleet that is told at once does not come at once. What is planned within it stays, so asking again changes nothing."""
    spread = max(replace_by - now, timedelta()) * EARLY
    return renew_at if renew_at <= now + spread else now + spread * chance(0, 1)


def check_in_at(looked: bool, now: datetime, chance: Chance = chance) -> datetime:
    """When to check in next after one that was heard: at the next look where somebody looks what is served, else after an hour or so."""
    return now + (SEEN if looked else UNSEEN * chance(0.75, 1.25))


def check_in_again_at(now: datetime, chance: Chance = chance) -> datetime:
    """When to check in next after one that was not heard."""
    return now + LOOK * chance(1, 6)


def is_due(planned: datetime, since: datetime, now: datetime) -> bool:
    """Whether what was `planned` at the time `since` is due. Also if `since` lies ahead: then the clock was set back, and
    waiting for `planned` could take for ever."""
    return now >= planned or now < since
