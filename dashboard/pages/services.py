"""Services and their nodes: which generation each node runs, which were left behind, what was issued and never deployed.

Everything can be asked for an earlier moment (`?at=`), but what nodes serve: that is known for now alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.http import Http404, HttpRequest, HttpResponseBase

from ca.api.submissions import instant
from ca.checkins import NONE
from ca.errors import Problem
from dashboard import access, asking, services
from dashboard.models import Generation
from dashboard.roles import Right
from dashboard.services import After, Certificate, View

from .base import show

SIZE, LINES, URGENT = 50, 50, 10
_FROM_A_FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?", re.ASCII)
Seen = Mapping[str, tuple[str, datetime]]


@dataclass(frozen=True, slots=True)
class Word:
    """What a node last said that it serves for a line: a standing, its tone, the serial served if it is another one, and when."""

    says: str
    tone: str
    serial: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """What one node runs for one purpose: `cells` are its (certificate, status), oldest first, `earlier` how many came before them."""

    newest: Certificate
    status: str
    cells: Sequence[tuple[Certificate, str]]
    earlier: int
    word: Word | None


@access.page(Right.SEE_ALL)
def all_of_them(request: HttpRequest) -> HttpResponseBase:
    """GET services/"""
    now = datetime.now(UTC)
    context: dict[str, Any] = {"asked": {}}
    try:
        context["asked"] = asked = asking.parameters(request, ("at", "owner", "after"))
        view = _view(asked, now)
    except Problem as problem:
        return show(request, "services.html", {**context, "problem": problem}, now, status=400)
    context |= services.services(view, asked.get("after", ""), SIZE)._asdict()
    context |= {"laggards": services.laggards(view)[:URGENT], "counted": services.COUNTED, "past": view.at, "moment": view.moment}
    return show(request, "services.html", context, now)


@access.page(Right.SEE_ALL)
def one(request: HttpRequest, service: str) -> HttpResponseBase:
    """GET services/{service}/"""
    now = datetime.now(UTC)
    context: dict[str, Any] = {"name": service, "asked": {}}
    try:
        context["asked"] = asked = asking.parameters(request, ("at", "node", "after"))
        view = _view(asked, now)
        found = services.lines(view, service, _after(asked), LINES + 1, asked.get("node"))
    except Problem as problem:
        return show(request, "service.html", {**context, "problem": problem}, now, status=400)
    if not found and not Generation.objects.filter(service=service).exists():
        raise Http404
    context |= {"lines": _shown(found[:LINES], view), "after": found[LINES - 1][0].serial if len(found) > LINES else None}
    context |= {"counts": services.service(view, service), "laggards": services.laggards(view, service)[:URGENT]}
    return show(request, "service.html", {**context, "past": view.at, "moment": view.moment}, now)


def _view(asked: Mapping[str, str], now: datetime) -> View:
    """A form sends a moment without a zone: it says that UTC is meant."""
    text = asked.get("at")
    if text is None:
        return View(asked.get("owner"), None, now)
    found = _FROM_A_FORM.fullmatch(text)
    at = instant(f"{text}{'' if found[1] else ':00'}Z" if found else text, "at", "invalidParameter")
    return View(asked.get("owner"), at, now)


def _after(asked: Mapping[str, str]) -> After | None:
    """The node and serial of the certificate that the page before ended with. Raises Problem."""
    if "after" not in asked:
        return None
    row = Generation.objects.filter(serial=asked["after"]).values_list("node", "serial").first()
    if row is None:
        raise Problem("invalidParameter", "after is the serial that a page of this service ended with", "after")
    return After(*row)


# --- A line


def _shown(found: Sequence[Sequence[Certificate]], view: View) -> list[Line]:
    seen = services.seen([each.serial for line in found for each in line]) if view.at is None else {}
    return [_line(generations, seen, view.moment) for generations in found]


def _line(generations: Sequence[Certificate], seen: Seen, at: datetime) -> Line:
    cells = [(each, each.status(at)) for each in reversed(generations)]
    newest, status = cells[-1]
    return Line(newest, status, cells, cells[0][0].number - 1, _word(generations, seen))


def _word(generations: Sequence[Certificate], seen: Seen) -> Word | None:
    """The last that was said for any of them: a node that did not pick up the newest speaks for an older one."""
    said = [seen[each.serial] for each in generations if each.serial in seen]
    if not said:
        return None
    served, at = max(said, key=lambda word: word[1])
    if served == NONE:
        return Word("shows no certificate", "bad", at=at)
    if not served:
        return Word("nobody looks", "calm", at=at)
    newest = generations[0].serial
    return Word("serves it", "good", at=at) if served == newest else Word("not deployed", "bad", served, at)
