"""The operator's commands: contacts are set, shown and refused in words; a dry run shows and does nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.core.management import CommandError, call_command

from dashboard import contacts, silencing
from dashboard.models import Contact, Flag, Reminder

from .postoffice import PostOffice
from .support import Issue, at, flags

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("other_time")]
Call = Callable[..., str]


@pytest.fixture
def call() -> Call:
    def work(*arguments: str) -> str:
        out = io.StringIO()
        call_command(*arguments, stdout=out, stderr=out)
        return out.getvalue()

    return work


def listed() -> list[tuple[str, str, str]]:
    return list(Contact.objects.order_by("id").values_list("scope", "name", "address"))


def test_contacts_replace_those_that_were_there(call: Call) -> None:
    call("set_contacts", "--service", "payroll", "a@example.org", "b@Example.ORG", "a@example.org")
    call("set_contacts", "--owner", "team-x", "c@example.org")
    call("set_contacts", "--default", "d@example.org")
    assert listed() == [
        ("service", "payroll", "a@example.org"), ("service", "payroll", "b@example.org"), ("owner", "team-x", "c@example.org"),
        ("default", "", "d@example.org"),
    ]  # fmt: skip
    assert call("set_contacts", "--service", "payroll") == "service payroll: no contacts\n"
    assert len(listed()) == 2


@pytest.mark.parametrize(("arguments", "words"), [
    (("--service", "x", "not an address"), "'not an address' is not a mail address"),
    (("--service", "x", "a@example.org", "b@example.org\r\nBcc: c@d.example"), "is not a mail address"),
    (("--service", "", "a@example.org"), "--service: give a name"),
    (("--owner", "x" * 201, "a@example.org"), "--owner: give a name of 1 to 200"),
    (("--token", "ql_secret", "a@example.org"), "there is no token ql_secret; it is the id"),
    (("--resubscribe", "nobody"), "'nobody' is not a mail address"),
    (("--resubscribe", "a@example.org", "b@example.org"), "takes one address"),
    (("a@example.org",), "one of the arguments --service --token --owner --default --resubscribe is required"),
    (("--default", "--owner", "x"), "not allowed with"),
])  # fmt: skip
def test_what_is_refused_changes_nothing(call: Call, arguments: tuple[str, ...], words: str) -> None:
    call("set_contacts", "--service", "x", "before@example.org")
    with pytest.raises(CommandError) as error:
        call("set_contacts", *arguments)
    assert words in str(error.value)
    assert listed() == [("service", "x", "before@example.org")]


def test_a_token_is_named_by_its_id(call: Call, issue: Issue) -> None:
    one = issue()
    call("set_contacts", "--token", one.token, "a@example.org")
    assert listed() == [("token", one.token, "a@example.org")]


def test_the_list_says_who_cannot_be_told_and_why(call: Call, office: PostOffice, issue: Issue) -> None:
    call("set_contacts", "--service", "payroll", "bad@example.org", "gone@example.org", "good@example.org")
    silencing.unsubscribe(contacts.hash_of("gone@example.org"), datetime.now(UTC))
    office.recipient_answers["bad@example.org"] = "550 no such user"
    with time_machine.travel(at(issue(), 85), tick=False):
        assert call("send_reminders") == "1 flagged, 1 messages sent\n"
    lines = [line.split() for line in call("list_contacts").splitlines()]
    assert [line[2:] for line in lines] == [
        ["bad@example.org", "answered", "550"], ["gone@example.org", "unsubscribed"], ["good@example.org"], ["ops@example.org"]
    ]  # fmt: skip
    assert "subscribed again" in call("set_contacts", "--resubscribe", "gone@example.org")
    assert "unsubscribed" not in call("list_contacts")
    assert "it had not unsubscribed" in call("set_contacts", "--resubscribe", "gone@example.org")


@pytest.mark.parametrize("command", ["list_contacts", "send_reminders"])
def test_no_mail_server_is_said(call: Call, command: str, settings: Any, hierarchy: None) -> None:
    settings.EMAIL = None
    assert "EMAIL_URL is not set: nobody is reminded by mail" in call(command)


def test_a_dry_run_shows_who_would_be_told_what_and_does_nothing(call: Call, office: PostOffice, issue: Issue) -> None:
    one, two = issue("a.internal"), issue("b.internal", service="web")
    call("set_contacts", "--service", "web", "web@example.org")
    with time_machine.travel(at(two, 85), tick=False):
        shown = call("send_reminders", "--dry-run")
        assert (flags(), list(Flag.objects.all()), list(Reminder.objects.all()), office.delivered) == ([], [], [], [])
        (first,) = (line for line in shown.splitlines() if one.serial in line)
        assert all(word in first for word in ("ops@example.org", "a.internal", "renewal-missed", "not flagged yet"))
        (second,) = (line for line in shown.splitlines() if two.serial in line)
        assert "web@example.org" in second

        office.recipient_answers["web@example.org"] = "450 later"
        call("send_reminders")
        shown = call("send_reminders", "--dry-run")
        assert "ops@example.org" not in shown
        (second,) = (line for line in shown.splitlines() if two.serial in line)
        assert "answered 450" in second


def test_a_dry_run_says_that_nobody_would_be_told(call: Call, settings: Any, issue: Issue) -> None:
    settings.MAIL_TO = ()
    with time_machine.travel(at(issue(), 85), tick=False):
        assert "(nobody: set a contact)" in call("send_reminders", "--dry-run")


def test_what_may_have_been_delivered_is_counted(call: Call, office: PostOffice, issue: Issue) -> None:
    office.content_answers["ops@example.org"] = "crash"
    with time_machine.travel(at(issue(), 85), tick=False):
        call("send_reminders")
        assert "1 earlier ones were delivered or not" in call("send_reminders", "--dry-run")
