"""A client certificate is its node's right to its own renewal, revocation and status, and to nothing else; and whose word on it counts."""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from ipaddress import ip_network
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from ca import holders, renewal, revocation, tokens
from ca.api import client_certificates
from ca.errors import Problem
from ca.models import Certificate, Request
from quicklime_site import middleware
from tests.material import csr, new_key

from .conftest import Caller, code

pytestmark = pytest.mark.django_db
Pipeline = Callable[[], None]
PROXY, STRANGER = "10.0.0.5", "203.0.113.9"


class Node(Caller):
    """Comes through a proxy that tells the certificate that it shows."""

    def __init__(self, serial: str, **more: Any) -> None:
        super().__init__(address=PROXY, **more)
        self.serial, self.certificate = serial, Certificate.objects.get(serial=serial)

    def call(self, *arguments: Any, **headers: str) -> HttpResponse:
        told = f":{b64encode(bytes(self.certificate.der)).decode()}:"
        return super().call(*arguments, **{"Client_Cert": told, **headers})

    def at(self, what: str = "") -> str:
        return f"certificates/{self.serial}/{what}"


@pytest.fixture(autouse=True)
def proxy(settings: Any) -> None:
    settings.TRUSTED_PROXIES, settings.CLIENT_CERTIFICATE_HEADER = (ip_network(f"{PROXY}/32"),), "Client-Cert"


@pytest.fixture
def issue(hierarchy: None, alice: Caller, run_pipeline: Pipeline) -> Callable[..., Node]:
    def make(name: str = "payroll.internal", profile: str = "client", key: Any = None, by: Caller = alice) -> Node:
        body = {"csr": b64encode(csr(name, key=key)).decode(), "profile": profile, "service": "payroll", "node": "n1"}
        request = by.post("certificates/", body).json()["id"]
        run_pipeline()
        return Node(Certificate.objects.get(request=request).serial)

    return make


@pytest.fixture
def node(issue: Callable[..., Node]) -> Node:
    return issue()


def body(*names: str, **more: str) -> dict[str, str]:
    return {"csr": b64encode(csr(*(names or ("payroll.internal",)))).decode(), **more}


# --- what it is the right to


def test_its_own_status_and_receipt(node: Node) -> None:
    shown = node.get(node.at())
    assert (shown.status_code, shown.json()["status"]) == (200, "active")
    assert "revocation_secret" not in shown.json()
    assert node.get(node.at(), Accept="application/pkix-cert").content == bytes(node.certificate.der)
    assert node.get(node.at("receipt/")).status_code == 200
    assert node.get(f"certificates/{node.serial.lstrip('0')}/").status_code == 200


def test_its_own_renewal_without_a_proof(node: Node, run_pipeline: Pipeline, nobody: Caller) -> None:
    answer = node.post(node.at("renew/"), body(), Idempotency_Key="k")
    assert answer.status_code == 202, answer.content
    run_pipeline()
    new = Certificate.objects.get(replaces=node.serial)
    assert (new.owner, new.names, str(new.request)) == ("alice", ["dns:payroll.internal"], answer.json()["id"])
    assert code(node.post(node.at("renew/"), body())) == "alreadyRenewed"


def test_its_own_revocation(node: Node) -> None:
    answer = node.post(node.at("revoke/"), {"reason": "superseded"})
    assert (answer.status_code, answer.json()["status"], answer.json()["reason"]) == (200, "revoked", "superseded")


def test_its_compromised_key_with_all_its_certificates(issue: Callable[..., Node]) -> None:
    key = new_key()
    first, second, other = issue(key=key), issue("b.internal", key=key), issue("c.internal")
    assert first.post(first.at("revoke/"), {"reason": "keyCompromise"}).status_code == 200
    reasons = dict(Certificate.objects.values_list("serial", "reason"))
    assert reasons == {first.serial: "keyCompromise", second.serial: "keyCompromise", other.serial: None}


# --- and to nothing else


