"""Approvers see what is asked and what the rules say, and decide, with a reason; nobody else does, and nobody about its own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import pytest
from django.test import Client

from ca import pipeline, tasks, tokens
from ca.models import Request, State, Token
from ca.policy import ALWAYS
from dashboard.roles import Role
from tests.material import csr

from .test_hostile import HOSTILE, assert_harmless

pytestmark = pytest.mark.django_db


@pytest.fixture
def waiting(hierarchy: None, now: datetime, run_pipeline: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> UUID:
    monkeypatch.setattr(tasks, "wake", lambda: None)
    token = Token.objects.get(id=tokens.create("deploys", "alice", tokens.Scope(approval=ALWAYS), now, by="ada")[0])
    (request,) = pipeline.submit(token, [pipeline.Submission(csr=csr("a.internal"), service="payroll")], now)
    assert isinstance(request, Request)
    run_pipeline()
    return request.id


def page(request: UUID) -> str:
    return f"/dashboard/approvals/{request}/"


def test_an_approver_sees_and_approves(waiting: UUID, account: Callable[..., Client], run_pipeline: Callable[[], None]) -> None:
    erin = account(Role.APPROVER, name="erin")
    assert str(waiting) in erin.get("/dashboard/approvals/").content.decode()
    assert "waits for an approver" in erin.get("/dashboard/requests/").content.decode()
    shown = erin.get(page(waiting)).content.decode()
    for telling in ("dns:a.internal", "payroll", "Every rule is kept", "deploys", "Public key", 'value="grant"'):
        assert telling in shown, telling
    assert erin.post(page(waiting), {"decision": "grant", "why": "ticket 7"})["Location"] == f"/dashboard/requests/{waiting}/"
    run_pipeline()
    assert Request.objects.get(id=waiting).state == State.ISSUED
    assert "ticket 7" in erin.get(page(waiting)).content.decode()
    assert "ticket 7" in erin.get("/dashboard/approvals/").content.decode()


@pytest.mark.parametrize(
    "said", [{"decision": "grant"}, {"decision": "grant", "why": " "}, {"why": "x"}, {"decision": "revoke", "why": "x"},
             {"decision": "grant", "why": "x" * 501}, {"decision": "refuse", "why": "a\u202eb"}, {"decision": "refuse", "why": "a\nb"}],
)  # fmt: skip
def test_what_is_no_decision_changes_nothing(said: dict[str, str], waiting: UUID, account: Callable[..., Client]) -> None:
    assert account(Role.APPROVER).post(page(waiting), said).status_code == 400
    assert Request.objects.get(id=waiting).state == State.AWAITING


@pytest.mark.parametrize("role", [role for role in Role if role != Role.APPROVER])
def test_no_other_role_decides(role: Role, waiting: UUID, account: Callable[..., Client]) -> None:
    client = account(role, owners=["alice"])
    assert 'value="grant"' not in client.get(page(waiting)).content.decode()
    for decision in ("grant", "refuse"):
        assert client.post(page(waiting), {"decision": decision, "why": "x"}).status_code == 403
    assert Request.objects.get(id=waiting).state == State.AWAITING


def test_no_approver_decides_about_its_own(waiting: UUID, account: Callable[..., Client]) -> None:
    for client in (account(Role.APPROVER, name="ada"), account(Role.APPROVER, name="erin", owners=["alice"])):
        assert 'value="grant"' not in client.get(page(waiting)).content.decode()
        assert client.post(page(waiting), {"decision": "grant", "why": "x"}).status_code == 400
    assert Request.objects.get(id=waiting).state == State.AWAITING


def test_a_decision_needs_the_form(waiting: UUID, account: Callable[..., Client]) -> None:
    client = account(Role.APPROVER, enforce_csrf_checks=True)
    assert client.post(page(waiting), {"decision": "grant", "why": "x"}).status_code == 403
    client.get(f"{page(waiting)}?decision=grant&why=x")
    assert Request.objects.get(id=waiting).state == State.AWAITING


def test_a_rule_that_is_broken_meanwhile_is_told(waiting: UUID, now: datetime, account: Callable[..., Client]) -> None:
    tokens.revoke(Request.objects.get(id=waiting).token, now, by="ada", why="left")
    assert "tokenRevoked" in account(Role.APPROVER).get(page(waiting)).content.decode()


@pytest.mark.unjudged("changes a row by hand")
def test_hostile_fields(waiting: UUID, account: Callable[..., Client]) -> None:
    Request.objects.update(owner=HOSTILE, service=HOSTILE[:95])
    client = account(Role.APPROVER)
    for path in ("/dashboard/approvals/", page(waiting), "/dashboard/requests/"):
        assert_harmless(client.get(path).content.decode(), path)
    refused = client.post(page(waiting), {"decision": "grant", "why": HOSTILE}).content.decode()
    assert_harmless(refused, "refused")
