"""The installation's health in words: one line for each part that an operator knows.

Owns the words for what /readyz says in numbers; what is well and what is not, the checks themselves decide.
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
    known = [Part(name, bool(report[key]["ok"]), says(report[key])) for key, name, says in _WORDS if key in report]
    others = [Part(key, bool(check["ok"]), _plain(check)) for key, check in report.items() if key not in _KEYS]
    return known + others


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


def _beat(check: Check) -> str:
    return "never seen" if check["seconds_ago"] is None else f"{check['seconds_ago']:g} s ago"


def _projections(check: Check) -> str:
    if check["stopped"]:
        return f"stopped: {', '.join(check['stopped'])}"
    behind = sum(check["behind"].values())
    return f"{behind:,} events behind" if behind else "all at the log's end"


def _lint(check: Check) -> str:
    return f"refused: {'; '.join(check['failed'])}" if check["failed"] else "every shape passes"


def _plain(check: Check) -> str:
    said = check.get("error") or check.get("detail")
    return str(said) if said else ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in check.items() if name != "ok")


_WORDS: tuple[tuple[str, str, Callable[[Check], str]], ...] = (
    ("requests", "Pipeline", _pipeline),
    ("ocsp", "OCSP", _ocsp),
    ("crl", "CRL", _crl),
    ("renewals", "Renewals", _renewals),
    ("log", "Log", lambda check: check.get("error", "continues its checkpoints")),
    ("beat", "Beat", _beat),
    ("projections", "Projections", _projections),
    ("shapes", "Lint", _lint),
    ("database", "Database", lambda check: check.get("error") or f"{check['milliseconds']:g} ms"),
    ("redis", "Redis", lambda check: check.get("error") or "answers"),
)
_KEYS = frozenset(key for key, _, _ in _WORDS)
