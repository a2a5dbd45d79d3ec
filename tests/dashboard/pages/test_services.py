"""Services, reminders and drills: what each shows, and for which moment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from ca import mass_replacement
from ca.models import Certificate, CheckIn
from ca.selections import Selection
from dashboard import contacts
from dashboard import services as lineage
from dashboard.models import Generation, Reminder, Snooze, State, Unsubscribed
from dashboard.pages import reminders, services
from dashboard.roles import Role

from ..support import Issue, Renew, revoked
from .conftest import settle

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def context(staff: Client, path: str) -> Any:
    answer = staff.get(f"/dashboard/{path}")
    assert answer.status_code == 200, answer.content.decode()
    return answer.context


def html(staff: Client, path: str) -> str:
    return staff.get(f"/dashboard/{path}").content.decode()


def left_behind(certificate: Certificate, now: datetime) -> None:
    """As if its renewal had been due an hour ago."""
    settle()
    Generation.objects.filter(serial=certificate.serial).update(renew_by=now - timedelta(hours=1))


# --- Services


def test_no_service_yet(hierarchy: None, staff: Client) -> None:
    assert "No service yet" in html(staff, "services/")


def test_services_and_who_was_left_behind(fleet: list[Certificate], staff: Client, now: datetime) -> None:
    left_behind(fleet[1], now)
    found = context(staff, "services/")
    assert [(row["service"], row["nodes"], row["left_behind"]) for row in found["services"]] == [("ledger", 1, 0), ("payroll", 2, 1)]
    assert [each.serial for each in found["laggards"]] == [fleet[1].serial]
    assert "Left behind" in html(staff, "services/")
    assert context(staff, "services/?owner=bob")["services"] == []
    assert "left behind" in html(staff, "")


def test_who_was_left_behind_at_an_earlier_moment(fleet: list[Certificate], staff: Client, now: datetime) -> None:
    """Whether it was replaced or revoked since, or still is not; but not who was replaced or revoked by then."""
    settle()
    first, second, third, *_ = (Generation.objects.filter(serial=each.serial) for each in fleet)
    first.update(issued_at=now - 9 * DAY, renew_by=now - 6 * DAY, superseded_at=now - 3 * DAY)
    second.update(issued_at=now - 3 * DAY, renew_by=now - 2 * DAY)
    third.update(issued_at=now - 9 * DAY, renew_by=now - 5 * DAY, revoked_at=now - 4 * DAY)

    def named(days: float) -> list[str]:
        page = context(staff, f"services/?at={now - days * DAY:%Y-%m-%dT%H:%M:%SZ}")
        (payroll,) = (row for row in page["services"] if row["service"] == "payroll")
        assert payroll["left_behind"] == len(page["laggards"])
        return [each.serial for each in page["laggards"]]

    assert [named(days) for days in (6.5, 5.5, 4.5, 3.5, 2.5, 1.5)] == [
        [], [fleet[0].serial], [fleet[0].serial, fleet[2].serial], [fleet[0].serial], [], [fleet[1].serial],
    ]  # fmt: skip
    at = f"{now - 4.5 * DAY:%Y-%m-%dT%H:%M:%SZ}"
    assert f"at={at.replace(':', '%3A')}&amp;node=n1" in html(staff, f"services/?at={at}")


def test_services_in_pages(fleet: list[Certificate], staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "SIZE", 1)
    first = context(staff, "services/")
    assert ([row["service"] for row in first["services"]], first["after"]) == (["ledger"], "ledger")
    second = context(staff, "services/?after=ledger")
    assert ([row["service"] for row in second["services"]], second["after"]) == (["payroll"], None)


@pytest.mark.parametrize(("counted", "pages"), [
    (3, [["ledger", "payroll"], ["zoo"]]),
    (2, [["ledger"], ["payroll"], ["zoo"]]),
    (1, [["ledger"], ["payroll or more"], ["zoo or more"], []]),
])  # fmt: skip
def test_a_page_counts_no_more_than_it_says(
    fleet: list[Certificate], issue: Issue, staff: Client, monkeypatch: pytest.MonkeyPatch, counted: int, pages: list[list[str]]
) -> None:
    """However large a service is: it is counted whole on one page, or it is said that there is more."""
    for node in ("", "m1"):
        issue(service="zoo", node=node)
    settle()
    monkeypatch.setattr(lineage, "COUNTED", counted)
    seen, after = [], ""
    while after is not None:
        found = context(staff, f"services/{after}")
        seen.append([row["service"] + " or more" * row["or_more"] for row in found["services"]])
        after = found["after"] and f"?after={found['after']}"
    assert seen == pages
    assert ("it has more" in html(staff, "services/payroll/")) == (counted == 1)


def test_a_page_of_the_past_may_be_empty_and_lead_on(
    fleet: list[Certificate], staff: Client, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle()
    Generation.objects.filter(service="ledger").update(issued_at=now + DAY)
    monkeypatch.setattr(lineage, "COUNTED", 1)
    found = context(staff, f"services/?at={now:%Y-%m-%dT%H:%M:%SZ}")
    assert (found["services"], found["after"]) == ([], "ledger")
    assert "go further" in html(staff, f"services/?at={now:%Y-%m-%dT%H:%M:%SZ}")


def test_each_node_with_its_generations(fleet: list[Certificate], staff: Client) -> None:
    lines = context(staff, "services/payroll/")["lines"]
    assert [(line.newest.node, [(each.serial, status) for each, status in line.cells], line.status) for line in lines] == [
        ("n1", [(fleet[0].serial, "superseded"), (fleet[1].serial, "current")], "current"),
        ("n2", [(fleet[2].serial, "revoked")], "revoked"),
    ]
    assert [line.newest.node for line in context(staff, "services/payroll/?node=n2")["lines"]] == ["n2"]


def test_as_things_stood(fleet: list[Certificate], staff: Client, now: datetime) -> None:
    Generation.objects.filter(serial=fleet[0].serial).update(issued_at=now - 2 * DAY, superseded_at=now - DAY)
    Generation.objects.filter(serial=fleet[2].serial).update(issued_at=now - 2 * DAY)
    for moment in (f"{now - DAY * 1.5:%Y-%m-%dT%H:%M:%SZ}", f"{now - DAY * 1.5:%Y-%m-%dT%H:%M}"):
        lines = context(staff, f"services/payroll/?at={moment}")["lines"]
        assert [[(each.serial, status) for each, status in line.cells] for line in lines] == [
            [(fleet[0].serial, "current")],
            [(fleet[2].serial, "current")],
        ]
    assert context(staff, f"services/?at={now - 3 * DAY:%Y-%m-%dT%H:%M:%SZ}")["services"] == []
    assert "The first one came later" in html(staff, f"services/payroll/?at={now - 3 * DAY:%Y-%m-%dT%H:%M:%SZ}")


def test_lines_in_pages(issue: Issue, staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one node, too: many fleets name none."""
    monkeypatch.setattr(services, "LINES", 2)
    wanted = {issue(f"{name}.internal", node=node).serial for name, node in (("a", ""), ("b", ""), ("c", ""), ("d", "n1"), ("e", "n2"))}
    settle()
    found, path = [], "services/payroll/"
    while path:
        page = context(staff, path)
        found += [line.newest.serial for line in page["lines"]]
        path = f"services/payroll/?after={page['after']}" if page["after"] else ""
    assert len(found) == len(wanted)
    assert set(found) == wanted


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ([], None),
        ([(1, 1, 0)], ("serves it", None)),
        ([(1, 0, 0)], ("not deployed", 0)),
        ([(0, 0, 0)], ("not deployed", 0)),
        ([(0, 0, -1), (1, 1, 0)], ("serves it", None)),
        ([(1, 1, -1), (0, 0, 0)], ("not deployed", 0)),
        ([(1, "none", 0)], ("shows no certificate", None)),
        ([(1, "", 0)], ("nobody looks", None)),
    ],
    ids=["nothing", "deployed", "an older one", "not picked up", "deployed later", "went back", "none", "nobody"],
)
def test_what_a_node_says_it_serves(
    fleet: list[Certificate], staff: Client, now: datetime, said: list[tuple[int, Any, int]], word: tuple[str, int | None] | None
) -> None:
    for holder, served, hours in said:
        at = now + timedelta(hours=hours)
        serial = fleet[served].serial if isinstance(served, int) else served
        CheckIn.objects.create(serial=fleet[holder].serial, served=serial, said_at=at, seen_at=at)
    found = context(staff, "services/payroll/?node=n1")["lines"][0].word
    assert (found and (found.says, found.serial)) == (word and (word[0], None if word[1] is None else fleet[word[1]].serial))


