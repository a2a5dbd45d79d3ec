"""A fleet of agents, simulated: when each of them turns to the server, as the client's own schedule has it.

Owns the simulation. It moves the time from one act of an agent to the next, so that days take seconds; what an agent decides is asked of
quicklime_client.schedule, whose functions take the time and chance as arguments. Takes every attempt to be answered at once, and
none while the server is away: what a server makes of so many is measured elsewhere.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from quicklime_client import schedule

START = datetime(2030, 1, 1, tzinfo=UTC)
BACKDATE = timedelta(minutes=1)  # of the profile, as of the life below
Away = Callable[[datetime], bool]


@dataclass
class Attempts:
    """By minute since START: what was granted and what met nobody. `late`: how long after its moment each renewal was granted;
    `left`: the shortest life that a certificate had left when it was renewed; `expired`: how many had none."""

    granted: Counter[int] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    last_overdue: datetime = START
    left: timedelta = timedelta.max
    expired: int = 0


@dataclass
class _Agent:
    not_after: datetime
    renew_at: datetime
    failures: int = 0


def renewals(count: int, life: timedelta, roll_out: timedelta, end: timedelta, away: Away, seed: int) -> Attempts:
    """`count` agents that were enrolled within `roll_out`, until START + `end`."""
    chance, seen = random.Random(seed).uniform, Attempts()
    agents = [_issued(START + roll_out * chance(0, 1), life, chance) for _ in range(count)]
    heap = [(agent.renew_at, number) for number, agent in enumerate(agents)]
    heapq.heapify(heap)
    while heap[0][0] < START + end:
        now, number = heapq.heappop(heap)
        if away(now):
            agents[number].failures += 1
            seen.refused[minute(now)] += 1
            retry_at = schedule.retry_at(agents[number].failures, None, agents[number].not_after, now, chance)
            heapq.heappush(heap, (retry_at, number))
        else:
            _grant(seen, agents[number], now)
            agents[number] = _issued(now, life, chance)
            heapq.heappush(heap, (agents[number].renew_at, number))
    return seen


def _issued(now: datetime, life: timedelta, chance: schedule.Chance) -> _Agent:
    not_before = now - BACKDATE
    not_after = not_before + life - timedelta(seconds=1)
    return _Agent(not_after, schedule.renew_at(not_before, not_after, chance))


def _grant(seen: Attempts, agent: _Agent, now: datetime) -> None:
    seen.granted[minute(now)] += 1
    seen.left = min(seen.left, agent.not_after - now)
    seen.expired += now > agent.not_after
    if agent.failures:
        seen.last_overdue = max(seen.last_overdue, now)


def check_ins(count: int, begin: timedelta, end: timedelta, away: Away, seed: int) -> Attempts:
    """The check-ins of `count` agents that look what is served, each every schedule.LOOK from a moment of its own, between START + `begin`
    and START + `end`; one that meets nobody is repeated as the schedule says."""
    seen = Attempts()
    chance = random.Random(seed).uniform
    for _ in range(count):
        for now in _passes(begin, end, away, chance):
            (seen.refused if away(now) else seen.granted)[minute(now)] += 1
    return seen


def _passes(begin: timedelta, end: timedelta, away: Away, chance: schedule.Chance) -> Iterator[datetime]:
    """The looks at which one agent checks in."""
    now = START + begin + schedule.LOOK * chance(0, 1)
    due = now
    while now < START + end:
        if now >= due:
            yield now
            due = schedule.check_in_again_at(now, chance) if away(now) else schedule.check_in_at(True, now, chance)
        now += schedule.LOOK


def minute(now: datetime) -> int:
    """Whole minutes since START."""
    return (now - START) // timedelta(minutes=1)
