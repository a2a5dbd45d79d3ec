"""Whoever is to know of a missed renewal is told once: whatever mail servers, clocks and schedulers do meanwhile."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
import time_machine
from django.db import OperationalError, connection

from dashboard import contacts, expiry, reminders
from dashboard.flagged import unreplaced
from dashboard.models import Contact, Reminder, Scope, State
from eventlog.models import Event

from .postoffice import CRASH, CRASH_AFTER_DELIVERY, PostOffice
from .support import SECOND, Issue, Renew, at, revoked, text_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("other_time")]
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def run(now: datetime) -> int:
    """What the mail worker does once a minute."""
    expiry.flag_due(now)
    return reminders.send_due(now)


def sent_events() -> list[dict[str, Any]]:
    sent = Event.objects.filter(type="reminder.sent").order_by("position")
    return [json.loads(bytes(body))["data"] for body in sent.values_list("body", flat=True)]


def states() -> list[str]:
    return sorted(Reminder.objects.values_list("state", flat=True))


def test_one_mail_for_each_threshold(office: PostOffice, issue: Issue) -> None:
    one = issue()
    for percent, count in ((50, 0), (80, 1), (81, 1), (95, 2), (96, 2), (100, 3), (101, 3)):
        run(at(one, percent))
        assert len(office.delivered) == count
    assert [event["threshold"] for event in sent_events()] == ["renewal-missed", "expiring", "expired"]
    assert {event["recipient"] for event in sent_events()} == {contacts.hash_of("ops@example.org")}


def test_none_for_what_is_renewed(office: PostOffice, issue: Issue, renew: Renew) -> None:
    one = issue()
    renew(one)
    run(at(one, 79))
    assert office.delivered == []


def test_one_digest_for_each_recipient(office: PostOffice, issue: Issue) -> None:
    contacts.replace(Scope.SERVICE, "web", ["web@example.org", "second@example.org"])
    certificates = [issue(f"n{number}.internal", service="web" if number % 2 else "mail") for number in range(6)]
    assert run(max(at(each, 85) for each in certificates)) == 3
    assert {address: len(letters) for address, letters in office.letters.items()} == {
        "ops@example.org": 1, "web@example.org": 1, "second@example.org": 1
    }  # fmt: skip
    text = text_of(office.letters["web@example.org"][0])
    assert [f"n{number}.internal" in text for number in range(6)] == [False, True] * 3
    assert office.conversations == 1
    assert len(sent_events()) == 3 + 2 * 3


# --- whom


def test_the_closest_contact_is_told(office: PostOffice, issue: Issue) -> None:
    one = issue()
    for scope, name in ((Scope.DEFAULT, ""), (Scope.OWNER, "alice"), (Scope.TOKEN, one.token), (Scope.SERVICE, "payroll")):
        contacts.replace(scope, name, [f"{scope}@example.org"])
        assert contacts.of(unreplaced({one.serial: "expiring"}))[one.serial] == [f"{scope}@example.org"]


def test_nobody_to_tell_is_no_fault(settings: Any, office: PostOffice, issue: Issue) -> None:
    settings.MAIL_TO = ()
    one = issue()
    assert run(at(one, 85)) == 0
    assert not Reminder.objects.exists()


def test_a_corrected_contact_gets_what_waits(office: PostOffice, issue: Issue) -> None:
    contacts.replace(Scope.SERVICE, "payroll", ["gone@example.org", "stays@example.org"])
    office.recipient_answers = {"gone@example.org": "550 no such user"}
    one = issue()
    assert run(at(one, 85)) == 1
    contacts.replace(Scope.SERVICE, "payroll", ["new@example.org", "stays@example.org"])
    run(at(one, 85) + HOUR)
    run(at(one, 85) + 2 * HOUR)
    assert {address: len(letters) for address, letters in office.letters.items()} == {"stays@example.org": 1, "new@example.org": 1}


# --- servers that do not do their work


def test_without_a_server_it_waits(settings: Any, office: PostOffice, issue: Issue) -> None:
    settings.EMAIL = None
    one = issue()
    assert run(at(one, 85)) == 0
    settings.EMAIL = office.server
    assert run(at(one, 86)) == 1


def test_a_server_that_is_away_for_a_day(office: PostOffice, issue: Issue, renew: Renew, settings: Any) -> None:
    """One digest when it is back, of what still needs it, at the threshold where it is by then."""
    settings.EMAIL = settings.EMAIL.__class__("127.0.0.1", 1)
    one, two, three = issue("a.internal"), issue("b.internal"), issue("c.internal")
    begin = at(one, 94)
    for minutes in range(0, 24 * 60, 60):
        assert run(begin + minutes * MINUTE) == 0
    revoked(two, begin + DAY)
    settings.EMAIL = office.server
    run(begin + DAY)
    run(begin + DAY + MINUTE)
    (letter,) = office.delivered
    assert "a.internal" in text_of(letter)
    assert "b.internal" not in text_of(letter)
    assert "c.internal" in text_of(letter)
    assert {(event["serial"], event["threshold"]) for event in sent_events()} == {(one.serial, "expiring"), (three.serial, "expiring")}


@pytest.mark.parametrize("answer", ["451 try later", "452 full", "550 no such user", "554 no"])
def test_a_refused_recipient_stops_nobody_and_is_tried_again(office: PostOffice, issue: Issue, answer: str) -> None:
    contacts.replace(Scope.DEFAULT, "", ["bad@example.org", "good@example.org"])
    office.recipient_answers["bad@example.org"] = answer
    one = issue()
    assert run(at(one, 80)) == 1
    assert list(office.letters) == ["good@example.org"]
    assert Reminder.objects.get(recipient="bad@example.org").answer == f"answered {answer[:3]}"
    office.recipient_answers.clear()
    assert run(at(one, 80) + MINUTE) == 1
    assert [len(letters) for letters in office.letters.values()] == [1, 1]


@pytest.mark.parametrize("answer", ["451 try later", "552 too big"])
def test_a_refused_content_is_tried_again(office: PostOffice, issue: Issue, answer: str) -> None:
    office.content_answers["ops@example.org"] = answer
    one = issue()
    assert run(at(one, 80)) == 0
    assert states() == [State.DUE]
    office.content_answers.clear()
    assert run(at(one, 80) + MINUTE) == 1
    assert len(office.delivered) == 1


def test_it_is_tried_ever_more_seldom(office: PostOffice, issue: Issue) -> None:
    office.recipient_answers["ops@example.org"] = "550 no such user"
    one = issue()
    now, waits = at(one, 80), []
    for _ in range(14):
        run(now)
        waits.append(Reminder.objects.get().due_at - now)
        now = Reminder.objects.get().due_at
    assert waits[:4] == [MINUTE, 2 * MINUTE, 4 * MINUTE, 8 * MINUTE]
    assert max(waits) == waits[-1] == DAY


def test_a_recipient_whose_mention_breaks_the_connection_starves_nobody(office: PostOffice, issue: Issue) -> None:
    contacts.replace(Scope.DEFAULT, "", [f"a{number}@example.org" for number in range(4)])
    office.recipient_answers = {f"a{number}@example.org": CRASH for number in range(3)}
    one = issue()
    for minute in range(5):
        run(at(one, 80) + minute * MINUTE)
    assert list(office.letters) == ["a3@example.org"]


@pytest.mark.parametrize("answer", ["450 not now", "530 authentication required", "421 closing"])
def test_a_sender_that_is_not_taken_concerns_all_and_loses_nothing(office: PostOffice, issue: Issue, answer: str) -> None:
    office.sender_answer = answer
    one = issue()
    assert run(at(one, 80)) == 0
    office.sender_answer = "250 OK"
    assert run(at(one, 80) + MINUTE) == 1


@pytest.mark.parametrize(("crash", "letters"), [(CRASH, 0), (CRASH_AFTER_DELIVERY, 1)])
def test_a_server_that_crashes_at_the_end_is_not_told_again(office: PostOffice, issue: Issue, crash: str, letters: int) -> None:
    office.content_answers["ops@example.org"] = crash
    one = issue()
    assert run(at(one, 80)) == 0
    office.content_answers.clear()
    for hours in (1, 24, 48):
        run(at(one, 80) + hours * HOUR)
    assert len(office.delivered) == letters
    assert states() == [State.HANDED]
    assert sent_events() == []
    run(at(one, 95))
    assert len(office.delivered) == letters + 1, "the next threshold is told all the same"


def test_a_crashing_server_burns_one_recipient_a_run(office: PostOffice, issue: Issue) -> None:
    contacts.replace(Scope.DEFAULT, "", [f"a{number}@example.org" for number in range(5)])
    office.content_answers = {f"a{number}@example.org": CRASH for number in range(5)}
    one = issue()
    run(at(one, 80))
    assert states() == [State.DUE] * 4 + [State.HANDED]


def test_a_server_that_hangs_is_left(office: PostOffice, issue: Issue, monkeypatch: pytest.MonkeyPatch) -> None:
    from dashboard import smtp

    monkeypatch.setattr(smtp, "TIMEOUT", 0.2)
    office.pause = 1.0
    one = issue()
    assert run(at(one, 80)) == 0
    assert states() == [State.DUE]
    office.pause = 0.0
    assert run(at(one, 80) + MINUTE) == 1
    assert len(office.delivered) == 1


def test_a_run_ends_in_time_and_the_next_goes_on(office: PostOffice, issue: Issue, monkeypatch: pytest.MonkeyPatch) -> None:
    contacts.replace(Scope.DEFAULT, "", ["a@example.org", "b@example.org"])
    one = issue()
    with monkeypatch.context() as patch:
        patch.setattr(reminders, "RUN", -1.0)
        assert run(at(one, 80)) == 0
    assert run(at(one, 80)) == 2


def test_a_bad_address_in_the_table_stops_nobody(office: PostOffice, issue: Issue) -> None:
    """However it came there: it gets into no header and no command."""
    contacts.replace(Scope.DEFAULT, "", [f"a{number}@example.org" for number in range(10)])
    for bad in (
        "x@example.org\r\nBcc: all@example.org",
        "x@example.org\nRCPT TO:<all@example.org>",
        "x" * 200 + "@example.org",
        "@",
        "ü@x",
    ):
        Contact.objects.create(scope=Scope.DEFAULT, name="", address=bad)
    one = issue()
    assert run(at(one, 80)) >= 10
    assert len({address for address in office.letters if address.startswith("a")}) == 10
    assert all(address.isascii() and "all@" not in address for address in office.letters)
    assert all("Bcc" not in letter for letter in office.delivered)


# --- time, and two at once


def test_clock_steps_repeat_nothing_and_delay_nothing(office: PostOffice, issue: Issue) -> None:
    one = issue()
    office.recipient_answers["ops@example.org"] = "450 later"
    run(at(one, 85))
    office.recipient_answers.clear()
    assert run(at(one, 85) - 20 * DAY) == 1, "its next try would have been in 20 days"
    for percent in (85, 10, 86):
        assert run(at(one, percent)) == 0
    assert len(office.delivered) == 1


def test_a_claim_of_somebody_who_died_is_given_back(office: PostOffice, issue: Issue) -> None:
    one = issue()
    expiry.flag_due(at(one, 80))
    assert reminders._claim(contacts.hash_of("ops@example.org"), at(one, 80))
    assert run(at(one, 80) + 9 * MINUTE) == 0
    assert run(at(one, 80) + 11 * MINUTE) == 1


def test_a_claim_that_was_given_back_is_not_used_any_more(office: PostOffice, issue: Issue) -> None:
    """Two processes hold the same message; whoever is first to hand it over is the only one."""
    one = issue()
    expiry.flag_due(at(one, 80))
    slow = reminders._claim(contacts.hash_of("ops@example.org"), at(one, 80))
    assert slow
    assert run(at(one, 80) + HOUR) == 1
    with pytest.raises(reminders.ClaimLost):
        reminders._note_handed(slow)
    reminders._not_delivered(slow, "late", at(one, 80), HOUR)
    assert states() == [State.SENT]
    assert len(sent_events()) == 1


@pytest.mark.django_db(transaction=True)
def test_two_beats_at_once_mail_once(office: PostOffice, issue: Issue) -> None:
    contacts.replace(Scope.DEFAULT, "", [f"a{number}@example.org" for number in range(5)])
    certificates = [issue(f"n{number}.internal") for number in range(5)]
    moment, gate = max(at(each, 85) for each in certificates), Barrier(3)

    def work() -> None:
        gate.wait()
        try:
            for minute in range(6):
                with suppress(OperationalError):  # SQLite's writers may wait too long for each other
                    run(moment + minute * MINUTE)
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(work) for _ in range(3)]:
            future.result()
    run(moment + HOUR)
    told = [(address, number) for address, letters in office.letters.items() for letter in letters for number in range(5)
            if f"n{number}.internal" in text_of(letter)]  # fmt: skip
    assert sorted(told) == [(f"a{address}@example.org", number) for address in range(5) for number in range(5)]
    assert len(sent_events()) == 25


def test_the_database_itself_refuses_a_second_reminder(office: PostOffice, issue: Issue) -> None:
    one = issue()
    run(at(one, 80))
    reminders.record(unreplaced({one.serial: "renewal-missed"}), at(one, 80))
    assert run(at(one, 81)) == 0
    assert len(office.delivered) == 1


def test_no_address_is_in_the_log(office: PostOffice, issue: Issue) -> None:
    contacts.replace(Scope.SERVICE, "payroll", ["carol@example.org"])
    run(at(issue(), 85) + SECOND)
    assert sent_events()
    assert not [body for body in Event.objects.values_list("body", flat=True) if b"example.org" in bytes(body)]


def test_it_is_not_sent_after_it_was_replaced_while_the_server_was_away(office: PostOffice, issue: Issue, settings: Any) -> None:
    away = settings.EMAIL
    settings.EMAIL = away.__class__("127.0.0.1", 1)
    one = issue()
    run(at(one, 80))
    with time_machine.travel(at(one, 80) + MINUTE, tick=False):
        issue()  # anew, in its place
    settings.EMAIL = away
    assert run(at(one, 80) + HOUR) == 0
    assert one.serial not in {event["serial"] for event in sent_events()}
