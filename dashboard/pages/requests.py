"""Signing requests: those in flight with the step they are at, those that ended lately, and one of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponseBase

from ca.models import UNFINISHED, Certificate, Request, State
from ca.pki import csr
from ca.pki.violations import Violation
from dashboard import access, decoding

from . import log
from .base import is_partial, show

MOST, LATELY = 100, 50
STEPS = (
    (State.RECEIVED, "validate"), (State.VALIDATED, "sign"), (State.SIGNED, "challenge"), (State.CHALLENGED, "record"),
)  # fmt: skip  # a request in this state waits for that step
_COLUMNS = ("id", "state", "owner", "profile", "service", "node", "serial", "replaces", "error", "created_at", "updated_at")


@access.page
def requests(request: HttpRequest) -> HttpResponseBase:
    """GET requests/"""
    now = datetime.now(UTC)
    waiting = list(Request.objects.filter(state__in=UNFINISHED).order_by("id").values(*_COLUMNS)[: MOST + 1])
    recent = Request.objects.order_by("-id").values(*_COLUMNS)[: LATELY + MOST]
    ended = [row for row in recent if row["state"] not in UNFINISHED][:LATELY]
    context = {"waiting": [_with_steps(row) for row in waiting[:MOST]], "more": len(waiting) > MOST, "ended": ended, "most": MOST}
    return show(request, "requests_live.html" if is_partial(request) else "requests.html", context, now)


def _with_steps(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with [(step, "done" | "next" | "later")]."""
    at = [state for state, _ in STEPS].index(row["state"]) if row["state"] in UNFINISHED else len(STEPS)
    standing = ["done" if index < at else "next" if index == at else "later" for index in range(len(STEPS))]
    return {**row, "steps": [(name, kind) for (_, name), kind in zip(STEPS, standing, strict=True)]}


@access.page
def one(request: HttpRequest, request_id: UUID) -> HttpResponseBase:
    """GET requests/{id}/. What was replayed from an export has a certificate and no request any more."""
    row = Request.objects.filter(id=request_id).values(*_COLUMNS, "csr", "not_after", "token").first()
    serial = Certificate.objects.filter(request=request_id).values_list("serial", flat=True).first()
    events = log.about(*filter(None, (str(request_id), serial or (row and row["serial"]))))
    if row is None and not events:
        raise Http404
    context = {
        "id": request_id,
        "row": row and _with_steps(row),
        "serial": serial,
        "events": events,
        "sections": row and _csr(bytes(row["csr"])),
    }
    return show(request, "request.html", context)


def _csr(der: bytes) -> list[decoding.Section]:
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