def test_another_certificate_is_none_of_its_business(issue: Callable[..., Node], node: Node, run_pipeline: Pipeline) -> None:
    other = issue("mail.internal")
    before = Certificate.objects.get(serial=other.serial)
    assert node.get(other.at()).status_code == 401
    assert node.get(other.at("receipt/")).status_code == 401
    assert code(node.post(other.at("renew/"), body("mail.internal"))) == "notEntitled"
    assert code(node.post(other.at("revoke/"), {"reason": "superseded"})) == "notEntitled"
    absent = f"certificates/{'0b' * 20}/"
    assert node.get(absent).content == node.get(other.at()).content
    assert code(node.post(absent + "revoke/", {"reason": "superseded"})) == "notEntitled"
    run_pipeline()
    assert Certificate.objects.get(serial=other.serial) == before
    assert before.revoked_at is None
    assert not Certificate.objects.exclude(replaces=None).exists()


@pytest.mark.parametrize("path", ["certificates/", "services/", "/log/entries"])
def test_no_list_is_opened_by_it(node: Node, path: str) -> None:
    assert node.get(path).status_code == 401


def test_no_new_certificate_is_had_by_it(node: Node) -> None:
    assert node.submit("payroll.internal").status_code == 401


def test_other_names_are_not_had_by_it(node: Node) -> None:
    assert code(node.post(node.at("renew/"), body("root.internal"))) == "namesChanged"


@pytest.mark.parametrize("reason", ["privilegeWithdrawn", "certificateHold", "made up"])
def test_reasons_that_it_may_not_say(node: Node, reason: str) -> None:
    assert code(node.post(node.at("revoke/"), {"reason": reason})) == "reasonForbidden"


def test_a_browser_that_shows_it_to_any_page_revokes_nothing(node: Node) -> None:
    """A page of a stranger can have a browser post, with its certificate, nothing, text or a form; but no JSON."""
    assert code(node.call("POST", node.at("revoke/"), b"", "")) == "missingField"
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert node.call("POST", node.at("revoke/"), b'{"reason": "superseded"}', kind).status_code == 415
    assert node.get(node.at()).json()["status"] == "active"


def test_a_proof_that_is_sent_has_to_be_right(node: Node) -> None:
    wrong = b64encode(b"x" * 70).decode()
    assert code(node.post(node.at("renew/"), body(proof=wrong))) == "notEntitled"


def test_a_token_that_is_sent_decides(node: Node, bob: Caller) -> None:
    both = Node(node.serial, secret=bob.secret)
    assert both.get(both.at()).status_code == 404
    assert code(both.post(both.at("renew/"), body())) == "notEntitled"
    assert both.post(both.at("revoke/"), {"reason": "superseded"}).status_code == 403


# --- which certificates do


@pytest.mark.parametrize(("profile", "expected"), [("client", 200), ("peer", 200), ("short-lived", 200), ("server", 401)])
def test_it_has_to_be_for_clients(issue: Callable[..., Node], profile: str, expected: int) -> None:
    found = issue(profile=profile)
    assert found.get(found.at()).status_code == expected


def test_a_revoked_one_is_none(node: Node, now: datetime) -> None:
    revocation.by_client_certificate(node.serial, bytes(node.certificate.der), "superseded", now)
    assert node.get(node.at()).status_code == 401
    assert code(node.post(node.at("renew/"), body())) == "notEntitled"
    assert code(node.post(node.at("revoke/"), {"reason": "keyCompromise"})) == "notEntitled"


def test_an_expired_one_and_one_of_tomorrow_are_none(node: Node) -> None:
    (old,) = renewal.find({node.serial}).values()
    assert holders.check(old, old.der, None, old.not_after) == old
    for moment in (old.not_after + timedelta(seconds=1), old.not_before - timedelta(seconds=1)):
        with pytest.raises(Problem, match="notEntitled"):
            holders.check(old, old.der, None, moment)


def test_one_that_only_says_so_is_none(node: Node) -> None:
    """The same serial, subject and names from another CA."""
    real = x509.load_der_x509_certificate(bytes(node.certificate.der))
    builder = x509.CertificateBuilder(real.issuer, real.subject, new_key().public_key(), real.serial_number)
    builder = builder.not_valid_before(real.not_valid_before_utc).not_valid_after(real.not_valid_after_utc)
    for extension in real.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    node.certificate.der = builder.sign(new_key(), hashes.SHA256()).public_bytes(Encoding.DER)
    assert node.get(node.at()).status_code == 401
    assert code(node.post(node.at("renew/"), body())) == "notEntitled"


