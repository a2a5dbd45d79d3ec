"""A certificate that nobody renews is flagged, once for each threshold; whatever is renewed, replaced or revoked is not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from threading import Barrier

import pytest
import time_machine
from django.db import OperationalError, connection

from dashboard import expiry, watching
from dashboard.models import Ending, Flag, Watched
from eventlog import clock, fence, projections
from eventlog.models import Cursor, Event

from .support import SECOND, THRESHOLDS, Issue, Renew, at, flags, revoked

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("other_time")]


def test_each_threshold_is_flagged_once(issue: Issue) -> None:
    one = issue()
    for percent, count in ((79.9, 0), (80, 1), (80, 1), (90, 1), (95, 2), (99, 2), (100, 3), (110, 3)):
        expiry.flag_due(at(one, percent))
        assert flags() == [(one.serial, threshold) for threshold in THRESHOLDS[:count]]


def test_the_event_says_what_it_is_about(issue: Issue) -> None:
    one = issue("a.internal", "b.internal", service="payroll", node="n7")
    expiry.flag_due(at(one, 85))
    (event,) = Event.objects.filter(type="certificate.flagged")
    assert event.time == at(one, 85)
    assert f'"node":"n7","not_after":"{one.not_after:%Y-%m-%dT%H:%M:%SZ}","owner":"alice"'.encode() in bytes(event.body)


def test_a_day_old_certificate_that_is_renewed_in_time_rings_never(issue: Issue, renew: Renew) -> None:
    one = issue(profile="short-lived")
    expiry.flag_due(at(one, 72))
    two = renew(one)
    assert expiry.flag_due(at(one, 200)) == 1, "only its successor, which is as old by now"
    assert flags() == [(two.serial, "expired")]


def test_after_a_gap_the_gravest_alone(issue: Issue) -> None:
    one = issue()
    expiry.flag_due(at(one, 97))
    expiry.flag_due(at(one, 98))
    assert flags() == [(one.serial, "expiring")]


def test_a_clock_that_is_set_back_repeats_nothing(issue: Issue) -> None:
    one = issue()
    for percent in (97, 85, 10, 97, 85):
        expiry.flag_due(at(one, percent))
    assert flags() == [(one.serial, "expiring")]


@pytest.mark.parametrize("days", [1, 29])
def test_what_expired_while_nobody_looked_is_flagged(issue: Issue, days: int) -> None:
    one = issue()
    assert expiry.flag_due(one.not_after + timedelta(days=days)) == 1


def test_what_expired_long_ago_is_not(issue: Issue) -> None:
    one = issue()
    assert expiry.flag_due(one.not_after + timedelta(days=31)) == 0


def test_a_long_lived_one_is_found_by_the_index_from_its_first_threshold_on(issue: Issue, now: datetime) -> None:
    one = issue(not_after=now + timedelta(days=390))
    assert expiry.flag_due(at(one, 80)) == 0
    assert expiry.flag_due(one.not_after + 29 * timedelta(days=1)) == 1, "flagged for nothing in all that time"


# --- what rings no more


def test_a_renewed_one(issue: Issue, renew: Renew) -> None:
    one = issue()
    renew(one)
    assert expiry.flag_due(at(one, 90)) == 1
    assert flags()[0][0] != one.serial


def test_a_renewed_one_even_under_other_names(issue: Issue, renew: Renew) -> None:
    one = issue("a.internal")
    two = renew(one, "a.internal", "b.internal")
    expiry.flag_due(at(one, 90))
    assert [serial for serial, _ in flags()] == [two.serial]


def test_one_that_was_asked_for_anew_in_its_place(issue: Issue) -> None:
    one, two = issue("a.internal", "b.internal"), issue("b.internal", "a.internal")
    expiry.flag_due(at(two, 90))
    assert [serial for serial, _ in flags()] == [two.serial]
    assert one.serial != two.serial


@pytest.mark.parametrize("more", [{"node": "n2"}, {"service": "web"}, {"profile": "client"}])
def test_but_not_one_of_another_place(issue: Issue, more: dict[str, str]) -> None:
    one, two = issue(), issue(**more)
    expiry.flag_due(max(at(one, 90), at(two, 90)))
    assert {serial for serial, _ in flags()} == {one.serial, two.serial}


def test_nor_one_of_other_names(issue: Issue) -> None:
    one, two = issue("a.internal"), issue("b.internal")
    expiry.flag_due(max(at(one, 90), at(two, 90)))
    assert {serial for serial, _ in flags()} == {one.serial, two.serial}


def test_a_revoked_one(issue: Issue, now: datetime) -> None:
    one = issue()
    revoked(one, now)
    assert expiry.flag_due(at(one, 90)) == 0


def test_one_that_was_flagged_and_then_replaced(issue: Issue, renew: Renew) -> None:
    one = issue()
    expiry.flag_due(at(one, 85))
    with time_machine.travel(at(one, 86), tick=False):
        renew(one)
    expiry.flag_due(at(one, 100) + SECOND)
    assert flags()[0] == (one.serial, "renewal-missed")
    assert [serial for serial, _ in flags()].count(one.serial) == 1


def test_a_replacement_that_the_projection_has_not_read_yet(issue: Issue, renew: Renew, monkeypatch: pytest.MonkeyPatch) -> None:
    one = issue()
    projections.catch_up(watching.NAME)
    renew(one)
    with monkeypatch.context() as patch:
        patch.setattr(projections, "catch_up", lambda *_, **__: 0)
        assert expiry.flag_due(at(one, 90)) == 0


# --- the projection


def test_a_day_on_which_nothing_ends_any_more_has_no_row(issue: Issue, now: datetime) -> None:
    """As after a replay, which reads both events at once."""
    one = issue()
    projections.catch_up(watching.NAME)
    assert Ending.objects.get().day == one.not_after.date()
    revoked(one, now)
    projections.catch_up(watching.NAME)
    assert not Ending.objects.exists()


def test_a_rebuild_forgets_no_flag(issue: Issue) -> None:
    one = issue()
    expiry.flag_due(at(one, 85))
    before = list(Watched.objects.values()), list(Flag.objects.values())
    projections.rebuild(watching.NAME)
    assert (list(Watched.objects.values()), list(Flag.objects.values())) == before
    assert expiry.flag_due(at(one, 90)) == 0


def test_successors_within_one_run_of_events(issue: Issue, renew: Renew) -> None:
    one = issue("a.internal")
    two = renew(one, "b.internal")
    three = issue("a.internal")
    projections.catch_up(watching.NAME)
    assert set(Watched.objects.values_list("serial", flat=True)) == {two.serial, three.serial}


def test_nothing_is_flagged_on_a_projection_that_stopped(issue: Issue, monkeypatch: pytest.MonkeyPatch) -> None:
    one = issue()

    def fail(*_: object) -> None:
        raise ValueError("no such column")

    with monkeypatch.context() as patch:
        patch.setattr(watching, "insert_rows", fail)
        with pytest.raises(ValueError, match="no such column"):
            expiry.flag_due(at(one, 90))
    assert "no such column" in Cursor.objects.get(name=watching.NAME).error
    assert flags() == []


def test_nothing_is_flagged_on_a_log_that_was_set_back(issue: Issue, monkeypatch: pytest.MonkeyPatch) -> None:
    one = issue()

    def behind() -> None:
        raise fence.LogBehind("set back")

    monkeypatch.setattr(fence, "check", behind)
    with pytest.raises(fence.LogBehind):
        expiry.flag_due(at(one, 90))
    assert flags() == []


def test_nothing_is_flagged_by_a_clock_that_is_wrong(issue: Issue, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event dated ahead would stop issuance."""
    one = issue()

    def apart(now: datetime) -> None:
        raise clock.ClockApart(f"{now} is not the database server's")

    monkeypatch.setattr(clock, "check", apart)
    with pytest.raises(clock.ClockApart):
        expiry.flag_due(at(one, 90))
    assert flags() == []


