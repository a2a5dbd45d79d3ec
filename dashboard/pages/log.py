"""The log: searched by type and subject, followed while it grows, and one event with its proof.

A look by type walks WINDOW positions at a time, as only position and subject have an index.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase

from ca.errors import Problem
from dashboard import access, asking, evidence
from dashboard.roles import Right
from eventlog import checkpoints, head, saved, schemas
from eventlog.events import rfc3339
from eventlog.models import Event

from .base import is_partial, show

SIZE, WINDOW, ABOUT = 50, 5_000, 50
KNOWN = ("type", "subject", "before", "live")
LARGEST_CHECKPOINT = 10_000  # bytes; one has about 200


@dataclass(frozen=True, slots=True)
class Line:
    """An event in a list: `summary` are its most telling fields."""

    position: int
    time: datetime
    type: str
    subject: str
    summary: str
    serial: str | None


@access.page(Right.SEE_ALL)
def log(request: HttpRequest) -> HttpResponseBase:
    """GET log/"""
    context: dict[str, Any] = {"types": schemas.types(), "asked": {}, "newest": checkpoints.latest(), "size": head.size()}
    try:
        context["asked"] = asked = asking.parameters(request, KNOWN)
        context |= _found(asked, context["size"])
    except Problem as problem:
        return show(request, "log.html", {**context, "problem": problem}, status=400)
    return show(request, "log_rows.html" if is_partial(request) else "log.html", context)


def _found(asked: Mapping[str, str], size: int) -> dict[str, Any]:
    before = asking.number(asked.get("before"), "before") or size + 1
    kind = asking.choice(asked.get("type"), schemas.types(), "type")
    events, floor = Event.objects.filter(position__lt=before), 1
    if "subject" in asked:
        events = events.filter(subject=asked["subject"])
    elif kind:
        floor = max(1, min(before, size + 1) - WINDOW)
        events = events.filter(position__gte=floor)
    lines = _lines(events.filter(type=kind) if kind else events, SIZE + 1)
    if len(lines) > SIZE:
        return {"lines": lines[:SIZE], "older": lines[SIZE - 1].position}
    return {"lines": lines, "older": floor if floor > 1 else None, "window": WINDOW}


def _lines(events: QuerySet[Event], limit: int) -> list[Line]:
    rows = events.order_by("-position").values_list("position", "time", "type", "subject", "body")[:limit]
    return [_line(position, time, kind, subject, bytes(body)) for position, time, kind, subject, body in rows]


def _line(position: int, time: datetime, kind: str, subject: str, body: bytes) -> Line:
    data = json.loads(body)["data"]
    return Line(position, time, kind, subject, _summary(data), data.get("serial"))


_TELLING = ("names", "name", "label", "reason", "code", "detail", "service", "node", "owner", "profile", "issuer", "by", "why")
_LONGEST = 160


def _summary(data: Mapping[str, Any]) -> str:
    parts = (_text(data[name]) for name in _TELLING if data.get(name))
    text = " · ".join(parts)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def about(*subjects: str) -> list[Line]:
    """The newest events about any of the subjects, newest first."""
    return _lines(Event.objects.filter(subject__in=subjects), ABOUT)


@access.page(Right.SEE_ALL)
def event(request: HttpRequest, position: int) -> HttpResponseBase:
    """GET log/{position}/"""
    row = Event.objects.filter(position=position).first() if position < 1 << 63 else None
    if row is None:
        raise Http404
    body = bytes(row.body)
    context = {
        "event": row,
        "line": _line(row.position, row.time, row.type, row.subject, body),
        "exact": rfc3339(row.time),
        "text": json.dumps(json.loads(body), indent=2, ensure_ascii=False),
        "steps": evidence.of_event(position),
        "size": head.size(),
    }
    return show(request, "event.html", context)


# --- Checkpoints


@access.form(Right.SEE)
def consistency(request: HttpRequest) -> HttpResponseBase:
    """GET and POST log/consistency/: a checkpoint that the visitor kept, pasted or as a file, against the log today. Changes
    nothing; a POST as it may bring a file."""
    context: dict[str, Any] = {"newest": checkpoints.latest(), "vkeys": saved.vkeys()}
    if request.method == "POST":
        context |= _judged(request)
    return show(request, "consistency.html", context, datetime.now(UTC))


def _judged(request: HttpRequest) -> dict[str, Any]:
    file = request.FILES.get("file")
    octets = file.read(LARGEST_CHECKPOINT + 1) if file else request.POST.get("checkpoint", "").encode("utf-8", "surrogatepass")
    if not octets.strip():
        return evidence.nothing("Nothing was given, or an empty file: choose the file that you saved, or paste its text.")._asdict()
    if len(octets) > LARGEST_CHECKPOINT:
        return evidence.nothing(f"A checkpoint has about 200 bytes; this has more than {LARGEST_CHECKPOINT:,}. Another file?")._asdict()
    text = octets.decode("utf-8", "replace")
    return {**evidence.of_checkpoint(text)._asdict(), "text": text}


@access.page(Right.SEE)
def checkpoint(request: HttpRequest) -> HttpResponseBase:
    """GET log/checkpoint.txt: the newest one, to be kept elsewhere."""
    newest = checkpoints.latest()
    if newest is None:
        raise Http404
    headers = {"Content-Disposition": asking.attachment(f"checkpoint-{newest.size}.txt")}
    return HttpResponse(newest.note, content_type="text/plain; charset=utf-8", headers=headers)
