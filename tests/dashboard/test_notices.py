"""Approvers are told what waits: each that may decide, once if the servers answer, again if they do not, and never who may not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User

from ca import approvals, pipeline, tasks, tokens
from ca.errors import Problem
from ca.models import Request, Token
from ca.policy import ALWAYS
from dashboard import accounts, contacts, notices, webhook
from dashboard.accounts import Access
from dashboard.models import Notice
from dashboard.roles import Role
from eventlog.models import Event
from tests.material import csr

from .postoffice import PostOffice
from .support import text_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("other_time")]
MINUTE = timedelta(minutes=1)


@pytest.fixture
def ask(hierarchy: None, now: datetime, run_pipeline: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Callable[[], UUID]:
    """ask(): one more request of alice's that waits."""
    monkeypatch.setattr(tasks, "wake", lambda: None)
    token = Token.objects.get(id=tokens.create("test", "alice", tokens.Scope(approval=ALWAYS), now, by="ada")[0])

    def work() -> UUID:
        (request,) = pipeline.submit(token, [pipeline.Submission(csr=csr("a.internal"), service="payroll")], now)
        assert isinstance(request, Request)
        run_pipeline()
        return request.id

    return work


@pytest.fixture(autouse=True)
def _people(db: None, now: datetime) -> None:
    for name, role, owners in (("erin", Role.APPROVER, ()), ("frank", Role.APPROVER, ("alice",)), ("olga", Role.OPERATOR, ())):
        accounts.create(name, Access([role], owners), by="test", why="", now=now)
        accounts.set_address(name, f"{name}@example.org")


def told() -> list[dict[str, Any]]:
    rows = Event.objects.filter(type="approver.told").order_by("position").values_list("body", flat=True)
    return [json.loads(bytes(body))["data"] for body in rows]


def test_who_may_decide_is_told_once(office: PostOffice, ask: Callable[[], UUID], now: datetime) -> None:
    one = ask()
    assert [notices.tell_due(now + minute * MINUTE) for minute in range(3)] == [1, 0, 0]
    (letter,) = office.delivered
    assert (letter["To"], letter["Subject"]) == ("erin@example.org", "[Quicklime] 1 request waits for approval")
    text = text_of(letter)
    assert f"/dashboard/approvals/{one}/" in text
    assert "payroll, for alice, profile server" in text
    assert [(event["request"], event["channel"], event["recipient"]) for event in told()] == [
        (str(one), "mail", contacts.hash_of("erin@example.org"))
    ]
    two = ask()
    assert notices.tell_due(now + 3 * MINUTE) == 1
    assert str(two) in text_of(office.delivered[1])
    assert str(one) not in text_of(office.delivered[1])


def test_what_was_decided_is_told_to_nobody(office: PostOffice, ask: Callable[[], UUID], now: datetime) -> None:
    office.content_answers["erin@example.org"] = "451 later"
    one = ask()
    assert notices.tell_due(now) == 0
    assert Notice.objects.count() == 1
    approvals.refuse(one, approvals.Approver("erin", ()), "no", now)
    office.content_answers.clear()
    assert notices.tell_due(now + 10 * MINUTE) == 0
    assert Notice.objects.count() == 0
    assert office.delivered == []


def test_what_was_refused_is_tried_again(office: PostOffice, ask: Callable[[], UUID], now: datetime) -> None:
    office.recipient_answers["erin@example.org"] = "550 gone"
    ask()
    assert notices.tell_due(now) == 0
    assert notices.tell_due(now + MINUTE / 2) == 0
    office.recipient_answers.clear()
    assert notices.tell_due(now + MINUTE) == 1
    assert len(told()) == 1


def test_who_lost_the_role_is_not_told(office: PostOffice, ask: Callable[[], UUID], now: datetime) -> None:
    User.objects.get(username="erin").groups.clear()
    ask()
    assert notices.tell_due(now) == 0
    assert office.delivered == []


def test_who_died_while_sending_tells_again(
    office: PostOffice, ask: Callable[[], UUID], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    ask()
    with monkeypatch.context() as patch:
        patch.setattr(notices, "_note", killed)
        with pytest.raises(Killed):
            notices.tell_due(now)
    assert notices.tell_due(now + MINUTE) == 0, "its lease keeps others from sending meanwhile"
    assert notices.tell_due(now + notices.LEASE) == 1
    assert len(told()) == 1
    first, second = office.delivered
    assert first["Message-ID"] == second["Message-ID"], "whoever gets it twice can tell"


def test_the_webhook(ask: Callable[[], UUID], now: datetime, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []

    def post(body: bytes, now: datetime) -> None:
        calls.append(body)
        if len(calls) == 1:
            raise webhook.NotTaken("answered 500")

    monkeypatch.setattr(webhook, "post", post)
    settings.WEBHOOK_URL = "https://hook.example.org/"
    one = ask()
    assert [notices.tell_due(now + minute * MINUTE) for minute in range(3)] == [0, 1, 0]
    assert calls[0] == calls[1]
    (approval,) = json.loads(calls[1])["approvals"]
    assert (approval["request"], approval["owner"], approval["id"]) == (str(one), "alice", f"{one}:approval")
    assert [event["channel"] for event in told()] == ["webhook"]


@pytest.mark.unjudged("changes a row by hand")
def test_hostile_fields_stay_in_the_body_and_are_seen(office: PostOffice, ask: Callable[[], UUID], now: datetime) -> None:
    ask()
    Request.objects.update(service="x\r\nBcc: eve@example.org", owner="a\u202eb")
    notices.tell_due(now)
    (letter,) = office.letters["erin@example.org"]
    assert letter["Bcc"] is None
    assert "\\r\\nBcc" in text_of(letter)
    assert "a\\u202eb" in text_of(letter)


def test_what_is_no_address_is_not_taken(now: datetime) -> None:
    with pytest.raises(Problem, match="addressInvalid"):
        accounts.set_address("erin", "erin@example.org\r\nBcc: eve@example.org")
