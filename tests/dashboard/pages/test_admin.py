"""The admin shows and cannot harm: nothing of the log's is changed there, and its acts ask why, by POST, and are events."""

from __future__ import annotations

import json
import re

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from ca.models import Certificate, Token
from eventlog.models import Event

from .test_hostile import HOSTILE, assert_harmless

pytestmark = pytest.mark.django_db
MODELS = ("ca_certificate", "ca_request", "ca_issuer", "ca_token", "eventlog_event")


@pytest.fixture
def chief(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ada", password="correct horse battery"))
    return client


def data(kind: str) -> dict[str, object]:
    """Of the newest event of a type."""
    row = Event.objects.filter(type=kind).order_by("-position").first()
    assert row is not None
    found: dict[str, object] = json.loads(bytes(row.body))["data"]
    return found


@pytest.mark.parametrize("model", MODELS)
def test_even_a_superuser_can_only_look(model: str, fleet: list[Certificate], chief: Client) -> None:
    assert chief.get(reverse(f"admin:{model}_changelist")).status_code == 200
    keys = {"ca_certificate": fleet[0].serial, "ca_request": fleet[0].request, "ca_issuer": "root", "eventlog_event": 1}
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


@pytest.mark.parametrize("query", ["owner__contains=a", "_connector=OR", "owner=alice"])
def test_no_address_filters(query: str, fleet: list[Certificate], chief: Client) -> None:
    assert chief.get(f"{reverse('admin:ca_certificate_changelist')}?{query}").status_code in (302, 400)


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
    chief.post(reverse("admin:ca_token_revoke"), {"tokens": row.id, "why": "lost"})
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
