"""The installation's health in words: one line for each part that an operator knows.

Owns the words for what /readyz says in numbers; what is well and what is not, the checks themselves decide. What is "late" is not well
to operators, and no reason to send clients elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

Check = Mapping[str, Any]


class Part(NamedTuple):
    """A part of the installation, whether it is well, and the number that says so."""

    name: str
    ok: bool
    says: str


def parts(report: Mapping[str, Check]) -> list[Part]:
    """The report's checks in the order of the table, then those the table does not know."""
    known = [Part(name, _is_well(report[key]), says(report[key])) for key, name, says in _WORDS if key in report]
    others = [Part(key, _is_well(check), _plain(check)) for key, check in report.items() if key not in _KEYS]
    return known + others


def _is_well(check: Check) -> bool:
    return bool(check["ok"]) and not check.get("late")


def _pipeline(check: Check) -> str:
    if not check["unfinished"]:
        return "nothing waits"
    return f"{check['unfinished']:,} in flight, the oldest for {check['oldest_seconds']:g} s"


def _ocsp(check: Check) -> str:
    late = check.get("overdue_seconds") or check.get("missing_seconds") or check.get("revoked_unsigned_seconds")
    if late:
        return f"{late:g} s late"
    return f"good until {_moment(check['next_update'])}" if check.get("next_update") else "nothing to answer for"


def _crl(check: Check) -> str:
    if check["overdue"]:
        return f"{check['overdue']} overdue"
    return f"next by {_moment(check['next_update'])}" if check["next_update"] else "none yet"


def _moment(text: str) -> str:
    """ "26 Nov 10:54" of an RFC 3339 time in UTC."""
    return f"{datetime.fromisoformat(text):%d %b %H:%M}"


def _renewals(check: Check) -> str:
    return (
        f"{check['left_behind']:,}{' or more' if check['or_more'] else ''} nodes left behind"
        if check["left_behind"]
        else "no node left behind"
    )


def _responders(check: Check) -> str:
    if not check["seconds_ago"]:
        return "none says anything"
    longest = max(check["seconds_ago"].values())
    return f"{len(check['seconds_ago'])}, up to date {longest:g} s ago"


def _workers(check: Check) -> str:
    waiting = sum(check["waiting"].values())
    if not check["ok"]:
        return f"none takes up work, {waiting:,} messages wait"
    return f"{waiting:,} messages wait" if waiting else "nothing waits"


def _log(check: Check) -> str:
    if check.get("error"):
        return str(check["error"])
    return f"{check['uncovered']:,} events without checkpoint" if not check["ok"] else "continues its checkpoints"


def _reminders(check: Check) -> str:
    if check["refused"]:
        return f"{check['refused']:,} refused, {check['waiting']:,} due"
    return f"{check['waiting']:,} due" if check["waiting"] else "nobody is to be told"


def _beat(check: Check) -> str:
    return "never seen" if check["seconds_ago"] is None else f"{check['seconds_ago']:g} s ago"


def _projections(check: Check) -> str:
    if check["stopped"]:
        return f"stopped: {', '.join(check['stopped'])}"
    behind = sum(check["behind"].values())
    return f"{behind:,} events behind" if behind else "all at the log's end"


def _lint(check: Check) -> str:
    return f"refused: {'; '.join(check['failed'])}" if check["failed"] else "every shape passes"


def _backups(check: Check) -> str:
    if check["seconds_ago"] is None:
        return "none is known"
    events = check["events_since"]
    return f"{_ago(check['seconds_ago'])} ago, {events:,} event{'' if events == 1 else 's'} since"


def _ago(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _plain(check: Check) -> str:
    said = check.get("error") or check.get("detail")
    return str(said) if said else ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in check.items() if name != "ok")


_WORDS: tuple[tuple[str, str, Callable[[Check], str]], ...] = (
    ("requests", "Pipeline", _pipeline),
    ("ocsp", "OCSP", _ocsp),
    ("crl", "CRL", _crl),
    ("responders", "Responders", _responders),
    ("renewals", "Renewals", _renewals),
    ("reminders", "Reminders", _reminders),
    ("log", "Log", _log),
    ("backups", "Backups", _backups),
    ("workers", "Workers", _workers),
    ("beat", "Beat", _beat),
    ("projections", "Projections", _projections),
    ("shapes", "Lint", _lint),
    ("database", "Database", lambda check: check.get("error") or f"{check['milliseconds']:g} ms"),
    ("redis", "Redis", lambda check: check.get("error") or "answers"),
)
_KEYS = frozenset(key for key, _, _ in _WORDS)
