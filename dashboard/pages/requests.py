"""Signing requests: those in flight with the step they are at, those that ended lately, and one of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase

from ca.models import UNFINISHED, Certificate, Request, State
from ca.pki import csr
from ca.pki.violations import Violation
from dashboard import access, decoding
from dashboard.roles import Right

from . import log
from .base import is_partial, show

MOST, LATELY, WINDOW = 100, 50, 10_000
STEPS = (
    (State.RECEIVED, "validate"), (State.VALIDATED, "sign"), (State.SIGNED, "challenge"), (State.CHALLENGED, "record"),
)  # fmt: skip  # a request in this state waits for that step
_COLUMNS = ("id", "state", "owner", "profile", "service", "node", "serial", "replaces", "error", "created_at", "updated_at")


@access.page(Right.SEE)
def requests(request: HttpRequest) -> HttpResponseBase:
    """GET requests/"""
    now, own = datetime.now(UTC), access.own(request)
    waiting = list(_seen(Request.objects.filter(state__in=UNFINISHED), own).order_by("id").values(*_COLUMNS)[: MOST + 1])
    recent = (Request.objects.all() if own is None else _newest().filter(owner__in=own)).order_by("-id").values(*_COLUMNS)[: LATELY + MOST]
    ended = [row for row in recent if row["state"] in (State.ISSUED, State.REJECTED)][:LATELY]
    context = {"waiting": [_with_steps(row) for row in waiting[:MOST]], "more": len(waiting) > MOST, "ended": ended, "most": MOST}
    context["awaiting"] = _seen(Request.objects.filter(state=State.AWAITING), own).exists()
    return show(request, "requests_live.html" if is_partial(request) else "requests.html", context, now)


def _seen(rows: QuerySet[Request], own: frozenset[str] | None) -> QuerySet[Request]:
    return rows if own is None else rows.filter(owner__in=own)


def _newest() -> QuerySet[Request]:
    """The newest WINDOW: no index leads from an owner to its requests, so no more are looked at."""
    floor = Request.objects.order_by("-id").values_list("id", flat=True)[WINDOW : WINDOW + 1]
    return Request.objects.filter(id__gt=floor[0]) if floor else Request.objects.all()


def _with_steps(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with [(step, "done" | "next" | "later")]."""
    at = [state for state, _ in STEPS].index(row["state"]) if row["state"] in UNFINISHED else len(STEPS)
    standing = ["done" if index < at else "next" if index == at else "later" for index in range(len(STEPS))]
    return {**row, "steps": [(name, kind) for (_, name), kind in zip(STEPS, standing, strict=True)]}


@access.page(Right.SEE)
def one(request: HttpRequest, request_id: UUID) -> HttpResponseBase:
    """GET requests/{id}/. What was replayed from an export has a certificate and no request any more."""
    row = Request.objects.filter(id=request_id).values(*_COLUMNS, "csr", "not_after", "token").first()
    certificate = Certificate.objects.filter(request=request_id).values("serial", "owner").first()
    serial = certificate and certificate["serial"]
    events = log.about(*filter(None, (str(request_id), serial or (row and row["serial"]))))
    if row is None and not events:
        raise Http404
    access.check_own(request, (row or certificate or {"owner": ""})["owner"])
    context = {
        "id": request_id,
        "row": row and _with_steps(row),
        "serial": serial,
        "events": events,
        "sections": row and csr_sections(bytes(row["csr"])),
    }
    return show(request, "request.html", context)


def csr_sections(der: bytes) -> list[decoding.Section]:
    """What the requester's key signed. It was accepted, so it can be read, unless the rules became stricter since."""
    try:
        parsed = csr.parse(der, verify=False)
    except Violation as violation:
        return [decoding.Section("Certification request", [decoding.Field("Unreadable", [violation.detail])])]
    asked = [
        decoding.Field("Common name", [parsed.common_name or "none"]),
        decoding.Field("Names", [str(name) for name in parsed.names] or ["none"]),
    ]
    return [decoding.Section("Certification request", asked), decoding.Section("Public key", decoding.public_key(parsed.public_key))]
