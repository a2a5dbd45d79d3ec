"""Where the log says that each serial stands, and that nothing un-revokes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from ca.profiles import PROFILES
from eventlog import projections
from ocsp.models import Issuer, Responder, Response, Status
from ocsp.responses import UNANSWERED

from .support import Issue, escalated, follow, intended, log, orphaned, revoked, said, standing

pytestmark = pytest.mark.django_db
ONE, TWO = "1" * 40, "2" * 40


def tables() -> list[list[dict[str, Any]]]:
    return [sorted(model.objects.values(), key=repr) for model in (Issuer, Responder, Status)]


def test_a_certificate_stands_as_issued_with_what_status_needs_of_it(settings: Any, issue: Issue) -> None:
    settings.OCSP_URL, settings.CRL_URL = "http://pki.internal/ocsp", ""
    (certificate,) = issue()
    follow()
    row = Status.objects.get(serial=certificate.serial)
    assert (row.issuer, row.state, row.profile, row.channels) == ("issuing-1", "issued", "server", "ocsp")
    assert (row.not_after, row.revoked_at, row.reason) == (certificate.not_after, None, None)
    assert set(Issuer.objects.values_list("name", "kind")) == {("root", "root"), ("issuing-1", "intermediate")}


@pytest.mark.unjudged("an intent without a request")
def test_an_intent_is_no_certificate_and_an_orphan_stays_none(now: datetime) -> None:
    log(now, intended(ONE), intended(TWO), orphaned(TWO))
    follow()
    assert (standing(ONE)[0], standing(TWO)[0]) == ("intended", "orphaned")
    assert not Response.objects.exists()


@pytest.mark.unjudged("issued and orphaned")
def test_revoked_is_final_whatever_comes_after(issue: Issue, now: datetime) -> None:
    (certificate,) = issue()
    log(now, revoked(certificate.serial))
    log(now + timedelta(hours=1), revoked(certificate.serial, "unspecified"), orphaned(certificate.serial))
    follow()
    assert standing(certificate.serial) == ("revoked", now, "superseded")


def test_a_worse_reason_replaces_the_first_and_the_time_stays(issue: Issue, now: datetime) -> None:
    (certificate,) = issue()
    log(now, revoked(certificate.serial))
    follow()
    log(now + timedelta(hours=1), escalated(certificate.serial))
    follow()
    assert standing(certificate.serial) == ("revoked", now, "keyCompromise")


def test_what_was_never_recorded_can_be_revoked(now: datetime) -> None:
    log(now, intended(ONE), orphaned(ONE), revoked(ONE), intended(TWO), revoked(TWO), orphaned(TWO))
    follow()
    assert standing(ONE) == standing(TWO) == ("revoked", now, "superseded")
    assert said(ONE) == [None, None]


def test_a_revocation_takes_the_good_answer_back(issue: Issue, now: datetime) -> None:
    kept, gone = issue(2)
    log(now, revoked(gone.serial))
    follow()
    assert (said(kept.serial), said(gone.serial)) == (["good", "good"], [None, None])
    assert Response.objects.get(serial=gone.serial).revision > Response.objects.get(serial=kept.serial).revision


def test_no_answer_is_taken_back_where_none_is_given(issue: Issue, now: datetime) -> None:
    (certificate,) = issue(profile="short-lived")
    log(now, revoked(certificate.serial))
    follow()
    assert not Response.objects.exists()


def test_the_profiles_without_answers_are_those_that_say_so() -> None:
    leaves = [profile for profile in PROFILES.values() if not profile.ca]
    assert {profile.name for profile in leaves if profile.no_rev_avail or profile.ocsp_no_check} == set(UNANSWERED)


@pytest.mark.unjudged("an intent without a request")
def test_a_rebuild_makes_the_same_tables_and_touches_no_answer(issue: Issue, now: datetime) -> None:
    first, second, _ = issue(3)
    log(now, intended(ONE), orphaned(ONE), intended(TWO), revoked(first.serial), revoked(second.serial), revoked(TWO))
    follow()
    before, answers = tables(), list(Response.objects.order_by("serial").values())
    projections.rebuild("ocsp")
    assert tables() == before
    assert list(Response.objects.order_by("serial").values()) == answers


def test_many_events_at_once_are_folded_as_one_by_one(issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    issued = issue(3)
    log(now, intended(ONE), revoked(issued[0].serial), orphaned(ONE), escalated(issued[0].serial), revoked(ONE))
    follow()
    at_once = tables()
    monkeypatch.setattr("eventlog.events.CHUNK", 1)
    projections.rebuild("ocsp")
    assert tables() == at_once
