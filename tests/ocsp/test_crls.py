"""CRLs of a hierarchy: what they list, when the next one comes, and that no revocation is ever lost. Time is an argument."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from django.db import connection

from ca import keys
from ca.models import Certificate
from eventlog import projections
from eventlog.bulk import insert_rows
from eventlog.models import Cursor
from ocsp import crls, tasks
from ocsp.models import Crl, Issuer, State, Status

from .support import Issue, escalated, follow, intended, log, orphaned, revoked

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("hierarchy")]
HOUR = timedelta(hours=1)
URL = "http://pki.internal/crl"


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.CRL_URL, settings.CRL_SHARDS, settings.CRL_VALIDITY = URL, 0, 24 * HOUR


def publish(now: datetime) -> None:
    while crls.publish_due(now):
        pass


def read(shard: int = crls.FULL, issuer: str = "issuing-1") -> x509.CertificateRevocationList:
    """The newest CRL, as an outsider reads it."""
    found = x509.load_der_x509_crl(bytes(Crl.objects.get(issuer=issuer, shard=shard).der))
    authority = x509.load_der_x509_certificate(bytes(Issuer.objects.get(name=issuer).certificate))
    assert found.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    assert found.issuer == authority.subject
    return found


def listed(shard: int = crls.FULL) -> set[str]:
    return {f"{entry.serial_number:040x}" for entry in read(shard)}


def number(shard: int = crls.FULL) -> int:
    found = read(shard).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert found == Crl.objects.get(issuer="issuing-1", shard=shard).number
    return found


# --- what is listed


def test_before_any_revocation_root_and_intermediate_have_empty_ones(now: datetime) -> None:
    publish(now)
    assert {(row.issuer, row.shard) for row in Crl.objects.all()} == {("root", crls.FULL), ("issuing-1", crls.FULL)}
    assert len(read(issuer="root")) == len(read()) == 0
    assert read().last_update_utc == now - timedelta(seconds=60)
    assert read().next_update_utc == now + 24 * HOUR
    with pytest.raises(x509.ExtensionNotFound):
        read().extensions.get_extension_for_class(x509.IssuingDistributionPoint)


def test_a_revoked_one_is_listed_with_time_and_reason(issue: Issue, now: datetime) -> None:
    one, two, good = issue(3)
    log(now, revoked(one.serial, "superseded"), revoked(two.serial, "unspecified"))
    publish(now)
    assert listed() == {one.serial, two.serial}
    entries = {f"{entry.serial_number:040x}": entry for entry in read()}
    assert entries[one.serial].revocation_date_utc == now
    assert entries[one.serial].extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.superseded
    assert len(entries[two.serial].extensions) == 0
    assert good.serial not in listed()


def test_only_of_its_own_issuer(issue: Issue, now: datetime) -> None:
    (one,) = issue()
    log(now, revoked(one.serial))
    publish(now)
    assert len(read(issuer="root")) == 0


def test_a_certificate_is_in_its_shard_and_in_the_full_one(issue: Issue, now: datetime, settings: Any) -> None:
    settings.CRL_SHARDS = 4
    certificates = issue(12)
    log(now, *(revoked(each.serial) for each in certificates))
    publish(now)
    assert listed() == {each.serial for each in certificates}
    for each in certificates:
        certificate = x509.load_der_x509_certificate(bytes(each.der))
        (point,) = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        shard = int(each.serial, 16) % 4
        assert point.full_name == [x509.UniformResourceIdentifier(f"{URL}/issuing-1/{shard}.crl")]
        scope = read(shard).extensions.get_extension_for_class(x509.IssuingDistributionPoint)
        assert (scope.critical, scope.value.full_name) == (True, point.full_name)
        assert [shard for shard in range(4) if each.serial in listed(shard)] == [shard]


def test_a_revoked_orphan_stays_for_ever(now: datetime) -> None:
    serial = "3f" * 20
    log(now, intended(serial))
    log(now, orphaned(serial))
    log(now, revoked(serial))
    for year in range(4):
        publish(now + year * timedelta(days=365))
        assert listed() == {serial}


@pytest.mark.unjudged("an intent without a request")
def test_intents_and_orphans_are_not_listed(now: datetime) -> None:
    log(now, intended("3e" * 20), intended("3f" * 20), orphaned("3f" * 20))
    publish(now)
    assert listed() == set()


def test_a_worker_that_follows_the_log_makes_them(issue: Issue, now: datetime) -> None:
    (one,) = issue()
    publish(now)
    log(now, revoked(one.serial, "keyCompromise"))
    tasks.follow()
    assert listed() == {one.serial}


def test_a_worse_reason_comes_at_once(issue: Issue, now: datetime) -> None:
    (one,) = issue()
    log(now, revoked(one.serial, "superseded"))
    publish(now)
    log(now + HOUR, escalated(one.serial))
    publish(now + HOUR)
    (entry,) = read()
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise
    assert entry.revocation_date_utc == now


# --- expiry (RFC 5280 §3.3)


def test_an_expired_one_is_left_out_after_one_more_crl(issue: Issue, now: datetime) -> None:
    (one,) = issue(not_after=now + 10 * HOUR)
    log(now, revoked(one.serial))
    publish(now)
    at = now + 10 * HOUR + timedelta(seconds=70)
    publish(at + 6 * HOUR)  # the first CRL after its end
    assert listed() == {one.serial}
    publish(at + 20 * HOUR)
    assert listed() == set()


def test_one_revoked_after_its_end_is_listed_once(issue: Issue, now: datetime) -> None:
    (one,) = issue(not_after=now + HOUR)
    publish(now + 2 * HOUR)
    log(now + 3 * HOUR, revoked(one.serial))
    publish(now + 3 * HOUR)
    assert listed() == {one.serial}
    publish(now + 24 * HOUR)
    assert listed() == set()


def test_a_clock_that_was_ahead_for_a_while_un_revokes_nothing(issue: Issue, now: datetime) -> None:
    (one,) = issue()
    log(now, revoked(one.serial))
    publish(now)
    before = number()
    ahead = now + timedelta(days=730)
    publish(ahead)
    publish(ahead + 13 * HOUR)
    assert listed() == set()  # as far as that clock knew
    publish(now + HOUR)
    assert listed() == {one.serial}
    assert read().last_update_utc < now + HOUR
    assert number() > before + 2


def test_emptied_caches_lose_nothing(issue: Issue, now: datetime, settings: Any) -> None:
    settings.CRL_SHARDS = 2
    certificates = issue(6)
    log(now, *(revoked(each.serial) for each in certificates[:3]))
    publish(now)
    before = {shard: (listed(shard), number(shard)) for shard in (crls.FULL, 0, 1)}
    Crl.objects.all().delete()
    settings.CRL_SHARDS = 0  # the certificates still point to shards
    publish(now + timedelta(seconds=1))
    for shard, (serials, last) in before.items():
        assert listed(shard) == serials
        assert number(shard) > last


def test_a_projection_that_is_rebuilt_loses_nothing(issue: Issue, now: datetime) -> None:
    (one,) = issue()
    log(now, revoked(one.serial))
    publish(now)
    projections.rebuild("ocsp")
    publish(now + 13 * HOUR)
    assert listed() == {one.serial}


@pytest.mark.unjudged("the projection is kept from reading on")
def test_a_projection_that_stopped_stops_the_crls(issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = issue()
    publish(now)
    log(now, revoked(one.serial, "keyCompromise"))

    def broken(name: str) -> int:
        raise RuntimeError("no handler")

    before = number()
    with monkeypatch.context() as patch:
        patch.setattr(projections, "catch_up", broken)
        assert not crls.publish_due(now + 13 * HOUR)
    assert number() == before


# --- when


def test_the_next_one_comes_before_half_of_the_time(now: datetime, settings: Any) -> None:
    settings.CRL_SHARDS = 32
    publish(now)
    first = {row.shard: row.number for row in Crl.objects.filter(issuer="issuing-1")}
    assert len(first) == 33
    publish(now + 5.5 * HOUR)
    assert {row.shard: row.number for row in Crl.objects.filter(issuer="issuing-1")} == first
    publish(now + 9 * HOUR)
    some = {row.shard for row in Crl.objects.filter(issuer="issuing-1") if row.number != first[row.shard]}
    assert 8 < len(some) < 25  # the work is spread
    publish(now + 12 * HOUR)
    assert all(row.number > first[row.shard] for row in Crl.objects.filter(issuer="issuing-1"))


def test_one_made_is_not_made_again(now: datetime) -> None:
    publish(now)
    before = number()
    for minutes in (0, 1, 60, 300):
        publish(now + timedelta(minutes=minutes))
    assert number() == before


def test_a_compromised_key_is_told_at_once_other_reasons_within_a_minute(issue: Issue, now: datetime) -> None:
    one, two, three = issue(3)
    publish(now)
    log(now + timedelta(seconds=1), revoked(one.serial, "superseded"))
    publish(now + timedelta(seconds=2))
    assert listed() == set()
    log(now + timedelta(seconds=3), revoked(two.serial, "keyCompromise"))
    publish(now + timedelta(seconds=3))
    assert listed() == {one.serial, two.serial}
    log(now + timedelta(seconds=4), revoked(three.serial, "superseded"))
    publish(now + timedelta(seconds=32))
    assert three.serial not in listed()
    publish(now + timedelta(seconds=34))
    assert listed() == {one.serial, two.serial, three.serial}


def test_large_lists_of_compromised_keys_do_not_take_all_of_a_worker(issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = issue(2)
    publish(now)
    monkeypatch.setattr(crls, "_BYTES", len(Crl.objects.get(issuer="issuing-1").der) // 5)
    log(now, revoked(one.serial, "keyCompromise"))
    publish(now + timedelta(seconds=5))
    assert listed() == {one.serial}
    log(now, revoked(two.serial, "keyCompromise"))
    publish(now + timedelta(seconds=9))
    assert listed() == {one.serial}
    publish(now + timedelta(seconds=12))
    assert listed() == {one.serial, two.serial}


def test_only_the_shard_that_has_news_is_made_anew(issue: Issue, now: datetime, settings: Any) -> None:
    settings.CRL_SHARDS = 8
    (one,) = issue()
    publish(now)
    before = {row.shard: row.number for row in Crl.objects.filter(issuer="issuing-1")}
    log(now, revoked(one.serial, "keyCompromise"))
    publish(now)
    after = {row.shard: row.number for row in Crl.objects.filter(issuer="issuing-1")}
    assert {shard for shard in after if after[shard] != before[shard]} == {crls.FULL, int(one.serial, 16) % 8}


def test_compromised_keys_come_first_and_a_slice_ends(issue: Issue, now: datetime, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CRL_SHARDS = 8
    (one,) = issue()
    publish(now)
    log(now, revoked(one.serial, "keyCompromise"))
    monkeypatch.setattr(crls, "_SLICE", 0)
    later = now + 13 * HOUR  # all of them are due
    assert crls.publish_due(later)
    assert crls.publish_due(later)
    assert one.serial in listed()
    assert one.serial in listed(int(one.serial, 16) % 8)
    assert [crls.publish_due(later) for _ in range(8)] == [*[True] * 7, False]


def test_numbers_only_grow_even_when_the_clock_goes_back(now: datetime) -> None:
    publish(now)
    numbers = [number()]
    for at in (now + 13 * HOUR, now - 5 * HOUR, now - 30 * HOUR, now + 13 * HOUR):
        publish(at)
        numbers.append(number())
        assert read().last_update_utc <= at
    assert numbers == sorted(set(numbers))


def test_none_reaches_beyond_its_issuer(now: datetime) -> None:
    publish(now)
    end = x509.load_der_x509_certificate(bytes(Issuer.objects.get(name="issuing-1").certificate)).not_valid_after_utc
    publish(end - 3 * HOUR)
    assert read().next_update_utc == end
    last = number()
    for hours in (2, 1, 0, -1):
        publish(end - hours * HOUR)
        assert number() == last  # no other could last longer
    assert crls.overdue(end + HOUR) == []


# --- settings, keys


def test_shards_to_which_only_older_certificates_point_live_until_these_are_gone(issue: Issue, now: datetime, settings: Any) -> None:
    settings.CRL_SHARDS = 4
    certificates = issue(8, not_after=now + 100 * HOUR)
    pointed = {int(each.serial, 16) % 4 for each in certificates}
    settings.CRL_SHARDS = 1
    follow()
    publish(now)
    shards = {row.shard for row in Crl.objects.filter(issuer="issuing-1")}
    assert shards == {crls.FULL, 0} | pointed
    log(now + HOUR, *(revoked(each.serial, "keyCompromise") for each in certificates))
    publish(now + HOUR)
    assert set().union(*(listed(shard) for shard in pointed)) == {each.serial for each in certificates}
    for hours in range(10, 200, 10):
        publish(now + hours * HOUR)
    assert {row.shard for row in Crl.objects.filter(issuer="issuing-1")} == {crls.FULL, 0}


def test_without_a_url_there_is_the_full_one_only_and_no_pointer(issue: Issue, now: datetime, settings: Any) -> None:
    settings.CRL_URL, settings.CRL_SHARDS = "", 4
    (one,) = issue()
    certificate = x509.load_der_x509_certificate(bytes(one.der))
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints)
    follow()
    assert Status.objects.get(serial=one.serial).crl_shard is None
    publish(now)
    assert {row.shard for row in Crl.objects.all()} == {crls.FULL}


def test_an_issuer_whose_key_is_elsewhere_has_none(now: datetime) -> None:
    keys.path_of("root").unlink()
    publish(now)
    assert {row.issuer for row in Crl.objects.all()} == {"issuing-1"}


def test_a_key_that_does_not_open_stops_no_other(now: datetime, caplog: pytest.LogCaptureFixture) -> None:
    keys.path_of("issuing-1").write_text("damaged")
    keys.forget()
    publish(now)
    assert {row.issuer for row in Crl.objects.all()} == {"root"}
    assert "no CRL of issuing-1" in caplog.text
    assert "damaged" not in caplog.text.replace("file is damaged", "")


# --- two at once


def test_of_two_that_make_the_same_one_one_is_kept(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second store starts from a number that is taken: what it signed is dropped."""
    publish(now)
    row = Crl.objects.get(issuer="issuing-1")
    stale = Crl.objects.get(issuer="issuing-1")
    publish(now + 13 * HOUR)
    kept = Crl.objects.get(issuer="issuing-1")
    assert kept.number > row.number
    crls._store(
        Crl(issuer="issuing-1", shard=crls.FULL, number=row.number + 1, this_update=now, next_update=now, position=0, der=b"x"), stale
    )
    assert Crl.objects.get(issuer="issuing-1").number == kept.number
    crls._store(Crl(issuer="issuing-1", shard=crls.FULL, number=1, this_update=now, next_update=now, position=0, der=b"x"), None)
    assert Crl.objects.get(issuer="issuing-1").number == kept.number


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once(issue: Issue, now: datetime) -> None:
    (one,) = issue()
    log(now, revoked(one.serial, "keyCompromise"))
    follow()
    start, faults = threading.Barrier(2), []

    def work() -> None:
        try:
            start.wait(10)
            publish(now)
        except Exception as error:
            faults.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert faults == []
    assert Crl.objects.count() == 2
    assert listed() == {one.serial}


