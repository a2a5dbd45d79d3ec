"""Requests that wait for a person: what waits, who may decide, how the waiting ends, and that nothing is signed without the word."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client

from ca import approvals, issuance, pipeline, tasks, tokens
from ca.api import representations
from ca.approvals import Approver
from ca.errors import Problem
from ca.models import Approval, Certificate, Request, State, Token
from ca.policy import ALWAYS, NEVER, Decision
from eventlog.models import Event
from tests.material import csr

pytestmark = pytest.mark.django_db
ERIN = Approver("erin", ())


@pytest.fixture(autouse=True)
def _no_wake_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "wake", lambda: None)


def made(approval: str, now: datetime) -> tuple[Token, str]:
    scope = tokens.Scope(actions=("issue", "read"), profiles=("*",), approval=approval)
    token, secret = tokens.create("test", "alice", scope, now, by="ada")
    return Token.objects.get(id=token), secret


@pytest.fixture
def token(hierarchy: None, now: datetime) -> Token:
    """Each of its requests needs an approver."""
    return made(ALWAYS, now)[0]


def ask(token: Token, now: datetime, name: str = "a.internal", **more: Any) -> UUID:
    (request,) = pipeline.submit(token, [pipeline.Submission(csr=csr(name), **more)], now)
    assert isinstance(request, Request), request
    return request.id


@pytest.fixture
def waiting(token: Token, now: datetime, run_pipeline: Callable[[], None]) -> UUID:
    request = ask(token, now)
    run_pipeline()
    assert state(request) == State.AWAITING
    return request


def state(request: UUID) -> str:
    return Request.objects.values_list("state", flat=True).get(id=request)


def kinds(request: UUID) -> list[str]:
    return list(Event.objects.filter(subject=str(request)).order_by("position").values_list("type", flat=True))


def last(kind: str) -> dict[str, Any]:
    body = Event.objects.filter(type=kind).order_by("-position").values_list("body", flat=True)[0]
    data: dict[str, Any] = json.loads(bytes(body))["data"]
    return data


def test_what_is_approved_is_issued(waiting: UUID, now: datetime, run_pipeline: Callable[[], None]) -> None:
    assert kinds(waiting) == ["approval.requested"]
    pipeline.approve(waiting, ERIN, "ticket 7", now)
    run_pipeline()
    assert Certificate.objects.get(request=waiting).names == ["dns:a.internal"]
    assert kinds(waiting) == ["approval.requested", "approval.granted"]
    assert (last("approval.granted")["by"], last("approval.granted")["why"]) == ("erin", "ticket 7")
    assert last("approval.requested")["cause"] == "token"


def test_what_is_refused_is_not(waiting: UUID, now: datetime, run_pipeline: Callable[[], None]) -> None:
    approvals.refuse(waiting, ERIN, "nobody knows it", now)
    run_pipeline()
    assert Request.objects.get(id=waiting).error == {"code": "approvalRefused", "detail": "nobody knows it", "where": ""}
    assert kinds(waiting) == ["approval.requested", "approval.refused", "request.rejected"]
    assert not Certificate.objects.exists()


def test_what_nobody_decides_about_ends(waiting: UUID, now: datetime, settings: Any, run_pipeline: Callable[[], None]) -> None:
    late = Request.objects.get(id=waiting).decide_by
    assert late is not None
    assert timedelta(0) <= late - now - settings.APPROVAL_TIME < timedelta(minutes=1)
    assert approvals.expire(late - timedelta(seconds=1)) == 0
    with pytest.raises(Problem, match="notAwaiting"):
        approvals.grant(waiting, ERIN, "too late", late)
    assert (approvals.expire(late), approvals.expire(late)) == (1, 0)
    run_pipeline()
    assert Request.objects.get(id=waiting).error["code"] == "approvalExpired"  # type: ignore[index]
    assert kinds(waiting) == ["approval.requested", "request.rejected"]


@pytest.mark.parametrize(
    ("approver", "code"),
    [(Approver("alice", ()), "ownRequest"), (Approver("ada", ()), "ownRequest"), (Approver("erin", ("bob", "alice")), "ownRequest")],
    ids=["is the owner", "made the token", "speaks for the owner"],
)
def test_nobody_decides_about_its_own(approver: Approver, code: str, waiting: UUID, now: datetime) -> None:
    for decide in (approvals.grant, approvals.refuse):
        with pytest.raises(Problem, match=code):
            decide(waiting, approver, "please", now)
    assert kinds(waiting) == ["approval.requested"]


def test_it_is_decided_once_and_with_a_reason(waiting: UUID, now: datetime) -> None:
    with pytest.raises(Problem, match="whyMissing"):
        approvals.grant(waiting, ERIN, "  ", now)
    approvals.grant(waiting, ERIN, "yes", now)
    for decide in (approvals.grant, approvals.refuse):
        with pytest.raises(Problem, match="notAwaiting"):
            decide(waiting, Approver("frank", ()), "me too", now)
    with pytest.raises(Problem, match="notFound"):
        approvals.grant(uuid4(), ERIN, "what?", now)


def test_what_breaks_a_rule_bothers_nobody(token: Token, now: datetime, run_pipeline: Callable[[], None]) -> None:
    request = ask(token, now)
    Request.objects.filter(id=request).update(profile="nonsense")
    run_pipeline()
    assert kinds(request) == ["request.rejected"]


def test_a_profile_asks_for_approval(hierarchy: None, now: datetime, settings: Any, run_pipeline: Callable[[], None]) -> None:
    settings.APPROVAL = ("peer",)
    free, own = made("as-profile", now)[0], made(NEVER, now)[0]
    waits, passes, exempt = (ask(each, now, profile=profile) for each, profile in ((free, "peer"), (free, "server"), (own, "peer")))
    run_pipeline()
    assert [state(each) for each in (waits, passes, exempt)] == [State.AWAITING, State.ISSUED, State.ISSUED]
    assert last("approval.requested")["cause"] == "profile"
    pipeline.approve(waits, ERIN, "yes", now)
    settings.APPROVAL = ()
    run_pipeline()
    assert state(waits) == State.ISSUED


@pytest.mark.parametrize("to", [State.RECEIVED, State.VALIDATED, State.SIGNED])
@pytest.mark.unjudged("moves a row by hand")
def test_a_row_moved_by_hand_is_not_signed(to: State, waiting: UUID, now: datetime, run_pipeline: Callable[[], None]) -> None:
    batch = uuid4()
    Request.objects.filter(id=waiting).update(state=to, batch=batch)
    for _ in range(2):
        run_pipeline()
        for step in issuance.STEPS.values():
            try:
                step(batch, now)
            except Exception:  # a row that was never validated has nothing that could be recorded
                break
    assert not Certificate.objects.exists()


@pytest.mark.parametrize("column", ["csr", "profile", "service", "node", "not_after", "owner"])
@pytest.mark.unjudged("changes a row by hand")
def test_what_was_approved_is_all_that_is_signed(
    column: str, waiting: UUID, token: Token, now: datetime, run_pipeline: Callable[[], None]
) -> None:
    other = {"csr": csr("evil.internal"), "profile": "peer", "service": "ledger", "node": "n9", "owner": "mallory"}
    pipeline.approve(waiting, ERIN, "yes", now)
    Request.objects.filter(id=waiting).update(**{column: other.get(column, now + timedelta(days=300))})
    run_pipeline()
    assert Request.objects.get(id=waiting).error["code"] == "notAsApproved"  # type: ignore[index]
    assert not Certificate.objects.exists()


@pytest.mark.unjudged("changes a row by hand")
def test_a_row_changed_while_it_waits_cannot_be_approved(waiting: UUID, now: datetime) -> None:
    Request.objects.filter(id=waiting).update(csr=csr("evil.internal"))
    with pytest.raises(Problem, match="notAsApproved"):
        approvals.grant(waiting, ERIN, "yes", now)


@pytest.mark.unjudged("takes a word back by hand")
def test_the_word_is_looked_for_where_the_key_is_used(waiting: UUID, now: datetime) -> None:
    pipeline.approve(waiting, ERIN, "yes", now)
    batch = uuid4()
    issuance.validate(batch, now)
    assert state(waiting) == State.VALIDATED
    Approval.objects.update(granted=None)
    issuance.sign(batch, now)
    assert Request.objects.get(id=waiting).error["code"] == "approvalMissing"  # type: ignore[index]
    assert kinds(waiting)[-1] == "request.rejected"
    assert not Request.objects.get(id=waiting).signature


def test_an_approved_request_of_a_revoked_token_is_not_issued(
    waiting: UUID, token: Token, now: datetime, run_pipeline: Callable[[], None]
) -> None:
    tokens.revoke(token.id, now, by="ada", why="left")
    pipeline.approve(waiting, ERIN, "yes", now)
    run_pipeline()
    assert Request.objects.get(id=waiting).error["code"] == "tokenRevoked"  # type: ignore[index]


def test_the_verdict_is_that_of_the_rules(waiting: UUID, token: Token, now: datetime) -> None:
    row = Request.objects.get(id=waiting)
    decision = issuance.verdict(row, now)
    assert isinstance(decision, Decision)
    assert [str(name) for name in decision.names] == ["dns:a.internal"]
    tokens.revoke(token.id, now, by="ada", why="left")
    refused = issuance.verdict(row, now)
    assert isinstance(refused, Problem)
    assert refused.code == "tokenRevoked"


def test_over_http(hierarchy: None, now: datetime, client: Client, run_pipeline: Callable[[], None]) -> None:
    _, secret = made(ALWAYS, now)
    bearer = {"HTTP_AUTHORIZATION": f"Bearer {secret}", "HTTP_IDEMPOTENCY_KEY": "k"}
    body = {"csr": b64encode(csr("a.internal")).decode()}
    first = client.post("/api/v1/certificates/", body, content_type="application/json", **bearer)
    assert (first.status_code, first.json()["status"]) == (202, "pending")
    run_pipeline()
    waits = client.get(first["Location"], HTTP_AUTHORIZATION=bearer["HTTP_AUTHORIZATION"])
    assert (waits.status_code, waits["Retry-After"]) == (200, "60")
    assert waits.json() == {"id": first.json()["id"], "status": "awaiting_approval", "certificate": None, "error": None}
    row = representations.load([UUID(first.json()["id"])]).popitem()[1]
    assert representations.is_done(row), "whoever waits by the second is answered at once"
    again = client.post("/api/v1/certificates/", body, content_type="application/json", HTTP_PREFER="wait=5", **bearer)
    assert (again.status_code, again["Retry-After"], again.json()["status"]) == (202, "60", "awaiting_approval")
    approvals.refuse(UUID(first.json()["id"]), ERIN, "nobody knows it", now)
    ended = client.post("/api/v1/certificates/", body, content_type="application/json", HTTP_PREFER="wait=5", **bearer)
    assert (ended.status_code, ended.json()["code"], ended.json()["detail"]) == (422, "approvalRefused", "nobody knows it")


def test_who_dies_before_the_wake_up_is_made_good(waiting: UUID, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[bool] = []
    monkeypatch.setattr(tasks, "wake", lambda: woken.append(True))
    monkeypatch.setattr(tasks, "_now", lambda: now + timedelta(minutes=1))
    tasks.resume()
    assert woken == [], "what waits for a person is not stuck"
    approvals.grant(waiting, ERIN, "yes", now)
    tasks.resume()
    assert woken == [True]


@pytest.mark.parametrize("decide", [approvals.grant, approvals.refuse])
def test_a_crash_leaves_it_waiting_or_decided(decide: Any, waiting: UUID, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(approvals, "append", killed)
        with pytest.raises(Killed):
            decide(waiting, ERIN, "yes", now)
    assert state(waiting) == State.AWAITING
    assert kinds(waiting) == ["approval.requested"]
    decide(waiting, ERIN, "yes", now)
    assert state(waiting) != State.AWAITING
