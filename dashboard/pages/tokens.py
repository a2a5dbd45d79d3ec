"""API tokens: who they speak for and what they may do. A list to read; making and revoking is the admin's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponseBase

from ca.errors import Problem
from ca.models import Token
from dashboard import access, asking
from dashboard.roles import Right

from .base import show

SIZE = 50
KNOWN = ("owner", "before")


@access.page(Right.SEE)
def tokens(request: HttpRequest) -> HttpResponseBase:
    """GET tokens/"""
    now = datetime.now(UTC)
    try:
        asked = asking.parameters(request, KNOWN)
        rows = _rows(asked, access.own(request))
    except Problem as problem:
        return show(request, "tokens.html", {"problem": problem, "asked": {}}, now, status=400)
    shown = [(row, _standing(row, now)) for row in rows[:SIZE]]
    return show(
        request, "tokens.html", {"tokens": shown, "asked": asked, "older": rows[SIZE - 1].position if len(rows) > SIZE else None}, now
    )


def _rows(asked: Mapping[str, str], own: frozenset[str] | None) -> list[Token]:
    found: Any = Token.objects.order_by("-position") if own is None else Token.objects.filter(owner__in=own).order_by("-position")
    if "owner" in asked:
        found = found.filter(owner=asked["owner"])
    before = asking.number(asked.get("before"), "before")
    return list((found.filter(position__lt=before) if before else found)[: SIZE + 1])


def _standing(token: Token, now: datetime) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "live" if token.is_live(now) else "expired"