@pytest.mark.parametrize("query", ["at=yesterday", "at=2026-13-01T00:00", "after=ff", "node=%00"])
def test_what_cannot_be_asked_of_a_service(fleet: list[Certificate], staff: Client, query: str) -> None:
    answer = staff.get(f"/dashboard/services/payroll/?{query}")
    assert answer.status_code == 400
    assert f"<strong>{query.partition('=')[0]}</strong>" in answer.content.decode()


def test_no_such_service(fleet: list[Certificate], staff: Client) -> None:
    assert staff.get("/dashboard/services/nowhere/").status_code == 404


# --- Reminders


def remind(certificate: Certificate, recipient: str, **more: Any) -> Reminder:
    defaults = {"threshold": "expiring", "recipient_hash": contacts.hash_of(recipient), "due_at": datetime.now(UTC)}
    return Reminder.objects.create(serial=certificate.serial, recipient=recipient, **{**defaults, **more})


def test_nobody_is_reminded_and_how_to_change_that(hierarchy: None, staff: Client, settings: Any) -> None:
    settings.EMAIL = settings.WEBHOOK_URL = None
    page = html(staff, "reminders/")
    assert "Nobody is reminded" in page
    assert "manage.py set_contacts --service" in page


def test_who_was_told_and_who_could_not_be(fleet: list[Certificate], staff: Client, now: datetime) -> None:
    one, two = fleet[0], fleet[1]
    remind(one, "ops@example.org", state=State.SENT, tried_at=now)
    remind(one, "gone@example.org", answer="550 no such user", tries=3)
    remind(two, "ops@example.org", state=State.HANDED, tried_at=now)
    remind(two, "webhook")
    standings = [row["standing"] for row in context(staff, "reminders/")["reminders"]]
    assert standings == ["waiting", "perhaps sent", "not delivered", "sent"]
    for state in standings:
        assert [row["standing"] for row in context(staff, f"reminders/?state={state}")["reminders"]] == [state]
    assert [row["standing"] for row in context(staff, "reminders/?recipient=ops@example.org")["reminders"]] == ["perhaps sent", "sent"]
    assert [row["standing"] for row in context(staff, f"reminders/?serial={one.serial}")["reminders"]] == ["not delivered", "sent"]
    assert "550 no such user" in html(staff, "reminders/")


