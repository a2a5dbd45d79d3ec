"""Links in a reminder: GET asks, POST acts, for the recipient it was sent to and nobody else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client

from dashboard import contacts, expiry, reminders, silencing
from dashboard.models import Reminder, Scope, Snooze, Unsubscribed

from .postoffice import PostOffice
from .support import Issue, at

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("other_time")]
OPS, BOB = contacts.hash_of("ops@example.org"), contacts.hash_of("bob@example.org")
SERIAL = "ab" * 20


def path(url: str) -> str:
    return url.removeprefix("https://localhost:8443")


def ask(url: str, method: str = "get", **data: str) -> Any:
    """As a browser or a mail program that has no cookie asks."""
    return getattr(Client(enforce_csrf_checks=True), method)(path(url), data, secure=True)


def run(now: datetime) -> int:
    expiry.flag_due(now)
    return reminders.send_due(now)


@pytest.mark.parametrize("method", ["get", "head"])
@pytest.mark.parametrize("url", [silencing.snooze_url(SERIAL, OPS), silencing.unsubscribe_url(OPS)])
def test_who_only_looks_changes_nothing(method: str, url: str) -> None:
    answer = ask(url, method)
    assert answer.status_code == 200
    assert not Snooze.objects.exists()
    assert not Unsubscribed.objects.exists()


@pytest.mark.parametrize("url", [silencing.snooze_url(SERIAL, OPS), silencing.unsubscribe_url(OPS)])
def test_the_page_asks_by_a_form_and_needs_no_login_no_cookie_no_script(url: str) -> None:
    answer = ask(url)
    page = answer.content.decode()
    assert '<form method="post">' in page
    assert "<script" not in page
    assert "style=" not in page
    assert not answer.cookies
    assert answer["Content-Security-Policy"].startswith("default-src 'self'")
    assert answer["Cache-Control"] == "no-store"
    assert answer["Referrer-Policy"] == "no-referrer"
    assert ask(url, "post").status_code == 200


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("change", [
    lambda url: url[:-1], lambda url: url + "A", lambda url: url.replace(OPS, BOB), lambda url: url.replace(SERIAL, "cd" * 20),
    lambda url: url.partition("snooze/")[0] + "snooze/x", lambda url: url.replace("/snooze/", "/unsubscribe/"),
])  # fmt: skip
def test_a_forged_link_leads_nowhere(method: str, change: Any) -> None:
    answer = ask(change(silencing.snooze_url(SERIAL, OPS)), method)
    assert answer.status_code == 404
    assert "leads nowhere" in answer.content.decode()
    assert not Snooze.objects.exists()
    assert not Unsubscribed.objects.exists()


def test_a_link_made_with_another_key_leads_nowhere(settings: Any) -> None:
    url = silencing.unsubscribe_url(OPS)
    settings.SECRET_KEY = "y" * 50
    assert ask(url, "post").status_code == 404


def test_other_methods_are_none() -> None:
    assert ask(silencing.unsubscribe_url(OPS), "put").status_code == 405


def test_one_click_unsubscribes(office: PostOffice, issue: Issue) -> None:
    """RFC 8058 §3.1: the POST of a mail program, without cookies."""
    one = issue()
    run(at(one, 80))
    url = office.delivered[0]["List-Unsubscribe"].replace("\r\n ", "").strip("<>")
    answer = Client(enforce_csrf_checks=True).post(path(url), {"List-Unsubscribe": "One-Click"}, secure=True)
    assert answer.status_code == 200
    for _ in range(2):
        run(at(one, 95))
    assert len(office.delivered) == 1
    contacts.resubscribe("ops@example.org")
    run(at(one, 100) + timedelta(seconds=1))
    assert len(office.delivered) == 2


def test_unsubscribing_drops_what_waits_and_silences_nobody_else(office: PostOffice, issue: Issue) -> None:
    contacts.replace(Scope.DEFAULT, "", ["ops@example.org", "bob@example.org"])
    one = issue()
    expiry.flag_due(at(one, 80))
    assert ask(silencing.unsubscribe_url(OPS), "post").status_code == 200
    assert ask(silencing.unsubscribe_url(OPS), "post").status_code == 200
    run(at(one, 80))
    assert list(office.letters) == ["bob@example.org"]


def test_when_the_last_contact_of_a_service_unsubscribed_the_next_level_is_told(office: PostOffice, issue: Issue) -> None:
    contacts.replace(Scope.SERVICE, "payroll", ["bob@example.org"])
    silencing.unsubscribe(BOB, datetime.now(UTC))
    run(at(issue(), 80))
    assert list(office.letters) == ["ops@example.org"]


def test_a_snoozed_certificate_is_silent_for_good(office: PostOffice, issue: Issue) -> None:
    contacts.replace(Scope.DEFAULT, "", ["ops@example.org", "bob@example.org"])
    one, two = issue("a.internal"), issue("b.internal")
    run(at(two, 80))
    assert ask(silencing.snooze_url(one.serial, OPS), "post", **{"for": "ever"}).status_code == 200
    run(at(two, 95))
    assert [letter["Subject"] for letter in office.letters["ops@example.org"]][1:] == ["[Quicklime] 1 certificate about to end"]
    assert [letter["Subject"] for letter in office.letters["bob@example.org"]][1:] == ["[Quicklime] 2 certificates about to end"]


@pytest.mark.parametrize("waits", [False, True])
def test_not_for_a_week(office: PostOffice, issue: Issue, waits: bool) -> None:
    """What would be told meanwhile, or waits already, is told after it if it is still so."""
    one = issue()
    begin = at(one, 80)
    if waits:
        expiry.flag_due(begin)
    with time_machine.travel(begin, tick=False):
        assert "until" in ask(silencing.snooze_url(one.serial, OPS), "post", **{"for": "week"}).content.decode()
    for days in (0, 3, 6.9):
        run(begin + timedelta(days=days))
    assert office.delivered == []
    run(begin + timedelta(days=7.1))
    run(begin + timedelta(days=7.2))
    assert len(office.delivered) == 1


def test_a_link_names_the_certificate_and_its_page_escapes(issue: Issue) -> None:
    one = issue("a.internal", node="n7")
    page = ask(silencing.snooze_url(one.serial, OPS)).content.decode()
    assert "a.internal" in page
    assert "n7" in page


def test_no_link_holds_an_address() -> None:
    for url in (silencing.snooze_url(SERIAL, OPS), silencing.unsubscribe_url(OPS)):
        assert "ops" not in url
        assert "example" not in url
    assert not Reminder.objects.exists()
