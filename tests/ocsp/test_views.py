"""Django's own URLs give the responder's answers: the same bytes under the same headers."""

# ruff: noqa: F811 (fixtures are named as what imports them)

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from django.db import OperationalError
from django.test import Client

from ocsp import views
from ocsp.models import Crl, Response
from tests.ocsp.responder.conftest import issuer, leaves  # noqa: F401
from tests.ocsp.responder.support import SHA1, SHA256, cert_id, escaped, request, responder, status_of
from tests.ocsp.support import Issue, log, revoked

pytestmark = pytest.mark.django_db
HTTPS = Client(enforce_csrf_checks=True)
KIND = "application/ocsp-request"


def post(der: bytes, kind: str = KIND):  # type: ignore[no-untyped-def]
    return HTTPS.post("/ocsp", der, content_type=kind)


@pytest.mark.unjudged("its CRLs are not any")
@pytest.mark.django_db(transaction=True)
def test_the_same_as_the_responders(tmp_path: Path, leaves: list[x509.Certificate], issuer: x509.Certificate, now: datetime) -> None:
    row = {"this_update": now, "next_update": now + timedelta(hours=1), "position": 1}
    Crl.objects.create(issuer="issuing-1", shard=-1, number=1, der=b"full", **row)
    Crl.objects.create(issuer="issuing-1", shard=3, number=1, der=b"shard", **row)
    asked = [request(leaves[0], issuer, algorithm) for algorithm in (SHA1, SHA256)]
    asked += [request(issuer, issuer), request(leaves[0], leaves[0]), b"garbage"]
    with responder(tmp_path) as running:
        for der in asked:
            for theirs, ours in ((running.post(der), post(der)), (running.get(der), HTTPS.get(escaped(der)))):
                assert (ours.status_code, ours.content) == (theirs.status, theirs.body)
                assert_same_headers(ours.headers, theirs.headers)
        for path in ("/crl/issuing-1.crl", "/crl/issuing-1/3.crl"):
            theirs, ours = running.ask("GET", path), HTTPS.get(path)
            assert (ours.status_code, ours.content) == (theirs.status, theirs.body)
            assert_same_headers(ours.headers, theirs.headers)


def assert_same_headers(ours: object, theirs: object) -> None:
    for name in ("Content-Type", "Content-Length", "Last-Modified", "Expires", "ETag"):
        assert ours.get(name) == theirs.get(name)  # type: ignore[attr-defined]
    (our_age, *ours_rest), (their_age, *theirs_rest) = (each["Cache-Control"].split(", ") for each in (ours, theirs))  # type: ignore[index]
    assert ours_rest == theirs_rest
    assert our_age == their_age or abs(int(our_age.split("=")[1]) - int(their_age.split("=")[1])) < 5


def test_both_algorithms_and_every_path(leaves: list[x509.Certificate], issuer: x509.Certificate) -> None:
    for algorithm, name in ((SHA1, "sha1"), (SHA256, "sha256")):
        der = request(leaves[0], issuer, algorithm)
        for answer in (post(der), HTTPS.get(escaped(der)), HTTPS.get(escaped(der).replace("%2F", "/").replace("%2B", "+"))):
            assert cert_id(answer.content) == (name, leaves[0].serial_number)


def test_revoked_in_the_log_is_not_good_though_nobody_follows(
    leaves: list[x509.Certificate], issuer: x509.Certificate, now: datetime
) -> None:
    assert status_of(post(request(leaves[0], issuer)).content) == "good"
    log(now, revoked(f"{leaves[0].serial_number:040x}"))
    assert status_of(post(request(leaves[0], issuer)).content) == "try_later"
    assert status_of(post(request(leaves[1], issuer)).content) == "good"


@pytest.mark.unjudged("its answers end before they say so")
def test_past_its_next_update_there_is_nothing_to_say(leaves: list[x509.Certificate], issuer: x509.Certificate, now: datetime) -> None:
    Response.objects.update(next_update=now)
    assert status_of(post(request(leaves[0], issuer)).content) == "try_later"


@pytest.mark.unjudged("its answers begin later")
def test_what_begins_later_is_not_given(leaves: list[x509.Certificate], issuer: x509.Certificate, now: datetime) -> None:
    Response.objects.update(this_update=now + timedelta(minutes=10))
    assert status_of(post(request(leaves[0], issuer)).content) == "try_later"


@pytest.mark.unjudged("its answers are ascribed to another issuer")
def test_another_issuers_certificate_is_not_answered(leaves: list[x509.Certificate], issuer: x509.Certificate) -> None:
    Response.objects.update(issuer="root")
    assert status_of(post(request(leaves[0], issuer)).content) == "unauthorized"


def test_conditional_requests(leaves: list[x509.Certificate], issuer: x509.Certificate) -> None:
    path = escaped(request(leaves[0], issuer))
    etag = HTTPS.get(path)["ETag"]
    again = HTTPS.get(path, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", etag)
    assert "Content-Type" not in again


def test_methods_types_and_sizes() -> None:
    assert (HTTPS.get("/ocsp").status_code, HTTPS.get("/ocsp")["Allow"]) == (405, "POST")
    assert HTTPS.post("/ocsp/AAAA").status_code == 405
    assert HTTPS.put("/crl/issuing-1.crl").status_code == 405
    assert post(b"x", "application/x-www-form-urlencoded").status_code == 415
    assert post(b"x" * 4097).status_code == 413
    assert HTTPS.get("/crl/nobody.crl").status_code == 404


def test_the_database_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**_: object) -> None:
        raise OperationalError

    monkeypatch.setattr(views.Crl.objects, "filter", away)
    monkeypatch.setattr(views.Issuer.objects, "order_by", lambda *_: away())
    assert (post(b"x").status_code, status_of(post(b"x").content)) == (200, "try_later")
    assert HTTPS.get("/crl/issuing-1.crl").status_code == 503


def test_no_session_and_no_redirect(issue: Issue) -> None:
    for path in ("/ocsp", "/ocsp/AAAA", "/ocsp//", "/crl/issuing-1.crl"):
        answer = HTTPS.get(path)
        assert answer.status_code not in (301, 302, 307, 308)
        assert not answer.cookies
