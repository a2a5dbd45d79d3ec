"""Drills: orders to replace many certificates before a deadline, and how far each is (ca.mass_replacement).

What a completed order came to is read from its event; only of one that is under way are certificates counted, by their index.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.http import Http404, HttpRequest, HttpResponseBase

from ca import mass_replacement
from ca.models import Certificate, Replacement
from dashboard import access, charts
from dashboard.roles import Right
from eventlog.models import Event

from . import log
from .base import show

MOST, UNDER_WAY, WAITING = 50, 5, 100
COLUMNS = ("serial", "names", "service", "node", "owner", "not_after")


@dataclass(frozen=True, slots=True)
class Drill:
    """An order: `standing` in a word, `share` how much of it has a successor, in percent, and how many have none; None: not counted."""

    row: Replacement
    standing: str
    marked: int | None = None
    replaced: int | None = None

    @property
    def left(self) -> int | None:
        return None if self.marked is None or self.replaced is None else self.marked - self.replaced

    @property
    def share(self) -> int:
        return 100 * (self.replaced or 0) // (self.marked or 1)


@access.page(Right.SEE_ALL)
def drills(request: HttpRequest) -> HttpResponseBase:
    """GET drills/"""
    now, rows = datetime.now(UTC), list(Replacement.objects.order_by("-position")[:MOST])
    return show(request, "drills.html", {"drills": _drills(rows, now)}, now)


def _drills(rows: Sequence[Replacement], now: datetime) -> list[Drill]:
    ended = _completed([row.order for row in rows if row.completed_at])
    counted = [row.order for row in rows if row.completed_at is None][:UNDER_WAY]
    numbers = {order: (found.marked, found.replaced) for order in counted for found in [mass_replacement.progress(order, now)]}
    return [Drill(row, _standing(row, now), *(ended | numbers).get(row.order, (None, None))) for row in rows]


def _completed(orders: Sequence[str]) -> dict[str, tuple[int, int]]:
    events = Event.objects.filter(subject__in=orders, type="replacement.completed").values_list("subject", "body")
    found: dict[str, Mapping[str, Any]] = {order: json.loads(bytes(body))["data"] for order, body in events}
    return {order: (data["marked"], data["replaced"]) for order, data in found.items()}


def _standing(row: Replacement, now: datetime) -> str:
    if row.completed_at:
        return "completed"
    if row.marked_to < row.position:
        return "marking"
    return "past its deadline" if row.deadline < now else "under way"


@access.page(Right.SEE_ALL)
def one(request: HttpRequest, order: str) -> HttpResponseBase:
    """GET drills/{order}/"""
    now, row = datetime.now(UTC), Replacement.objects.filter(order=order).first()
    if row is None:
        raise Http404
    progress, waiting = mass_replacement.progress(order, now), _waiting(order, now)
    context = {
        "row": row,
        "standing": _standing(row, now),
        "spent": charts.share(row.ordered_at, row.deadline, now),
        "progress": progress,
        "share": 100 * progress.replaced // max(progress.marked, 1),
        "selection": list(row.selection.items()),
        "waiting": waiting,
        "more": progress.waiting - len(waiting),
        "events": log.about(order),
    }
    return show(request, "drill.html", context, now)


def _waiting(order: str, now: datetime) -> list[dict[str, Any]]:
    """Some of those that have no successor yet."""
    rows = Certificate.objects.filter(replacement=order, revoked_at=None, replaced_by=None, not_after__gte=now)
    return list(rows.values(*COLUMNS)[:WAITING])
