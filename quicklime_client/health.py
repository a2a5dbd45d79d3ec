"""How well this node's certificates are, for people and for monitoring.

Owns the judgement. Pure but for a look at the files in place; asks no server, so that it answers when the server is away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

from . import pairs, schedule
from .failures import Failure, told
from .records import Pair, Record, Reported
from .store import Store


class Level(IntEnum):
    """Exit statuses, as monitoring plugins have them."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


_GRAVITY = (Level.OK, Level.WARNING, Level.UNKNOWN, Level.CRITICAL)  # what is certainly bad outweighs what nobody knows


@dataclass(frozen=True)
class Finding:
    """One certificate's level and the remarks that explain it. `record`: None if it cannot be read."""

    label: str
    record: Record | None
    level: Level
    remarks: tuple[str, ...]


def worst(findings: list[Finding]) -> Level:
    """The exit status for all; UNKNOWN for none at all, as then nobody knows whether something should be there."""
    return max((finding.level for finding in findings), key=_GRAVITY.index, default=Level.UNKNOWN)


def judged(store: Store, now: datetime) -> list[Finding]:
    """A finding for every certificate of the state directory."""
    return [_judged(store, label, now) for label in store.labels()]


def _judged(store: Store, label: str, now: datetime) -> Finding:
    try:
        record = store.load(label)
        remarks = list(judge(record, now))
    except (Failure, OSError) as error:
        return Finding(label, None, Level.UNKNOWN, (told(error),))
    return Finding(label, record, max((level for level, _ in remarks), default=Level.OK), tuple(text for _, text in remarks))


def judge(record: Record, now: datetime) -> Iterator[tuple[Level, str]]:
    """What is wrong with one certificate, if anything."""
    if record.current is None:
        yield Level.CRITICAL, "no certificate yet"
    else:
        yield from _life(record.current, now)
        if record.revoked_at:
            yield Level.CRITICAL, f"revoked at {record.revoked_at:%Y-%m-%d %H:%M} UTC"
        elif not pairs.in_place(record):
            yield Level.CRITICAL, f"not in place below {record.place.out}"
        yield from _deployed(record, record.current)
    if record.trouble:
        yield Level.WARNING, record.trouble.message
    if record.reported and record.reported.replaced_by and not record.pending:
        yield Level.WARNING, "it was renewed elsewhere: this state is an old copy, or two nodes share one; `quicklime request --new`"


def _life(pair: Pair, now: datetime) -> Iterator[tuple[Level, str]]:
    life = pair.not_after - pair.not_before
    if now > pair.not_after:
        yield Level.CRITICAL, "expired"
    elif now >= pair.not_before + life * schedule.ALARM_AT:
        yield Level.CRITICAL, "should have been renewed long ago: less than a sixth of its life is left"
    elif now >= pair.renew_at + life * schedule.SPREAD:
        yield Level.WARNING, "renewal is overdue: does the agent run?"


def _deployed(record: Record, pair: Pair) -> Iterator[tuple[Level, str]]:
    if record.reload_due:
        yield Level.WARNING, "the service was not yet told of it"
    if record.served and record.served.error:
        yield Level.WARNING, f"nothing is served at {record.place.serves}: {record.served.error}"
    elif record.served and record.served.serial != pair.serial:
        yield Level.WARNING, f"issued but not deployed: {record.place.serves} serves {record.served.serial}"


def as_dict(finding: Finding) -> dict[str, Any]:
    """For --json: times RFC 3339 UTC, no secrets."""
    shown: dict[str, Any] = {"label": finding.label, "level": finding.level.name.lower(), "remarks": list(finding.remarks)}
    if finding.record is None:
        return shown
    record, pair = finding.record, finding.record.current
    shown |= {"names": [*record.wanted.names, *record.wanted.ips], "service": record.wanted.service, "node": record.wanted.node}
    shown |= {"profile": record.wanted.profile, "layout": record.place.layout, "directory": f"{record.place.out}/current"}
    shown |= _pair(pair) if pair else {}
    shown |= {"pending": record.pending is not None, "reload_due": record.reload_due, "revoked_at": _time(record.revoked_at)}
    trouble, seen = record.trouble, record.served
    shown["last_error"] = trouble and {"message": trouble.message, "failures": trouble.failures, "retry_at": _time(trouble.retry_at)}
    shown["check_in"] = record.reported and _check_in(record.reported)
    shown["served"] = seen and {"serial": seen.serial, "error": seen.error, "at": _time(seen.at)}
    return shown


def _check_in(last: Reported) -> dict[str, Any]:
    shown = {"at": _time(last.at), "status": last.status, "replaced_by": last.replaced_by}
    return {**shown, "replace_by": _time(last.replace_by), "error": last.error}


def _pair(pair: Pair) -> dict[str, Any]:
    times = {"not_before": pair.not_before, "not_after": pair.not_after, "renew_at": pair.renew_at}
    return {"serial": pair.serial, "generation": pair.generation, **{name: _time(time) for name, time in times.items()}}


def _time(time: datetime | None) -> str | None:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ") if time else None
