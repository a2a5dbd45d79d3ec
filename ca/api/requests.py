"""Signing requests over HTTP: one, many, and how far one has come.

Owns the answers to a submission. The views load, call pipeline.submit, and say what became of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse
from rest_framework.request import Request as HttpRequest

from ca import pipeline
from ca.errors import Problem
from ca.models import Request, State
from ca.pipeline import Submission
from ca.pki.violations import Violation

from . import documents, headers, problems, representations, submissions
from .authentication import principal
from .base import ApiView, answer
from .parsers import BULK_LIMIT
from .representations import Row
from .waiting import hub

MAX_BULK = 1_000
POLL_AFTER = {representations.PENDING: "1", representations.AWAITING: "60"}  # seconds, as a header's value
_SETTLED = (State.ISSUED, State.REJECTED, State.AWAITING)  # nothing to wait for by the second


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one submission: its HTTP status, the request object or None if there is no request, the problem or None,
    and where to look from now on."""

    status: int
    request: dict[str, Any] | None
    problem: Problem | None
    location: str


def submit_one(request: HttpRequest) -> HttpResponse:
    """POST certificates/"""
    now, caller, seconds = datetime.now(UTC), principal(request), headers.wait(request)
    submission = _submission(request, now)
    return answer_one(lambda: pipeline.submit(caller.token, [submission], now), caller.grant.token, seconds, now)


def answer_one(submit: Callable[[], list[Request | Problem]], token: str | None, seconds: int, now: datetime) -> HttpResponse:
    """The answer to a call that asks for one certificate, which `submit` hands in. `token` is the caller's id, None without one."""
    outcomes, rows = _submit(submit, seconds)
    result = _result(outcomes[0], rows or {}, token, now)
    response = problems.respond(result.problem) if result.problem else answer(result.request, result.status)
    if result.location:
        response["Location"] = result.location
    if result.request and result.status == 202:
        response["Retry-After"] = POLL_AFTER[result.request["status"]]
    return _applied(response, seconds, rows)


def _submission(request: HttpRequest, now: datetime) -> Submission:
    key = headers.idempotency_key(request)
    if isinstance(request.data, bytes):
        return submissions.from_csr(request.data, request.query_params.dict(), key, now)
    if request.query_params:
        raise Problem("unknownParameter", "beside a JSON body everything is a field of it", "query")
    return submissions.from_json(request.data, key, now)


def _submit(submit: Callable[[], list[Request | Problem]], seconds: int) -> tuple[list[Request | Problem], dict[UUID, Row] | None]:
    """What the pipeline's door says, and the rows of the requests that have ended; None for the rows if nobody waited. The
    `seconds` count from now on (RFC 7240 §4.3), so what submitting takes is part of them."""
    until = time.monotonic() + seconds
    if seconds:
        hub().listen()
    outcomes = submit()
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Request)]
    before = [row.id for row in accepted if row.state in _SETTLED]  # under an idempotency key used before
    ended = representations.load(before) if before else {}
    waiting = [row.id for row in accepted if row.state not in _SETTLED]
    waited = hub().wait(waiting, max(0.0, until - time.monotonic())) if seconds and waiting else {}
    if waited is None:
        return outcomes, ended or None
    return outcomes, ended | waited


def _result(outcome: Request | Problem, rows: dict[UUID, Row], token: str | None, now: datetime) -> Result:
    if isinstance(outcome, Problem):
        return Result(problems.rule(outcome.code).status, None, outcome, "")
    row = rows.get(outcome.id)
    shown = representations.request(outcome.id, row, token, now)
    here = f"/api/v1/requests/{outcome.id}/"
    if row is None or shown["status"] == representations.AWAITING:
        return Result(202, shown, None, here)
    if shown["certificate"] is None:
        problem = representations.rejection(row)
        return Result(problems.rule(problem.code).status, shown, problem, here)
    return Result(201, shown, None, f"/api/v1/certificates/{row['serial']}/")


def _applied(response: HttpResponse, seconds: int, rows: dict[UUID, Row] | None) -> HttpResponse:
    """Say that the preference was honoured, if it was (RFC 7240 §3)."""
    if seconds and rows is not None:
        response["Preference-Applied"] = f"wait={seconds}"
    return response


class BulkView(ApiView):
    """POST certificates/bulk/"""

    actions = {"POST": ("issue",)}
    asks_at_the_door = ("POST",)
    body_limit = BULK_LIMIT

    @documents.bulk
    def post(self, request: HttpRequest) -> HttpResponse:
        now, caller, seconds = datetime.now(UTC), principal(request), headers.wait(request)
        asked = _items(request.data, headers.idempotency_key(request), now)
        accepted = [item for item in asked if isinstance(item, Submission)]
        outcomes, rows = _submit(lambda: pipeline.submit(caller.token, accepted, now), seconds)
        answers = iter(outcomes)
        merged = [next(answers) if isinstance(item, Submission) else item for item in asked]
        results = [_item(_result(outcome, rows or {}, caller.grant.token, now)) for outcome in merged]
        return _applied(answer({"results": results}), seconds, rows)


def _items(body: Any, key: str | None, now: datetime) -> list[Submission | Problem]:
    if not isinstance(body, dict) or body.keys() != {"requests"} or not isinstance(body["requests"], list) or not body["requests"]:
        raise Problem("invalidField", "send {'requests': [...]} with at least one item and nothing else", "requests")
    if len(body["requests"]) > MAX_BULK:
        raise Problem("tooManyItems", f"at most {MAX_BULK} requests at once", "requests")
    keys: Iterable[str | None] = [None] * len(body["requests"]) if key is None else _keys(key, len(body["requests"]))
    return [_parsed(item, item_key, now) for item, item_key in zip(body["requests"], keys, strict=True)]


def _keys(key: str, count: int) -> list[str]:
    """A key for each item, so that a repeated call repeats each of them. Hashed, as a key may be as long as the column."""
    digest = sha256(key.encode()).hexdigest()
    return [f"bulk:{digest}:{number}" for number in range(count)]


def _parsed(item: Any, key: str | None, now: datetime) -> Submission | Problem:
    try:
        return submissions.from_json(item, key, now)
    except Violation as violation:
        return Problem.from_violation(violation)
    except Problem as problem:
        return problem


def _item(result: Result) -> dict[str, Any]:
    return {"status": result.status, "request": result.request, "error": result.problem and problems.as_dict(result.problem)}


class RequestView(ApiView):
    """GET requests/{id}/"""

    actions = {"GET": ("read", "audit", "issue")}

    @documents.request
    def get(self, request: HttpRequest, request_id: UUID) -> HttpResponse:
        caller = principal(request)
        row = representations.load([request_id]).get(request_id)
        if row is None or not (caller.sees_all or row["owner"] == caller.grant.owner):
            raise Http404
        shown = representations.request(request_id, row, caller.grant.token, datetime.now(UTC))
        return answer(shown, headers={"Retry-After": POLL_AFTER[shown["status"]]} if shown["status"] in POLL_AFTER else None)
