"""Acts of operators: each asks why on a page that says what will happen, is done by POST, once, and is an event."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import reverse
from redis.exceptions import ConnectionError as RedisDown

from ca import pipeline, tasks
from ca.models import Certificate, Replacement, Request, Token
from dashboard.models import Contact, Reminder, State
from dashboard.roles import Role
from eventlog.models import Event
from ocsp.models import Response
from tests.material import csr

from .test_admin import data

pytestmark = pytest.mark.django_db


@pytest.fixture
def olga(account: Callable[..., Client]) -> Client:
    return account(Role.OPERATOR, name="olga")


def choose(client: Client, model: str, act: str, key: object) -> str:
    """The page that the list's action leads to."""
    answer = client.post(reverse(f"admin:{model}_changelist"), {"action": act, "_selected_action": [str(key)]})
    assert answer.status_code == 200
    return answer.content.decode()


def acted() -> list[tuple[str, str, str, str]]:
    rows = Event.objects.filter(type="operator.acted").order_by("position").values_list("body", flat=True)
    return [tuple(json.loads(bytes(body))["data"][name] for name in ("act", "about", "by", "why")) for body in rows]  # type: ignore[misc]


def test_a_stuck_request_is_tried_again(fleet: list[Certificate], olga: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[bool] = []
    monkeypatch.setattr(tasks, "wake", lambda: woken.append(True))
    token = Token.objects.get(owner="alice", label="test")
    (stuck,) = pipeline.submit(token, [pipeline.Submission(csr=csr("a.internal"))], datetime.now(UTC))
    assert isinstance(stuck, Request)
    woken.clear()
    assert str(stuck.id) in choose(olga, "ca_request", "retry", stuck.id)
    address = reverse("admin:ca_request_retry")
    assert olga.post(address, {"keys": str(stuck.id), "why": ""}).status_code == 200, "why is asked for"
    assert str(stuck.id) in olga.get(f"{address}?key={stuck.id}&why=x").content.decode(), "a page leads here"
    assert f"?key={stuck.id}" in olga.get(f"/dashboard/requests/{stuck.id}/").content.decode()
    assert f"?key={fleet[0].request}" not in olga.get(f"/dashboard/requests/{fleet[0].request}/").content.decode(), "it has ended"
    assert (woken, acted()) == ([], [])
    olga.post(address, {"keys": f"{stuck.id} {fleet[0].request} {uuid4()} nonsense", "why": "the key is back"})
    assert woken == [True]
    assert acted() == [("request.retried", str(stuck.id), "olga", "the key is back")], "what has ended is not tried again"


def test_a_retry_without_redis_says_so(fleet: list[Certificate], olga: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(_: Any) -> None:
        raise RedisDown

    monkeypatch.setattr(tasks, "restart", down)
    answer = olga.post(reverse("admin:ca_request_retry"), {"keys": str(fleet[0].request), "why": "x"})
    assert b"Redis does not answer" in answer.content


def test_a_status_is_signed_again(fleet: list[Certificate], olga: Client, now: datetime) -> None:
    one = fleet[3].serial
    before = Response.objects.get(serial=one).refresh_at
    assert before > datetime.now(UTC)
    assert one in choose(olga, "ca_certificate", "resign", one)
    olga.post(reverse("admin:ca_certificate_resign"), {"keys": one, "why": "said to be stale"})
    assert Response.objects.get(serial=one).refresh_at <= datetime.now(UTC)
    assert acted() == [("status.resigned", one, "olga", "said to be stale")]


def test_what_may_not_have_arrived_is_sent_again(fleet: list[Certificate], olga: Client, now: datetime) -> None:
    later = now + timedelta(hours=1)
    rows = {
        state: Reminder.objects.create(
            serial=fleet[3].serial, threshold="expiring", recipient=state, recipient_hash=state, state=state, due_at=later
        )
        for state in (State.DUE, State.HANDED, State.SENT, State.CLAIMED)
    }
    page = olga.get("/dashboard/reminders/").content.decode()
    offered = {state for state, row in rows.items() if f"?key={row.pk}" in page}
    assert offered == {State.DUE, State.HANDED}
    assert "expiring" in choose(olga, "dashboard_reminder", "resend", rows[State.HANDED].pk)
    keys = " ".join(str(row.pk) for row in rows.values())
    olga.post(reverse("admin:dashboard_reminder_resend"), {"keys": keys, "why": "the server was wrong"})
    states = dict(Reminder.objects.values_list("recipient", "state"))
    assert states == {"due": "due", "handed": "due", "sent": "sent", "claimed": "claimed"}
    assert set(Reminder.objects.filter(due_at__lt=later).values_list("recipient", flat=True)) == {"due", "handed"}
    assert acted() == [("reminder.resent", fleet[3].serial, "olga", "the server was wrong")]


def test_who_is_told(fleet: list[Certificate], olga: Client) -> None:
    address = reverse("admin:dashboard_contact_set")
    said = {"scope": "service", "name": "payroll", "addresses": "a@example.org\nb@example.org", "why": "moved"}
    for wrong in ({"addresses": "nobody"}, {"scope": "default"}, {"scope": "token"}, {"name": ""}, {"why": ""}):
        assert olga.post(address, said | wrong).status_code == 200, wrong
    assert acted() == []
    assert olga.post(address, said).status_code == 302
    assert sorted(Contact.objects.values_list("name", "address")) == [("payroll", "a@example.org"), ("payroll", "b@example.org")]
    assert acted() == [("contacts.set", "service payroll", "olga", "moved")]
    assert "example.org" not in str([bytes(body) for body in Event.objects.values_list("body", flat=True)])


def test_a_drill_is_shown_before_it_is_ordered(fleet: list[Certificate], olga: Client) -> None:
    address = reverse("admin:ca_replacement_start")
    said = {"service": "payroll", "hours": "48", "reason": "superseded", "why": "practice"}
    for wrong in ({"service": ""}, {"hours": "1"}, {"reason": "keyCompromise"}, {"why": ""}):
        assert olga.post(address, said | wrong | {"confirmed": "yes"}).status_code == 200, wrong
    shown = olga.post(address, said).content.decode()
    assert "payroll" in shown
    assert 'name="confirmed"' in shown
    assert not Replacement.objects.exists()
    assert olga.post(address, said | {"confirmed": "yes"}).status_code == 302
    order = Replacement.objects.get()
    assert (order.by, order.why, order.selection) == ("olga", "practice", {"service": "payroll"})
    assert data("replacement.ordered")["by"] == "olga"


@pytest.mark.parametrize("role", [role for role in Role if role != Role.OPERATOR])
def test_no_other_role_acts(role: Role, fleet: list[Certificate], account: Callable[..., Client]) -> None:
    client, events = account(role), Event.objects.count()
    for name in ("ca_request_retry", "ca_certificate_resign", "dashboard_reminder_resend", "dashboard_contact_set", "ca_replacement_start"):
        said = {"keys": fleet[3].serial, "why": "x", "service": "payroll", "hours": "48", "reason": "superseded", "confirmed": "yes"}
        assert client.post(reverse(f"admin:{name}"), said).status_code in (302, 403), name
    if role != Role.REQUESTER:
        listed = client.get(reverse("admin:ca_certificate_changelist")).content.decode()
        assert 'value="resign"' not in listed
    assert Event.objects.count() == events


def test_the_rules_say_where_they_come_from(fleet: list[Certificate], account: Callable[..., Client], settings: Any) -> None:
    settings.APPROVAL = ("peer",)
    shown = account(Role.AUDITOR).get(reverse("admin:policy")).content.decode()
    for telling in ("QUICKLIME_ZONES", "ca/profiles.py, version 1", "90 days, at most 397", "issuer.activated", "needed", "approver"):
        assert telling in shown, telling
