"""Requests that wait for an approver: the list, and one with everything that a decision needs, and the decision.

Who may look at a request may see how its approval stands; who decides is asked in ca.approvals, under the row's lock.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect

from ca import approvals as waiting
from ca import issuance, pipeline
from ca.approvals import Approver
from ca.errors import Problem
from ca.models import Approval, Request, State, Token
from dashboard import access, decoding, roles
from dashboard.roles import Right

from . import log
from .base import show
from .requests import csr_sections

MOST, LATELY, LONGEST = 100, 20, 500
GRANT, REFUSE = "grant", "refuse"
_COLUMNS = ("id", "owner", "profile", "service", "node", "replaces", "created_at", "decide_by", "state")


@access.page(Right.SEE)
def approvals(request: HttpRequest) -> HttpResponseBase:
    """GET approvals/: what waits, the most urgent first, and what was decided lately."""
    own = access.own(request)
    rows = Request.objects.filter(state=State.AWAITING)
    found = list((rows if own is None else rows.filter(owner__in=own)).order_by("id").values(*_COLUMNS)[: MOST + 1])
    context = {"waiting": found[:MOST], "more": len(found) > MOST, "most": MOST, "decided": _decided() if own is None else []}
    return show(request, "approvals.html", context)


def _decided() -> list[dict[str, Any]]:
    """Of everybody, so for those who may see that."""
    newest = Approval.objects.exclude(granted=None).order_by("-position").values("request", "granted", "by", "why", "decided_at")[:LATELY]
    owners = {
        row["id"]: row for row in Request.objects.filter(id__in=[each["request"] for each in newest]).values("id", "owner", "service")
    }
    return [{**each, **owners.get(each["request"], {})} for each in newest]


@access.form(Right.SEE)
def decide(request: HttpRequest, request_id: UUID) -> HttpResponseBase:
    """GET and POST approvals/{id}/"""
    row = Request.objects.filter(id=request_id).first()
    if row is None:
        raise Http404
    access.check_own(request, row.owner)
    if request.method == "POST":
        return _decide(request, row)
    return _page(request, row)


def _page(request: HttpRequest, row: Request, problem: Problem | None = None) -> HttpResponseBase:
    now = datetime.now(UTC)
    context = {
        "row": row, "sections": [*_verdict(row, now), *csr_sections(bytes(row.csr))], "problem": problem,
        "approval": Approval.objects.filter(request=row.id).first(), "token": Token.objects.filter(id=row.token).first(),
        "why_not": _why_not(request, row), "why": request.POST.get("why", "")[:LONGEST], "longest": LONGEST,
        "events": log.about(str(row.id)), "is_waiting": row.state == State.AWAITING,
    }  # fmt: skip
    return show(request, "approval.html", context, now, status=400 if problem else 200)


def _verdict(row: Request, now: datetime) -> list[decoding.Section]:
    """What the rules say of it now, as long as it matters; they are asked again after the approval and before the signature."""
    if row.state != State.AWAITING:
        return []
    verdict = issuance.verdict(row, now)
    if isinstance(verdict, Problem):
        broken = decoding.Field("Breaks a rule", [f"{verdict.code}: {verdict.detail}", "Approved or not, it would be rejected."])
        return [decoding.Section("Policy", [broken])]
    kept = [
        decoding.Field("Every rule is kept", ["token, zones, names, service, profile, key and lifetime"]),
        decoding.Field("Names", [str(name) for name in verdict.names]),
        decoding.Field("Common name", [verdict.common_name or "none"]),
        decoding.Field("Profile", [f"{verdict.profile.name}, for {', '.join(verdict.profile.extended_key_usage)}"]),
        decoding.Field("Valid, if approved now", [f"{verdict.not_before:%Y-%m-%d %H:%M} to {verdict.not_after:%Y-%m-%d %H:%M} UTC"]),
    ]
    return [decoding.Section("Policy", kept)]


def _why_not(request: HttpRequest, row: Request) -> str:
    """Why this visitor does not decide about it; "" for one who may."""
    if not roles.may(request.user, Right.APPROVE):
        return "No role of yours approves: this is for an approver to decide."
    try:
        waiting.check_may_decide(_approver(request), row)
    except Problem as problem:
        return f"{problem.detail}."
    return ""


def _approver(request: HttpRequest) -> Approver:
    return Approver(request.user.get_username(), roles.owners(request.user))


def _decide(request: HttpRequest, row: Request) -> HttpResponseBase:
    if not roles.may(request.user, Right.APPROVE):
        raise PermissionDenied
    try:
        act = pipeline.approve if _word(request) == GRANT else waiting.refuse
        act(row.id, _approver(request), _why(request), datetime.now(UTC))
    except Problem as problem:
        return _page(request, row, problem)
    return redirect("dashboard:request", row.id)


def _word(request: HttpRequest) -> str:
    word = request.POST.get("decision", "")
    if word not in (GRANT, REFUSE):
        raise Problem("invalidField", "the decision is to approve or to refuse", "decision")
    return word


def _why(request: HttpRequest) -> str:
    why = request.POST.get("why", "").strip()
    if len(why) > LONGEST or not why.isprintable():
        raise Problem("invalidField", f"the reason is one line of at most {LONGEST} printable characters", "why")
    return why