# --- health, size


def test_health_tells_of_crls_that_nobody_renews(now: datetime) -> None:
    publish(now)
    assert crls.soonest(now) == now + 24 * HOUR
    assert crls.overdue(now + 17 * HOUR) == []
    assert {row.issuer for row in crls.overdue(now + 19 * HOUR)} == {"root", "issuing-1"}
    publish(now + 19 * HOUR)
    assert crls.overdue(now + 19 * HOUR) == []


@pytest.mark.unjudged("fills the projection by hand")
def test_a_hundred_thousand_entries_in_two_seconds(now: datetime) -> None:
    publish(now)
    columns = ("serial", "issuer", "state", "profile", "not_after", "channels", "crl_shard", "revoked_at", "reason", "position")
    position = Cursor.objects.get(name="ocsp").position + 1
    rows = [
        (f"{2**158 + 7919 * each:040x}", "issuing-1", State.REVOKED.value, "server", now + HOUR, "crl", None,
         now - timedelta(seconds=each), "keyCompromise", position) for each in range(100_000)
    ]  # fmt: skip
    insert_rows(Status, columns, rows)
    began = time.process_time()
    publish(now)
    assert time.process_time() - began < 2
    assert len(read()) == 100_000


def test_certificates_say_the_shard_that_the_log_says(issue: Issue, settings: Any) -> None:
    settings.CRL_SHARDS = 5
    (one,) = issue()
    follow()
    row = Status.objects.get(serial=one.serial)
    assert (row.crl_shard, row.channels) == (int(one.serial, 16) % 5, "crl")
    assert Certificate.objects.get(serial=one.serial).serial == row.serial
