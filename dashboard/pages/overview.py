"""Whether the fleet is well, at a glance: what ends when, what was done lately, what runs, and what wants attention.

Every number comes from a projection that counts as it reads on; nothing here counts certificates.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect

from ca.hierarchy import SELF
from ca.models import Certificate
from dashboard import access, activity, charts, neighbours, services, vitals
from dashboard.models import Ending, Watched
from dashboard.roles import Right
from eventlog import head

from .base import is_partial, show

HORIZON, LATELY, URGENT = 60, 48, 20  # days, hours, rows
SOON, LONG_PAST = timedelta(days=7), timedelta(days=30)
COLUMNS = ("serial", "names", "service", "node", "owner", "not_after")


@access.page(Right.SEE)
def overview(request: HttpRequest) -> HttpResponseBase:
    """GET /dashboard/"""
    if access.own(request) is not None:
        return redirect("dashboard:certificates")  # these are numbers of the whole
    now = datetime.now(UTC)
    parts = vitals.parts(neighbours.health())
    days = _endings(now.date())
    attention, recent = _attention(now), activity.since(_hour(now) - timedelta(hours=LATELY - 1))
    context: dict[str, Any] = {
        "health": parts,
        "sick": [part for part in parts if not part.ok],
        "attention": attention,
        "numbers": _numbers(days, recent, now),
        "horizon": _horizon(days, now.date()),
        "rates": _rates(recent, now),
        "more": len(attention) == URGENT,
        "is_new": head.size() and not Certificate.objects.exclude(owner=SELF).exists(),
    }
    return show(request, "overview_live.html" if is_partial(request) else "overview.html", context, now)


def _hour(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0)


def _endings(today: date) -> dict[date, int]:
    rows = Ending.objects.filter(day__gte=today - LONG_PAST, day__lte=today + timedelta(days=HORIZON))
    return dict(rows.values_list("day", "count"))


def _numbers(days: dict[date, int], recent: dict[tuple[datetime, str], int], now: datetime) -> Sequence[tuple[str, int, str]]:
    """[(label, count, query of the certificates' page)]"""
    today, yesterday = now.date(), now - timedelta(hours=24)

    def lately(kind: str) -> int:
        return sum(count for (hour, each), count in recent.items() if each == kind and hour > yesterday)

    def ending(first: date, last: date) -> int:
        return sum(count for day, count in days.items() if first <= day <= last)

    return (
        ("end within 7 days", ending(today, today + SOON), "?expires=7"),
        ("end within 30 days", ending(today, today + timedelta(days=30)), "?expires=30"),
        ("ended unrenewed, 30 days", ending(today - LONG_PAST, today - timedelta(days=1)), "?status=expired"),
        ("issued in 24 h", lately(activity.ISSUED), ""),
        ("revoked in 24 h", lately(activity.REVOKED), "?status=revoked"),
        ("rejected in 24 h", lately(activity.REJECTED), ""),
    )


def _horizon(days: dict[date, int], today: date) -> charts.Chart:
    dates = [today + timedelta(days=number) for number in range(HORIZON + 1)]
    values = [(f"{day:%d %b}", [("ending", days.get(day, 0))]) for day in dates]
    return charts.columns(f"Certificates that end on each of the next {HORIZON} days, unless renewed", values, every=10)


_KINDS = (("issued", activity.ISSUED), ("revoked", activity.REVOKED), ("rejected", activity.REJECTED))


def _rates(recent: dict[tuple[datetime, str], int], now: datetime) -> charts.Chart:
    hours = [_hour(now) - timedelta(hours=number) for number in range(LATELY - 1, -1, -1)]
    values = [(f"{hour:%H:%M}", [(name, recent.get((hour, kind), 0)) for name, kind in _KINDS]) for hour in hours]
    return charts.columns(f"Issued, revoked and rejected in each of the last {LATELY} hours, UTC", values, every=6)


# --- What wants attention


def _attention(now: datetime) -> list[dict[str, Any]]:
    """The lines whose certificate ended or was flagged, the most pressing first: they ended lately, or end soon; then the nodes that
    were left behind and have more time."""
    watched = Watched.objects.filter(not_after__gte=now - LONG_PAST, not_after__lte=now + SOON).order_by("not_after")
    reached = dict(watched.exclude(reached="").values_list("serial", "reached")[:URGENT])
    rows = Certificate.objects.filter(serial__in=reached).order_by("not_after").values(*COLUMNS)
    laggards = services.laggards(services.View(None, None, now))
    behind = [{name: getattr(each, name) for name in COLUMNS} for each in laggards if each.serial not in reached]
    return [_with_words(row, reached.get(row["serial"], "left-behind")) for row in [*rows, *behind][:URGENT]]


def _with_words(row: dict[str, Any], threshold: str) -> dict[str, Any]:
    return {**row, "threshold": threshold.replace("-", " "), "tone": "bad" if threshold in ("expiring", "expired") else "warn"}