def test_it_asks_for_what_is_due_by_the_index(issue: Issue, django_assert_max_num_queries: object) -> None:
    """A scan that finds nothing due costs a handful of statements, and reads no table from end to end."""
    one = issue()
    expiry.flag_due(at(one, 1))
    with django_assert_max_num_queries(9):  # type: ignore[operator]
        expiry.flag_due(at(one, 2))
    plan = Watched.objects.filter(next_at__gt=at(one, 1), next_at__lte=at(one, 2)).order_by("next_at")[:256]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET enable_seqscan = off")
    assert "next_at" in plan.explain()


# --- two at once


@pytest.mark.django_db(transaction=True)
def test_two_beats_at_once_flag_once(issue: Issue) -> None:
    certificates = [issue(f"n{number}.internal") for number in range(20)]
    moment, gate = max(at(each, 90) for each in certificates), Barrier(4)

    def scan() -> int:
        gate.wait()
        total = 0
        try:
            for _ in range(5):
                with suppress(OperationalError):  # SQLite's writers may wait too long for each other
                    total += expiry.flag_due(moment)
            return total
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        counts = [future.result() for future in [pool.submit(scan) for _ in range(4)]]
    assert sum(counts) == 20
    assert sorted(flags()) == sorted((each.serial, "renewal-missed") for each in certificates)


@pytest.mark.django_db(transaction=True)
def test_the_database_itself_refuses_a_second_flag(issue: Issue) -> None:
    """Whatever the table of watched certificates says."""
    one = issue()
    expiry.flag_due(at(one, 85))
    projections.catch_up(watching.NAME)  # or the event that comes next would mend the row
    Watched.objects.update(reached="", next_at=at(one, 80))
    expiry.flag_due(at(one, 85))
    assert flags() == [(one.serial, "renewal-missed")]