def test_a_look_by_state_has_an_end(fleet: list[Certificate], staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    first = remind(fleet[0], "ops@example.org", state=State.SENT)
    for number in range(3):
        remind(fleet[1], f"o{number}@example.org")
    monkeypatch.setattr(reminders, "WINDOW", 3)
    page = context(staff, "reminders/?state=sent")
    assert (page["reminders"], page["older"]) == ([], first.id + 1)
    assert "There are older ones" in html(staff, "reminders/?state=sent")
    page = context(staff, f"reminders/?state=sent&before={page['older']}")
    assert [row["reminder"].id for row in page["reminders"]] == [first.id]


def test_who_wants_to_hear_nothing(fleet: list[Certificate], staff: Client, now: datetime) -> None:
    contacts.replace(contacts.Scope.DEFAULT, "", ["quiet@example.org"])
    remind(fleet[0], "ops@example.org", state=State.SENT)
    Snooze.objects.create(serial=fleet[0].serial, recipient_hash=contacts.hash_of("ops@example.org"), until=now + DAY)
    Snooze.objects.create(serial=fleet[1].serial, recipient_hash="00", until=now - DAY)
    Unsubscribed.objects.create(recipient_hash=contacts.hash_of("quiet@example.org"), at=now)
    page = context(staff, "reminders/")
    assert [(row["serial"], row["recipient"]) for row in page["snoozed"]] == [(fleet[0].serial, "ops@example.org")]
    assert [row["recipient"] for row in page["unsubscribed"]] == ["quiet@example.org"]


# --- Drills


def test_no_drill_yet(hierarchy: None, staff: Client) -> None:
    assert "manage.py replace_certificates --service" in html(staff, "drills/")


def test_a_drill_from_its_order_to_its_end(fleet: list[Certificate], renew: Renew, staff: Client, now: datetime) -> None:
    order = mass_replacement.order(Selection(service="payroll"), now + DAY, "superseded", "can we?", "sam", now)
    assert context(staff, "drills/")["drills"][0].standing == "marking"
    while mass_replacement.mark(order, now):
        pass
    (drill,) = context(staff, "drills/")["drills"]
    assert (drill.standing, drill.marked, drill.replaced, drill.left) == ("under way", 2, 1, 1), "the first has a successor already"
    page = context(staff, f"drills/{order}/")
    assert [row["serial"] for row in page["waiting"]] == [fleet[1].serial]
    renew(fleet[1])
    mass_replacement.tend(now + 2 * DAY)
    (drill,) = context(staff, "drills/")["drills"]
    assert (drill.standing, drill.marked, drill.replaced, drill.share) == ("completed", 2, 2, 100)
    assert context(staff, f"drills/{order}/")["progress"].revoked == 2
    assert "replacement.completed" in html(staff, f"drills/{order}/")


def test_no_such_drill(hierarchy: None, staff: Client) -> None:
    assert staff.get("/dashboard/drills/0123456789abcdef/").status_code == 404


def test_a_certificate_leads_to_its_service_and_to_what_can_be_done(
    fleet: list[Certificate], staff: Client, account: Callable[..., Client], now: datetime
) -> None:
    path, revoke = f"certificates/{fleet[1].serial}/", f"/admin/ca/certificate/revoke/?serial={fleet[1].serial}"
    operator, requester = account(Role.OPERATOR), account(Role.REQUESTER, owners=["alice"])
    assert 'href="/dashboard/services/payroll/?node=n1"' in html(staff, path)
    assert "/dashboard/services/" not in html(requester, path), "no page leads where its visitor may not go"
    assert revoke not in html(staff, path)
    assert revoke in html(operator, path)
    revoked(fleet[1], now)
    assert revoke not in html(operator, path)
