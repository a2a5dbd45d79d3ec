"""The admin shows and cannot harm: nothing of the log's is changed there, and its acts ask why, by POST, and are events."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import escape

from ca import mass_replacement
from ca.models import Approval, Certificate, Replacement, Request, Token
from ca.selections import Selection
from dashboard import admin_base
from dashboard.models import Contact, Reminder
from dashboard.roles import Role
from eventlog.models import Event

from .conftest import PASSWORD
from .test_hostile import HOSTILE, assert_harmless

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)
MODELS = (
    "ca_certificate",
    "ca_request",
    "ca_issuer",
    "ca_token",
    "eventlog_event",
    "auth_user",
    "ca_approval",
    "ca_replacement",
    "dashboard_contact",
    "dashboard_reminder",
)


@pytest.fixture
def chief(account: Callable[..., Client]) -> Client:
    return account(Role.OPERATOR, Role.ADMINISTRATOR, name="ada")


def asked(certificate: Certificate) -> UUID:
    """A row as approval.requested makes it."""
    return Approval.objects.create(request=certificate.request, asked=b"", cause="token", by="", why="", position=1).request


def data(kind: str) -> dict[str, object]:
    """Of the newest event of a type."""
    row = Event.objects.filter(type=kind).order_by("-position").first()
    assert row is not None
    found: dict[str, object] = json.loads(bytes(row.body))["data"]
    return found


@pytest.mark.unjudged("fills tables by hand")
@pytest.mark.parametrize("model", MODELS)
def test_nobody_can_do_more_than_look(model: str, fleet: list[Certificate], chief: Client) -> None:
    assert chief.get(reverse(f"admin:{model}_changelist")).status_code == 200
    keys = {
        "ca_certificate": fleet[0].serial,
        "ca_request": fleet[0].request,
        "ca_issuer": "root",
        "eventlog_event": 1,
        "auth_user": User.objects.values_list("pk", flat=True)[0],
        "ca_approval": asked(fleet[0]),
        "ca_replacement": mass_replacement.order(
            Selection(service="payroll"), NOW + timedelta(days=2), "superseded", "a drill", "ada", NOW
        ),
        "dashboard_contact": Contact.objects.create(scope="owner", name="alice", address="a@example.org").pk,
        "dashboard_reminder": Reminder.objects.create(serial=fleet[0].serial, threshold="expired", recipient="x", due_at=NOW).pk,
    }
    key = keys.get(model) or Token.objects.values_list("id", flat=True)[0]
    before = Event.objects.count()
    assert chief.get(reverse(f"admin:{model}_change", args=[key])).status_code == 200
    assert chief.post(reverse(f"admin:{model}_change", args=[key]), {"owner": "eve"}).status_code == 403
    assert chief.post(reverse(f"admin:{model}_delete", args=[key]), {"post": "yes"}).status_code == 403
    assert chief.get(reverse(f"admin:{model}_add")).status_code == 403
    assert chief.post(reverse(f"admin:{model}_add"), {"owner": "eve"}).status_code == 403
    chief.post(reverse(f"admin:{model}_changelist"), {"action": "delete_selected", "_selected_action": [key], "post": "yes"})
    assert Event.objects.count() == before
    assert Certificate.objects.filter(owner="eve").count() == 0


@pytest.mark.parametrize("query", ["o=3.1", "o=x", "p=9999", "all=1", "q=%00", "q=%E2%80%AE", "q=" + "9" * 400])
def test_no_address_sorts_or_counts(query: str, fleet: list[Certificate], chief: Client) -> None:
    for model in MODELS:
        with CaptureQueriesContext(connection) as captured:
            assert chief.get(f"{reverse(f'admin:{model}_changelist')}?{query}").status_code in (200, 302), model
        assert not [each for each in captured if re.search(r"COUNT\(", each["sql"]) and "auth" not in each["sql"]], model


@pytest.mark.parametrize("query", ["owner__contains=a", "_connector=OR", "owner=alice", "standing__in=revoked", "state=x"])
def test_no_address_filters(query: str, fleet: list[Certificate], chief: Client) -> None:
    assert chief.get(f"{reverse('admin:ca_certificate_changelist')}?{query}").status_code in (302, 400)


def test_filters_look_at_the_newest_only(fleet: list[Certificate], chief: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(query: str, model: str = "ca_certificate") -> list[object]:
        answer = chief.get(f"{reverse(f'admin:{model}_changelist')}?{query}")
        assert answer.status_code == 200, query
        return [row.pk for row in answer.context["cl"].result_list]

    assert found("standing=revoked") == [fleet[2].serial]
    assert found("standing=replaced") == [fleet[0].serial]
    assert found("profile=peer") == [fleet[3].serial]
    assert found("state=rejected", "ca_request") == []
    assert len(found("type=certificate.revoked", "eventlog_event")) == 1
    assert found("standing=nonsense") == found("profile=%00") == []
    monkeypatch.setattr(admin_base, "WINDOW", 1)
    assert found("standing=revoked") == []
    assert found("profile=peer") == [fleet[3].serial]


def test_a_list_says_where_it_ends(fleet: list[Certificate], chief: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    address = reverse("admin:ca_certificate_changelist")
    assert "4 certificates</p>" in chief.get(address).content.decode()
    monkeypatch.setattr(admin_base, "REACH", 3)
    assert "the newest 3 certificates; search for older ones" in chief.get(address).content.decode()


@pytest.mark.unjudged("fills tables by hand")
def test_the_history_of_a_thing_is_in_the_log(fleet: list[Certificate], chief: Client) -> None:
    told = Reminder.objects.create(serial=fleet[0].serial, threshold="expired", recipient="x", due_at=NOW)
    for model, key, subject in (("ca_certificate", fleet[0].serial, fleet[0].serial), ("dashboard_reminder", told.pk, fleet[0].serial)):
        assert "Events</a>" in chief.get(reverse(f"admin:{model}_change", args=[key])).content.decode()
        answer = chief.get(reverse(f"admin:{model}_history", args=[key]))
        assert answer["Location"] == f"{reverse('dashboard:log')}?subject={subject}"
    assert chief.get(reverse("admin:ca_certificate_history", args=["0" * 40])).status_code == 404


def test_a_token_that_a_page_leads_to_is_asked_about(fleet: list[Certificate], chief: Client) -> None:
    token = Token.objects.latest("position")
    address = f"{reverse('admin:ca_token_revoke')}?key={token.id}"
    assert address in chief.get(reverse("dashboard:tokens")).content.decode()
    assert f'value="{token.id}"' in chief.get(address).content.decode()
    assert Token.objects.get(id=token.id).revoked_at is None


def test_the_first_page_says_what_each_list_is_for(chief: Client) -> None:
    shown = chief.get(reverse("admin:index")).content.decode()
    for model, each in admin.site._registry.items():
        assert isinstance(each, admin_base.ReadOnly)
        assert each.about, model
        assert escape(each.about) in shown
        assert reverse(f"admin:{each.prefix}_changelist") in shown


@pytest.mark.parametrize("model", [Approval, Replacement, Contact, Reminder, Request, Certificate])
def test_an_empty_list_says_what_fills_it(model: type[Model], chief: Client) -> None:
    each = admin.site.get_model_admin(model)
    assert isinstance(each, admin_base.ReadOnly)
    assert each.empty
    address = reverse(f"admin:{each.prefix}_changelist")
    assert escape(each.empty) in chief.get(address).content.decode()
    assert "Nothing matches" in chief.get(f"{address}?q=00000000-0000-0000-0000-000000000000").content.decode()


def test_what_can_be_done_stands_beside_what_it_is_about(fleet: list[Certificate], chief: Client, staff: Client) -> None:
    def tools(client: Client, name: str, key: object) -> list[str]:
        return re.findall(r"<li><a href=\"[^\"]+\">([^<]+)</a>", client.get(reverse(f"admin:{name}_change", args=[key])).content.decode())

    assert tools(chief, "ca_certificate", fleet[3].serial) == ["Revoke…", "Sign the status again…", "On the dashboard", "Events"]
    assert tools(chief, "ca_certificate", fleet[2].serial) == ["Sign the status again…", "On the dashboard", "Events"], "it is revoked"
    assert tools(staff, "ca_certificate", fleet[3].serial) == ["On the dashboard", "Events"]
    assert tools(chief, "ca_token", Token.objects.latest("position").id) == ["Revoke…", "Events"]
    assert tools(chief, "auth_user", User.objects.latest("id").pk) == ["Roles and owners…", "Another password…", "Events"]
    shown = chief.get(reverse("admin:ca_certificate_change", args=[fleet[3].serial])).content.decode()
    for address in re.findall(r"<li><a href=\"([^\"]+)\">", shown):
        assert chief.get(address, follow=True).status_code == 200, address


def test_a_password_is_changed_in_one_place_only(chief: Client) -> None:
    before = User.objects.get(username="ada").password
    new = {"old_password": PASSWORD, "new_password1": "another horse battery", "new_password2": "another horse battery"}
    answer = chief.post(reverse("admin:password_change"), new)
    assert answer["Location"] == reverse("account_change_password")
    assert User.objects.get(username="ada").password == before


def test_search_is_by_key(fleet: list[Certificate], chief: Client) -> None:
    for term in (fleet[3].serial, "C.internal", fleet[3].fingerprint, "ledger"):
        answer = chief.get(reverse("admin:ca_certificate_changelist"), {"q": term})
        assert [row.serial for row in answer.context["cl"].result_list] == [fleet[3].serial], term


def test_to_revoke_is_to_be_asked_first(fleet: list[Certificate], chief: Client) -> None:
    one, address = fleet[3], reverse("admin:ca_certificate_revoke")
    asked = chief.post(reverse("admin:ca_certificate_changelist"), {"action": "revoke", "_selected_action": [one.serial]})
    assert one.serial in asked.content.decode()
    assert one.serial in chief.get(f"{address}?serial={one.serial}").content.decode()
    assert chief.post(address, {"serials": one.serial, "reason": "superseded", "why": ""}).status_code == 200, "why is asked for"
    assert chief.post(address, {"serials": one.serial, "reason": "certificateHold", "why": "x"}).status_code == 200
    assert Certificate.objects.get(serial=one.serial).revoked_at is None
    done = chief.post(address, {"serials": one.serial, "reason": "keyCompromise", "why": "found in a repository"})
    assert done["Location"] == reverse("admin:ca_certificate_changelist")
    assert Certificate.objects.get(serial=one.serial).reason == "keyCompromise"
    ordered = data("revocation.ordered")
    assert (ordered["by"], ordered["why"], ordered["selected"]) == ("ada", "found in a repository", 1)
    assert (data("certificate.revoked")["by"], data("certificate.revoked")["way"]) == ("ada", "operator")


def test_who_may_only_look_revokes_nothing(fleet: list[Certificate], staff: Client) -> None:
    staff.handler.enforce_csrf_checks = False
    for name in ("ca_certificate_revoke", "ca_token_revoke", "ca_token_create"):
        assert staff.post(reverse(f"admin:{name}"), {"serials": fleet[3].serial, "reason": "superseded", "why": "x"}).status_code == 403
    assert Certificate.objects.get(serial=fleet[3].serial).revoked_at is None


def test_a_token_is_shown_once(fleet: list[Certificate], chief: Client) -> None:
    asked = {"owner": "bob", "label": "deploys", "actions": ["issue"], "profiles": ["server"], "names": "*", "services": "*", "days": "30"}
    answer = chief.post(reverse("admin:ca_token_create"), asked)
    (secret,) = re.findall(r"ql_[A-Za-z0-9_-]{43}", answer.content.decode())
    assert "no-store" in answer["Cache-Control"]
    assert (data("token.created")["by"], data("token.created")["owner"]) == ("ada", "bob")
    for path in (reverse("admin:ca_token_changelist"), reverse("admin:ca_token_create"), "/dashboard/tokens/"):
        assert secret not in chief.get(path).content.decode()
    row = Token.objects.get(owner="bob")
    assert (
        "Revoke 1" in chief.post(reverse("admin:ca_token_changelist"), {"action": "revoke", "_selected_action": [row.id]}).content.decode()
    )
    chief.get(reverse("admin:ca_token_revoke"))
    assert Token.objects.get(owner="bob").revoked_at is None
    chief.post(reverse("admin:ca_token_revoke"), {"keys": row.id, "why": "lost"})
    assert Token.objects.get(owner="bob").revoked_at is not None
    assert (data("token.revoked")["by"], data("token.revoked")["why"]) == ("ada", "lost")


@pytest.mark.unjudged("fills the table by hand")
def test_hostile_fields(fleet: list[Certificate], chief: Client) -> None:
    Certificate.objects.update(names=[HOSTILE], owner=HOSTILE, service=HOSTILE[:95])
    Token.objects.update(owner=HOSTILE, label=HOSTILE[:95])
    for model in MODELS:
        assert_harmless(chief.get(reverse(f"admin:{model}_changelist")).content.decode(), model)
    asked = chief.get(f"{reverse('admin:ca_certificate_revoke')}?serial={fleet[0].serial}").content.decode()
    assert_harmless(asked, "revoke")
    assert "[U+202E]" in asked


def test_an_account_is_made_and_changed(chief: Client) -> None:
    create = reverse("admin:auth_user_create")
    said = {"name": "erin", "roles": ["approver"], "owners": "bob\n alice \n", "active": "on", "address": "erin@example.org", "why": "new"}
    answer = chief.post(create, said)
    (password,) = re.findall(r'<code class="secret">(\S+)</code>', answer.content.decode())
    assert Client().login(username="erin", password=password)
    erin = User.objects.get(username="erin")
    assert (data("account.changed")["by"], data("account.changed")["owners"], erin.email) == ("ada", ["alice", "bob"], "erin@example.org")
    access = reverse("admin:auth_user_access", args=[erin.pk])
    assert "erin@example.org" in chief.get(access).content.decode()
    both = chief.post(access, {"roles": ["approver", "administrator"], "owners": "", "why": "x"})
    assert "no account is both" in both.content.decode()
    assert chief.post(access, said | {"address": "no address"}).status_code == 200
    assert data("account.changed")["what"] == "created", "an act is done whole or not at all"
    assert chief.post(access, {"roles": ["auditor"], "owners": "", "active": "on", "address": "", "why": "moved"}).status_code == 302
    assert data("account.changed")["roles"] == ["auditor"]
    chief.post(reverse("admin:auth_user_newpassword", args=[erin.pk]), {"why": "lost it"})
    assert (data("account.changed")["what"], data("account.changed")["why"]) == ("password", "lost it")
    assert not Client().login(username="erin", password=password)
