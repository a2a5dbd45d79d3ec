"""Which answers are made when; and the races that must never bring a good answer back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from ca import keys
from eventlog import clock, head
from eventlog.models import Cursor
from ocsp import crls, feed, leases, presign, responses, tasks
from ocsp.models import Crl, Response, Status
from ocsp.responses import Answers

from .support import Issue, escalated, follow, intended, log, orphaned, revoked, said

pytestmark = pytest.mark.django_db
ONE = "1" * 40
DAY = timedelta(days=1)


def walk(which: str, now: datetime) -> int:
    return presign.sign_from(presign.FIRST, presign.LAST, which, Answers(now), now).stored


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The messages that tasks send on, kept instead of sent."""
    kept: list[tuple[str, ...]] = []
    monkeypatch.setattr(tasks, "_send", lambda task, *arguments: kept.append((task.name, *arguments)))
    return kept


def test_a_revoked_serial_is_answered_at_once(issue: Issue, now: datetime, sent: list[Any]) -> None:
    (certificate,) = issue()
    log(now, revoked(certificate.serial, "keyCompromise"))
    tasks.follow()
    assert said(certificate.serial) == [("revoked", now, "key_compromise")] * 2
    row = Response.objects.get()
    assert row.revoked
    assert row.refresh_at > now + timedelta(hours=5)
    assert sent == []


def test_an_unspecified_reason_is_not_said(issue: Issue, now: datetime) -> None:
    (certificate,) = issue()
    log(now, revoked(certificate.serial, "unspecified"))
    tasks.follow()
    assert said(certificate.serial) == [("revoked", now, None)] * 2


def test_a_worse_reason_is_said_at_once(issue: Issue, now: datetime) -> None:
    (certificate,) = issue()
    log(now, revoked(certificate.serial))
    tasks.follow()
    log(now + timedelta(hours=1), escalated(certificate.serial))
    tasks.follow()
    assert said(certificate.serial) == [("revoked", now, "key_compromise")] * 2


def test_what_was_signed_and_never_recorded_is_revoked_too(hierarchy: None, now: datetime) -> None:
    log(now, intended(ONE), orphaned(ONE), revoked(ONE))
    tasks.follow()
    assert said(ONE) == [("revoked", now, "superseded")] * 2


def test_a_long_log_is_read_in_pieces_and_signed_meanwhile_and_no_crl_made_of_a_part(
    issue: Issue, now: datetime, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,), (other,) = issue(), issue()
    crls.publish_due(now)
    before = {crl.number for crl in Crl.objects.all()}
    log(now, revoked(one.serial, "keyCompromise"))
    log(now, revoked(other.serial, "keyCompromise"))
    monkeypatch.setattr(tasks, "_READ", 1)
    monkeypatch.setattr(tasks.projections.events, "CHUNK", 1)
    size = head.size()
    while Cursor.objects.get(name="ocsp").position < size:
        assert {crl.number for crl in Crl.objects.all()} == before
        sent.clear()
        tasks.follow()
        assert sent == [("ocsp.follow",)]
    assert [[status for status, *_ in said(each.serial)] for each in (one, other)] == [["revoked"] * 2] * 2
    sent.clear()
    tasks.follow()
    assert sent == []
    assert max(crl.number for crl in Crl.objects.all()) > max(before)


@pytest.mark.unjudged("an intent without a request")
def test_intents_and_orphans_have_no_answers(hierarchy: None, now: datetime) -> None:
    log(now, intended(ONE), intended("2" * 40), orphaned("2" * 40))
    follow()
    assert walk(presign.EVERYTHING, now) == 0
    assert not Response.objects.exists()


def test_what_is_due_is_made_anew_and_nothing_else(issue: Issue, now: datetime) -> None:
    issue(3)
    follow()
    due = Response.objects.order_by("refresh_at").first()
    assert due
    later = due.refresh_at + timedelta(seconds=1)
    assert presign.sign_due(later, later) == (1, False)
    fresh = Response.objects.get(serial=due.serial)
    assert (fresh.revoked, fresh.revision) == (False, due.revision + 1)
    assert fresh.next_update == later.replace(microsecond=0) + DAY
    assert later + timedelta(hours=5.9) < fresh.refresh_at < later + timedelta(hours=12.1)
    assert presign.sign_due(later, later) == (0, False)


