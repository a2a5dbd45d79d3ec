"""Accounts change by one way, which is an event; nobody gets what nobody may have."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from ca.errors import Problem
from dashboard import accounts, roles
from dashboard.accounts import Access
from dashboard.roles import Right, Role
from eventlog.models import Event

pytestmark = pytest.mark.django_db
ADA = {"by": "ada", "why": "as agreed"}


def events() -> list[dict[str, Any]]:
    rows = Event.objects.filter(type="account.changed").order_by("position").values_list("body", flat=True)
    return [json.loads(bytes(body))["data"] for body in rows]


def test_each_change_is_an_event_and_nothing_else_is(now: datetime) -> None:
    accounts.create("erin", Access([Role.APPROVER], ["bob"]), **ADA, now=now, password="correct horse battery")
    assert accounts.set_access("erin", Access([Role.AUDITOR, Role.APPROVER], ["bob", "alice"]), **ADA, now=now)
    assert not accounts.set_access("erin", Access([Role.APPROVER, Role.AUDITOR], ("alice", "bob")), **ADA, now=now)
    accounts.set_password("erin", "another horse battery", **ADA, now=now)
    assert accounts.set_access("erin", Access(active=False), **ADA, now=now)
    said = [(each["what"], each["roles"], each["owners"], each["active"], each["by"]) for each in events()]
    assert said == [
        ("created", ["approver"], ["bob"], True, "ada"),
        ("changed", ["approver", "auditor"], ["alice", "bob"], True, "ada"),
        ("password", ["approver", "auditor"], ["alice", "bob"], True, "ada"),
        ("changed", [], [], False, "ada"),
    ]
    assert "horse" not in str(events())
    assert authenticate(username="erin", password="another horse battery") is None, "it is closed"


def test_rights_and_owners_follow(now: datetime) -> None:
    user = accounts.create("erin", Access([Role.APPROVER], ["alice"]), **ADA, now=now)
    assert roles.may(user, Right.APPROVE)
    assert roles.owners(user) == {"alice"}
    accounts.set_access("erin", Access([Role.REQUESTER], ["alice"], active=False), **ADA, now=now)
    closed = User.objects.get(username="erin")
    assert roles.rights(closed) == roles.owners(closed) == frozenset()


@pytest.mark.parametrize(
    ("wanted", "code"),
    [(Access([Role.APPROVER, Role.ADMINISTRATOR]), "rolesApart"), (Access(owners=["a\u202eb"]), "ownersInvalid"),
     (Access(owners=["x" * 201]), "ownersInvalid"), (Access(owners=[""]), "ownersInvalid"),
     (Access(owners=[str(number) for number in range(101)]), "ownersInvalid")],
)  # fmt: skip
def test_what_nobody_may_have(wanted: Access, code: str, now: datetime) -> None:
    accounts.create("erin", Access([Role.AUDITOR]), **ADA, now=now)
    with pytest.raises(Problem, match=code):
        accounts.set_access("erin", wanted, **ADA, now=now)
    with pytest.raises(Problem, match=code):
        accounts.create("frank", wanted, **ADA, now=now)
    assert list(accounts.access_of(User.objects.get()).roles) == [Role.AUDITOR]
    assert len(events()) == 1


@pytest.mark.parametrize("name", ["", "a b", "a\u202eb", "<b>", "x" * 151, "a\x00"])
def test_names_that_are_none(name: str, now: datetime) -> None:
    with pytest.raises(Problem, match="accountInvalid"):
        accounts.create(name, Access(), **ADA, now=now)


def test_an_account_is_made_once(now: datetime) -> None:
    accounts.create("erin", Access([Role.AUDITOR]), **ADA, now=now)
    with pytest.raises(Problem, match="accountExists"):
        accounts.create("erin", Access([Role.ADMINISTRATOR]), **ADA, now=now)
    with pytest.raises(Problem, match="accountUnknown"):
        accounts.set_access("frank", Access(), **ADA, now=now)


def test_the_last_administrator_stays_one(now: datetime) -> None:
    for name in ("ada", "bea"):
        accounts.create(name, Access([Role.ADMINISTRATOR]), **ADA, now=now)
    assert accounts.set_access("ada", Access([Role.AUDITOR]), **ADA, now=now)
    for wanted in (Access([Role.AUDITOR]), Access([Role.ADMINISTRATOR], active=False)):
        with pytest.raises(Problem, match="lastAdministrator"):
            accounts.set_access("bea", wanted, **ADA, now=now)
    assert accounts.administrators() == ["bea"]


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("set_access", "erin", "--role", "approver", "--owner", "alice", "--why", "new here")
    assert "changepassword erin" in capsys.readouterr().out
    call_command("set_access", "erin", "--role", "auditor")
    call_command("set_access", "erin", "--role", "auditor")
    assert "it was so already" in capsys.readouterr().out
    assert [(each["by"], each["roles"]) for each in events()] == [("manage.py", ["approver"]), ("manage.py", ["auditor"])]
    with pytest.raises(CommandError, match="no account is both"):
        call_command("set_access", "erin", "--role", "approver", "--role", "administrator")