# --- where the key is used


@pytest.mark.unjudged("the proof in the row is changed by hand")
@pytest.mark.parametrize("change", ["proof", "other certificate", "other request"])
def test_what_the_door_attests_is_looked_at_where_the_key_is_used(
    issue: Callable[..., Node], node: Node, change: str, run_pipeline: Pipeline
) -> None:
    other = issue("mail.internal")
    asked = node.post(node.at("renew/"), body()).json()["id"]
    row = Request.objects.get(id=asked)
    if change == "proof":
        row.renewal_proof = b"\0" * 32
    elif change == "other certificate":
        row.replaces = other.serial
    else:
        row.csr = csr("payroll.internal")
    row.save()
    run_pipeline()
    assert (Request.objects.get(id=asked).error or {})["code"] == "notEntitled"


def test_nobody_can_send_what_the_door_attests(node: Node, nobody: Caller) -> None:
    """Not even who stole the key that it is made by: that revokes, and issues nothing."""
    der = csr("payroll.internal")
    (old,) = renewal.find({node.serial}).values()
    forged = b64encode(renewal.attestation(old, sha256(der).digest())).decode()
    answer = nobody.post(node.at("renew/"), {"csr": b64encode(der).decode(), "proof": forged})
    assert code(answer) == "notEntitled"


def test_the_token_behind_it_still_has_to_permit_it(node: Node, alice: Caller, now: datetime) -> None:
    tokens.revoke(alice.id, now, by="test", why="left")
    assert code(node.post(node.at("renew/"), body())) == "tokenRevoked"


# --- whose word on it counts


def _seen(peer: str, connection: object = None, **headers: str) -> tuple[bytes | None, bool]:
    """What a view finds, and whether the header is there still."""
    found: list[HttpRequest] = []

    def view(request: HttpRequest) -> HttpResponse:
        found.append(request)
        return HttpResponse()

    request = RequestFactory().get("/", REMOTE_ADDR=peer, headers=headers)
    request.META["gunicorn.socket"] = connection
    middleware.client_certificate(view)(request)
    return client_certificates.shown(found[0].META), "HTTP_CLIENT_CERT" in found[0].META


def test_a_proxy_tells_it_in_either_form(node: Node) -> None:
    der = bytes(node.certificate.der)
    for told in (f":{b64encode(der).decode()}:", quote(ssl.DER_cert_to_PEM_cert(der))):
        assert _seen(PROXY, Client_Cert=told) == (der, False)


@pytest.mark.parametrize("told", ["", ":", "::", ":x:", "-----BEGIN CERTIFICATE-----", "é", "%ff", ":" + "A" * 9000, "(null)"])
def test_what_is_none_is_none(told: str) -> None:
    assert _seen(PROXY, Client_Cert=told)[0] in (None, b"")


def test_from_everybody_else_the_header_is_stripped(node: Node, nobody: Caller) -> None:
    told = f":{b64encode(bytes(node.certificate.der)).decode()}:"
    for peer in (STRANGER, "127.0.0.1", "", "unix"):
        assert _seen(peer, Client_Cert=told) == (None, False)
    for headers in ({"Client_Cert": told}, {"Client_Cert": told, "X_Forwarded_For": PROXY}, {"X_SSL_Client_Cert": told}):
        assert nobody.get(node.at(), **headers).status_code == 401


def test_without_the_setting_no_header_counts(node: Node, settings: Any) -> None:
    settings.CLIENT_CERTIFICATE_HEADER = ""
    assert node.get(node.at()).status_code == 401


class _Connection(ssl.SSLSocket):
    """A connection whose client showed a certificate; only that is asked of it."""

    def __init__(self) -> None:
        pass

    def getpeercert(self, binary_form: bool = False) -> Any:
        assert binary_form
        return b"of the connection"


def test_a_proxys_own_certificate_is_nobodys_behind_it() -> None:
    assert _seen(STRANGER, _Connection()) == (b"of the connection", False)
    assert _seen(PROXY, _Connection()) == (None, False)
    assert _seen(PROXY, _Connection(), Client_Cert=":AAAA:") == (b"\0\0\0", False)