def test_an_emptied_cache_is_filled_within_one_round(issue: Issue, now: datetime, sent: list[Any]) -> None:
    certificates = issue(5)
    log(now, revoked(certificates[0].serial))
    follow()
    Response.objects.all().delete()
    for number in range(presign.ROUND // presign.EVERY):
        moment = now + number * presign.EVERY
        after: str | None = presign.FIRST
        while (after := presign.sign_slice(moment, after)) is not None:
            assert number >= 0
    assert said(certificates[0].serial) == [("revoked", now, "superseded")] * 2
    assert [said(certificate.serial) for certificate in certificates[1:]] == [["good", "good"]] * 4


def test_a_round_comes_by_every_serial_once(now: datetime) -> None:
    parts = [presign.turn(now + number * presign.EVERY) for number in range(presign.ROUND // presign.EVERY)]
    begins, ends = sorted(begin for begin, _ in parts), sorted(end for _, end in parts)
    assert begins[0] == presign.FIRST
    assert ends[-1] == presign.LAST
    assert ends[:-1] == begins[1:]


def test_the_beat_is_as_fast_as_the_round_counts_on() -> None:
    from quicklime_site.schedule import BEAT

    assert BEAT["ocsp presign"]["schedule"] == presign.EVERY.total_seconds()


def test_what_expired_is_dropped_when_nobody_may_be_given_it(issue: Issue, now: datetime) -> None:
    (certificate,) = issue()
    follow()
    expired = certificate.not_after + timedelta(seconds=1)
    Response.objects.update(refresh_at=now, next_update=expired + timedelta(hours=1))
    assert presign.sign_due(expired, expired) == (0, False)
    assert Response.objects.get().refresh_at == expired + timedelta(hours=1)
    presign.sign_due(expired + timedelta(hours=2), expired + timedelta(hours=2))
    assert not Response.objects.exists()
    assert walk(presign.MISSING, expired) == 0


def test_a_revocation_between_reading_and_storing_wins(issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    (certificate,) = issue()
    follow()
    Response.objects.update(refresh_at=now)
    _meanwhile(monkeypatch, lambda: log(now, revoked(certificate.serial)))
    assert presign.sign_due(now, now).stored == 0
    follow()
    assert said(certificate.serial) == [None, None]


def test_a_withdrawal_between_reading_and_storing_wins(issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    (certificate,) = issue()
    follow()
    Response.objects.all().delete()

    def revoke() -> None:
        log(now, revoked(certificate.serial))
        follow()

    _meanwhile(monkeypatch, revoke)
    assert walk(presign.MISSING, now) == 0
    assert said(certificate.serial) == [None, None]
    assert presign.sign_due(feed.AT_ONCE, now).stored == 1


def test_a_reason_between_reading_and_storing_wins(issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    (certificate,) = issue()
    log(now, revoked(certificate.serial))
    follow()

    def escalate() -> None:
        log(now, escalated(certificate.serial))
        follow()

    _meanwhile(monkeypatch, escalate)
    assert presign.sign_due(now, now).stored == 0
    assert presign.sign_due(feed.AT_ONCE, now).stored == 1
    assert said(certificate.serial) == [("revoked", now, "key_compromise")] * 2


def _meanwhile(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> None:
    """Do `work` after the next answers are signed, before they are stored; once."""
    store = feed.store

    def stored(*arguments: Any) -> int:
        monkeypatch.setattr(feed, "store", store)
        work()
        return store(*arguments)

    monkeypatch.setattr(feed, "store", stored)


@pytest.mark.unjudged("rows changed by hand")
def test_an_issuer_without_a_key_keeps_no_other_from_its_turn(
    issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(presign, "SLICE", 2)
    lost, kept = issue(4)[:3], issue(1)[0]
    follow()
    Status.objects.filter(serial__in=[each.serial for each in lost]).update(issuer="root")
    Response.objects.filter(serial__in=[each.serial for each in lost]).update(issuer="root", refresh_at=now - DAY)
    Response.objects.filter(serial=kept.serial).update(refresh_at=now)
    keys.path_of("root").unlink()
    keys.forget()
    assert presign.sign_due(now, now).stored == 1
    assert Response.objects.get(serial=kept.serial).refresh_at > now
    assert caplog.text.count("no OCSP response for certificates of root") == 1


def test_who_drops_answers_locks_the_feed_before_their_rows(issue: Issue, now: datetime) -> None:
    (certificate,) = issue()
    with CaptureQueriesContext(connection) as queries:
        feed.forget({certificate.serial}, now)
    written = [query["sql"].split()[:3] for query in queries if query["sql"].split()[0] in ("UPDATE", "DELETE")]
    assert written[0][1] == "ocsp_feed"
    assert len(written) > 1


def ahead(by: timedelta, *serials: str) -> None:
    """As a host whose clock is ahead by that signed them."""
    for row in Response.objects.filter(serial__in=serials):
        Response.objects.filter(serial=row.serial).update(
            this_update=row.this_update + by, next_update=row.next_update + by, refresh_at=row.refresh_at + by
        )


@pytest.mark.unjudged("rows changed by hand")
def test_what_is_far_from_read_is_not_looked_through(issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readiness asks once a second, also where a million events were imported."""
    first, second, _ = sorted(issue(3), key=lambda certificate: certificate.log_position)
    follow()
    Response.objects.all().delete()
    Cursor.objects.filter(name="ocsp").update(position=first.log_position)
    monkeypatch.setattr(presign, "RECENT", 1)
    monkeypatch.setattr(presign, "turn", lambda _: (presign.FIRST, presign.FIRST))
    assert {row.serial for row in presign.missing(now)} == {first.serial, second.serial}


@pytest.mark.unjudged("rows changed by hand")
def test_answers_of_a_time_to_come_are_made_anew(issue: Issue, now: datetime, sent: list[Any]) -> None:
    gone, far, near, sound = (each.serial for each in issue(4))
    log(now, revoked(gone))
    tasks.follow()
    ahead(10 * DAY, gone, far)
    ahead(timedelta(minutes=4), near)
    before = {row.serial: row for row in Response.objects.all()}
    assert presign.backlog(now).ahead == 2
    assert presign.sign_slice(now) is None
    after = {row.serial: row for row in Response.objects.all()}
    assert {serial for serial, row in after.items() if row.revision != before[serial].revision} == {gone, far}
    assert after[far].this_update <= now < after[far].refresh_at <= now + DAY / 2 + timedelta(seconds=1)
    assert said(gone) == [("revoked", now, "superseded")] * 2
    assert said(far) == said(near) == said(sound) == ["good", "good"]
    assert presign.backlog(now).ahead == 0


def test_answers_of_a_time_to_come_wait_for_no_quiet_worker(issue: Issue, now: datetime, sent: list[Any]) -> None:
    (certificate,) = issue()
    follow()
    ahead(DAY, certificate.serial)
    tasks.follow()
    assert Response.objects.get().this_update <= now + timedelta(minutes=1)


def test_the_command_makes_answers_of_a_time_to_come_anew(issue: Issue, now: datetime) -> None:
    (certificate,) = issue()
    ahead(DAY, certificate.serial)
    call_command("presign")
    assert Response.objects.get().this_update <= now + timedelta(minutes=1)


def test_an_expired_ones_answer_of_a_time_to_come_is_dropped(issue: Issue, now: datetime) -> None:
    (certificate,) = issue()
    follow()
    expired = certificate.not_after + timedelta(seconds=1)
    ahead(expired - now + DAY, certificate.serial)
    presign.sign_ahead(expired)
    assert not Response.objects.exists()


def test_a_slice_ends_when_its_time_is_up(issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    issue(3)
    follow()
    monkeypatch.setattr(presign, "BUDGET", -1.0)
    Response.objects.update(refresh_at=now)
    assert [presign.sign_due(now, now) for _ in range(4)] == [(1, True), (1, True), (1, False), (0, False)]
    Response.objects.all().delete()
    first = presign.sign_from(presign.FIRST, presign.LAST, presign.MISSING, Answers(now), now, -1.0)
    assert first.stored == 1
    assert first.after == Response.objects.get().serial


# --- the tasks


def test_a_slice_that_leaves_something_sends_the_next_under_its_lease(
    issue: Issue, now: datetime, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    issue(3)
    follow()
    monkeypatch.setattr(presign, "BUDGET", -1.0)
    monkeypatch.setattr(tasks, "_now", lambda: now)
    Response.objects.update(refresh_at=now - DAY)
    tasks.presign_slice()
    ((name, held, after),) = sent
    assert (name, after) == ("ocsp.presign", presign.FIRST)
    tasks.presign_slice()  # beat's next: the lease is taken
    assert (len(sent), Response.objects.filter(refresh_at__lt=now).count()) == (1, 2)
    for _ in range(2):
        tasks.presign_slice(*sent[-1][1:])
    assert not Response.objects.filter(refresh_at__lt=now).exists()
    tasks.presign_slice(held, after)  # delivered again: another lease than the one that holds
    assert len(sent) == 2


@pytest.mark.skipif(connection.vendor == "sqlite", reason="the same host, the same clock")
@pytest.mark.parametrize("off", [timedelta(minutes=6), timedelta(minutes=-6)])
def test_a_clock_that_is_not_the_database_servers_signs_no_status(
    off: timedelta, issue: Issue, now: datetime, sent: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept, gone = (each.serial for each in issue(2))
    log(now, revoked(gone))
    Response.objects.filter(serial=kept).delete()
    monkeypatch.setattr(tasks, "_now", lambda: datetime.now(UTC) + off)
    for task in (tasks.follow, tasks.presign_slice, tasks.fresh):
        task()
        assert "this host's clock says" in caplog.text
        caplog.clear()
    assert (said(gone), Response.objects.count(), Crl.objects.count()) == ([None, None], 1, 0), "taken back, not signed"
    monkeypatch.undo()
    tasks.follow()
    tasks.presign_slice()
    assert (said(gone), said(kept)) == ([("revoked", now, "superseded")] * 2, ["good", "good"])
    assert Crl.objects.exists(), "no lease was taken by the wrong clock"


@pytest.mark.skipif(connection.vendor == "sqlite", reason="the same host, the same clock")
def test_the_database_server_is_asked_the_time_once_a_second(now: datetime) -> None:
    clock.check(now)
    with CaptureQueriesContext(connection) as queries:
        for _ in range(20):
            clock.check(now)
    assert len(queries) <= 1


def test_the_lease_of_who_died_ends_by_itself(now: datetime) -> None:
    period = timedelta(seconds=10)
    assert leases.take("work", now, period) == now + period
    assert leases.take("work", now + timedelta(seconds=9), period) is None
    assert leases.take("work", now + period, period) == now + 2 * period
    assert leases.prolong("work", now + period, now + period, period) is None
    assert leases.prolong("work", now + 2 * period, now + period, period) == now + 2 * period
    leases.give_back("work", now + 2 * period, now)
    assert leases.take("work", now, period)


def test_a_worker_that_never_comes_to_the_last_queue_makes_late_answers_first(issue: Issue, now: datetime, sent: list[Any]) -> None:
    issue(2)
    follow()
    Response.objects.update(refresh_at=now - timedelta(minutes=29))
    tasks.follow()
    assert Response.objects.filter(refresh_at__lt=now).count() == 2
    Response.objects.update(refresh_at=now - timedelta(minutes=31))
    tasks.follow()
    assert not Response.objects.filter(refresh_at__lt=now).exists()


@pytest.mark.unjudged("the projection is kept from reading on")
def test_a_stopped_projection_is_said_once_a_time_and_keeps_no_signature(
    issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (certificate,) = issue()
    log(now, revoked(certificate.serial))
    follow()

    def stop(name: str, **_: Any) -> None:
        raise ValueError("an event of newer code")

    monkeypatch.setattr(tasks.projections, "catch_up", stop)
    tasks.follow()
    assert "the projection ocsp stopped: an event of newer code" in caplog.text
    assert said(certificate.serial) == [("revoked", now, "superseded")] * 2


def test_without_redis_a_revocation_is_only_logged(
    issue: Issue, now: datetime, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (certificate,) = issue()
    monkeypatch.setattr(feed, "client", feed.client.__wrapped__)  # not the one that this process already has
    monkeypatch.setattr(feed, "_silent_until", 0.0)
    settings.REDIS_URL = "unix:///nowhere/redis.sock"

    def away(*_: Any, **__: Any) -> None:
        raise tasks.OperationalError("no broker")

    monkeypatch.setattr(tasks.follow, "apply_async", away)
    tasks.revoked(log(now, revoked(certificate.serial)))
    assert "could not announce" in caplog.text
    assert "ocsp.follow could not be sent" in caplog.text


# --- the command


def test_the_command_makes_what_is_missing_or_due(issue: Issue, now: datetime, capsys: pytest.CaptureFixture[str]) -> None:
    certificates = issue(3)
    Response.objects.filter(serial=certificates[0].serial).delete()
    Response.objects.filter(serial=certificates[1].serial).update(refresh_at=now)
    call_command("presign")
    assert "2 certificates" in capsys.readouterr().out
    call_command("presign")
    assert "0 certificates" in capsys.readouterr().out
    call_command("presign", all=True)
    assert "3 certificates" in capsys.readouterr().out


def test_the_profiles_without_answers_get_none_by_the_command(issue: Issue) -> None:
    issue(2, profile="short-lived")
    call_command("presign", all=True)
    assert not Response.objects.exists()
    assert Status.objects.filter(profile__in=responses.UNANSWERED).count() == 2
