"""Who signs, for how long, and that a certificate never waits for its answers nor goes without them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509 import ocsp as pyca

from ca import keys
from ca.models import Certificate
from ca.models import Issuer as CaIssuer
from eventlog.models import Event
from ocsp import feed, responses
from ocsp.models import Response, Status
from ocsp.responses import refresh_at

from .support import Issue, follow, log, revoked, said

pytestmark = pytest.mark.django_db


def test_a_certificate_comes_with_both_its_answers(issue: Issue, now: datetime) -> None:
    (certificate,) = issue()
    row = Response.objects.get()
    assert said(certificate.serial) == ["good", "good"]
    assert (row.serial, row.issuer, row.revoked, row.revision) == (certificate.serial, "issuing-1", False, 1)
    parsed = [pyca.load_der_ocsp_response(bytes(answer)) for answer in (row.sha1, row.sha256)]
    assert [each.hash_algorithm.name for each in parsed] == ["sha1", "sha256"]
    issuer = x509.load_der_x509_certificate(bytes(CaIssuer.objects.get(name="issuing-1").certificate))
    for each in parsed:
        assert each.serial_number == int(certificate.serial, 16)
        assert each.produced_at_utc - each.this_update_utc == timedelta(minutes=1)
        assert each.next_update_utc
        assert each.next_update_utc - each.produced_at_utc == timedelta(hours=24)
        keys_of(issuer).verify(each.signature, each.tbs_response_bytes, pyca_ecdsa())


def keys_of(certificate: x509.Certificate) -> Any:
    return certificate.public_key()


def pyca_ecdsa() -> Any:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.ECDSA(hashes.SHA256())


@pytest.mark.parametrize("profile", responses.UNANSWERED[:1])
def test_what_says_that_it_has_no_status_gets_none(issue: Issue, profile: str) -> None:
    issue(profile=profile)
    assert not Response.objects.exists()


@pytest.mark.parametrize("profile", ["server", "client", "peer"])
def test_all_others_get_answers_even_if_they_point_nowhere(settings: Any, issue: Issue, profile: str) -> None:
    settings.OCSP_URL = ""
    issue(profile=profile)
    assert Response.objects.count() == 1


def test_a_fault_in_signing_stops_no_issuance(issue: Issue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(responses, "signer_for", fail)
    issue(3)
    assert (Certificate.objects.count(), Response.objects.count()) == (3, 0)
    assert "issued without an OCSP response" in caplog.text


def test_a_refusal_by_the_database_stops_no_issuance(issue: Issue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_MANY", "SELECT nonsense %s")
    monkeypatch.setattr(feed, "_ONE", "SELECT nonsense %s")
    issue(3)
    assert (Certificate.objects.count(), Response.objects.count()) == (3, 0)


def test_an_issuer_whose_key_is_another_signs_nothing(issue: Issue, now: datetime, caplog: pytest.LogCaptureFixture) -> None:
    issue()
    certificate = bytes(CaIssuer.objects.get(name="root").certificate)
    with pytest.raises(responses.CannotSign, match="is not the key of its certificate"):
        responses.signer_for("issuing-1", certificate, now)


def test_no_answer_outlives_the_certificate_of_who_signs(issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    real = responses.signer_for
    end = now + timedelta(hours=3)

    def ends_soon(*arguments: Any) -> responses.ResponseSigner:
        signer = real(*arguments)
        return responses.ResponseSigner(signer.responder, end, signer.sign)

    monkeypatch.setattr(responses, "signer_for", ends_soon)
    issue()
    assert Response.objects.get().next_update == end


def test_the_web_process_is_not_asked(issue: Issue, settings: Any, now: datetime) -> None:
    issue()
    settings.ROLE = "web"
    keys.forget()
    with pytest.raises(responses.CannotSign, match="not for the web process"):
        responses.signer_for("issuing-1", bytes(CaIssuer.objects.get(name="issuing-1").certificate), now)


def test_what_is_known_of_a_revocation_alone_in_the_log_is_never_called_good(issue: Issue, now: datetime) -> None:
    """The projection has not read it yet, and the answer is being stored at this moment."""
    (certificate,) = issue()
    follow()
    row = Response.objects.get()
    ready = feed.Ready(
        row.serial, row.issuer, False, now, now + timedelta(hours=1), now, bytes(row.sha1), bytes(row.sha256),
        Event.objects.get(subject=certificate.serial, type="certificate.issued").position,
    )  # fmt: skip
    assert feed.store([ready]) == 1
    log(now, revoked(certificate.serial))
    assert feed.store([ready]) == 0
    follow()
    assert feed.store([ready]) == 0
    assert said(certificate.serial) == [None, None]


def test_the_next_answers_are_due_between_a_quarter_and_half_of_the_time_evenly(now: datetime) -> None:
    until = now + timedelta(hours=24)
    serials = [f"{number * (2**32 // 1000):040x}" for number in range(1000)]
    hours = sorted((refresh_at(serial, now, until, None) - now).total_seconds() / 3600 for serial in serials)
    assert 6 <= hours[0] < 6.1
    assert 11.9 < hours[-1] <= 12
    assert all(40 < sum(6 + n * 0.3 <= hour < 6.3 + n * 0.3 for hour in hours) < 60 for n in range(20))


def test_no_answer_becomes_older_than_four_days(now: datetime) -> None:
    assert refresh_at("f" * 40, now, now + timedelta(days=10), None) == now + timedelta(days=3.5)


def test_what_expires_before_is_not_signed_again(now: datetime) -> None:
    until = now + timedelta(hours=24)
    assert refresh_at("f" * 40, now, until, now + timedelta(hours=11)) == until
    assert refresh_at("f" * 40, now, until, now + timedelta(hours=13)) == now + timedelta(hours=12)


@pytest.mark.unjudged("rows changed by hand")
def test_a_revoked_answer_is_never_replaced_by_a_good_one_whatever_status_says(issue: Issue, now: datetime) -> None:
    (certificate,) = issue()
    follow()
    row, standing = Response.objects.get(), Status.objects.get()
    times = row.this_update, row.next_update, row.refresh_at
    good = feed.Ready(row.serial, row.issuer, False, *times, bytes(row.sha1), bytes(row.sha256), standing.position)
    assert feed.store([good]) == 1
    feed.withdraw([(certificate.serial, "issuing-1", now)])
    assert feed.store([good]) == 0
    assert said(certificate.serial) == [None, None]
