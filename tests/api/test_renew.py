"""POST certificates/{serial}/renew/: who is let through, who is kept out, and what neither learns."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from django.db import connection
from django.http import HttpResponse
from django.test.utils import CaptureQueriesContext

from ca import tokens
from ca.api import limits
from ca.api.limits import Buckets
from ca.models import Certificate, Request
from eventlog.models import Event
from tests.material import csr, new_key

from .conftest import Caller, code
from .test_idempotency import at_once

pytestmark = pytest.mark.django_db
ABSENT = "0b" * 20
STRANGER = "198.51.100.1"
Pipeline = Callable[[], None]


def path(serial: str) -> str:
    return f"certificates/{serial}/renew/"


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bucket fills again, however slow the test is."""
    monkeypatch.setattr(limits, "guesses", Buckets(clock=lambda: 0.0))
    monkeypatch.setattr(limits, "all_guesses", Buckets(clock=lambda: 0.0))


class Node:
    """Who holds a certificate, as the certificate object shows it, and its key. It knows of the CA what that object says."""

    def __init__(self, certificate: dict[str, Any], key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate, self.key = certificate, key
        self.serial = str(certificate["serial"])

    def body(self, der: bytes | None = None, key: ec.EllipticCurvePrivateKey | None = None) -> dict[str, str]:
        der = der or csr("payroll.internal")
        held = x509.load_pem_x509_certificate(self.certificate["pem"].encode())
        issuer = held.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier or b""
        signed = b"quicklime-renewal-v1\0" + issuer + held.serial_number.to_bytes(20)
        signed += b64decode(self.certificate["renewal_challenge"]) + sha256(der).digest()
        proof = (key or self.key).sign(signed, ec.ECDSA(hashes.SHA256()))
        return {"csr": b64encode(der).decode(), "proof": b64encode(proof).decode()}

    def renew(self, caller: Caller, der: bytes | None = None, **headers: str) -> HttpResponse:
        return caller.post(path(self.serial), self.body(der), **headers)


@pytest.fixture
def node(hierarchy: None, alice: Caller, run_pipeline: Pipeline) -> Node:
    key = new_key()
    body = {"csr": b64encode(csr("payroll.internal", key=key)).decode(), "service": "payroll", "node": "n1"}
    request = alice.post("certificates/", body).json()["id"]
    run_pipeline()
    return Node(alice.get(f"requests/{request}/").json()["certificate"], key)


# --- what it answers


def test_the_key_needs_no_token(node: Node, nobody: Caller, alice: Caller, run_pipeline: Pipeline) -> None:
    der = csr("payroll.internal")
    answer = node.renew(nobody, der, Idempotency_Key="k")
    assert answer.status_code == 202
    assert answer["Location"] == f"/api/v1/requests/{answer.json()['id']}/"
    assert answer["Retry-After"] == "1"
    assert answer["Cache-Control"] == "no-store"
    run_pipeline()
    again = node.renew(nobody, der, Idempotency_Key="k")
    assert again.status_code == 201
    shown = again.json()["certificate"]
    assert again["Location"] == f"/api/v1/certificates/{shown['serial']}/"
    assert (again.json()["id"], again.json()["status"], again.json()["error"]) == (answer.json()["id"], "issued", None)
    assert (shown["replaces"], shown["replaced_by"]) == (node.serial, None)
    same = ("owner", "profile", "service", "node", "names", "subject")
    assert [shown[name] for name in same] == [node.certificate[name] for name in same]
    assert "revocation_secret" not in shown
    known = alice.get(f"certificates/{shown['serial']}/").json()
    assert {**shown, "revocation_secret": known["revocation_secret"]} == known
    assert alice.get(f"certificates/{node.serial}/").json()["replaced_by"] == shown["serial"]


def test_with_the_token_it_shows_the_secret(node: Node, alice: Caller, run_pipeline: Pipeline) -> None:
    der = csr("payroll.internal")
    assert node.renew(alice, der, Idempotency_Key="k").status_code == 202
    run_pipeline()
    assert "revocation_secret" in node.renew(alice, der, Idempotency_Key="k").json()["certificate"]


def test_every_spelling_of_the_request_and_the_serial(node: Node, nobody: Caller, run_pipeline: Pipeline) -> None:
    der = csr("payroll.internal")
    body = node.body(der)
    pem = x509.load_der_x509_csr(der).public_bytes(Encoding.PEM).decode()
    ids = {
        nobody.post(path(serial), {**body, "csr": text}, Idempotency_Key="k").json()["id"]
        for text in (body["csr"], pem)
        for serial in (node.serial, node.serial.lstrip("0"))
    }
    assert len(ids) == 1


@pytest.mark.django_db(transaction=True)
def test_who_waits_has_it_at_once(node: Node, nobody: Caller, run_pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    from ca import tasks

    monkeypatch.setattr(tasks, "wake", run_pipeline)
    answer = node.renew(nobody, Prefer="wait=20")
    assert (answer.status_code, answer["Preference-Applied"]) == (201, "wait=20")
    assert answer.json()["certificate"]["replaces"] == node.serial


def test_a_rejection_is_told(node: Node, nobody: Caller, alice: Caller, now: Any, run_pipeline: Pipeline) -> None:
    der = csr("payroll.internal")
    node.renew(nobody, der, Idempotency_Key="k")
    tokens.revoke(alice.id, now, "test", "leaked")
    run_pipeline()
    answer = node.renew(nobody, der, Idempotency_Key="k")
    assert (answer.status_code, code(answer)) == (401, "tokenRevoked")
    assert Request.objects.latest("id").state == "rejected"


# --- once


def test_a_second_one_is_409(node: Node, nobody: Caller, alice: Caller, bob: Caller, run_pipeline: Pipeline) -> None:
    body = node.body()
    assert nobody.post(path(node.serial), body).status_code == 202
    for _ in range(2):
        for answer in (
            nobody.post(path(node.serial), body),
            node.renew(nobody),
            node.renew(alice),
            node.renew(nobody, Idempotency_Key="k"),
        ):
            assert (answer.status_code, code(answer)) == (409, "alreadyRenewed")
        assert code(node.renew(bob)) == "notEntitled"
        run_pipeline()
    assert Certificate.objects.count() == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("different", [True, False])
def test_of_twenty_at_once_one_wins(node: Node, nobody: Caller, different: bool, run_pipeline: Pipeline) -> None:
    bodies = [node.body() for _ in range(20)] if different else [node.body()] * 20
    answers = at_once(20, lambda number: nobody.post(path(node.serial), bodies[number]))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 19
    run_pipeline()
    assert Certificate.objects.filter(replaces=node.serial).count() == 1


# --- tokens


def test_tokens(node: Node, bob: Caller, charlie: Caller, eve: Caller, caller: Callable[..., Caller], now: Any) -> None:
    assert code(node.renew(charlie)) == "forbidden"
    assert code(node.renew(eve)) == "notEntitled"
    assert code(node.renew(bob)) == "notEntitled"
    assert code(node.renew(Caller("ql_" + "x" * 43))) == "tokenInvalid"
    revoked = caller("alice", "issue")
    tokens.revoke(revoked.id, now, "test", "leaked")
    assert code(node.renew(revoked)) == "tokenInvalid"
    assert not Request.objects.exclude(state="issued").exists()
    assert node.renew(caller("alice", "renew")).status_code == 202


def test_names_stay_without_a_token(node: Node, nobody: Caller, alice: Caller) -> None:
    answer = node.renew(nobody, csr("db.internal"))
    assert (answer.status_code, code(answer)) == (422, "namesChanged")
    assert answer.json()["errors"][0]["where"] == "names"
    assert node.renew(alice, csr("db.internal")).status_code == 202


def test_nothing_revoked_is_renewed(node: Node, nobody: Caller) -> None:
    nobody.post(f"certificates/{node.serial}/revoke/", {"secret": node.certificate["revocation_secret"]})
    answer = node.renew(nobody)
    assert (answer.status_code, code(answer)) == (422, "certificateRevoked")


# --- bad input


def changed(body: dict[str, str], change: dict[str, Any]) -> dict[str, Any]:
    """`body` with what `change` says, without what it says is `...`."""
    return {name: value for name, value in (body | change).items() if value is not ...}


@pytest.mark.parametrize(
    ("change", "status", "expected"),
    [
        (None, 400, "malformedJson"),
        ([], 400, "malformedJson"),
        ("csr", 400, "malformedJson"),
        ({"csr": ..., "proof": ...}, 400, "missingField"),
        ({"csr": ...}, 400, "missingField"),
        ({"proof": ...}, 400, "missingField"),
        ({"profile": "client"}, 400, "unknownField"),
        ({"\u202e": ""}, 400, "unknownField"),
        ({"csr": 1}, 400, "invalidField"),
        ({"csr": None}, 400, "invalidField"),
        ({"csr": ""}, 403, "notEntitled"),
        ({"csr": "\u00e4"}, 400, "csrText"),
        ({"csr": "-----BEGIN CERTIFICATE-----"}, 400, "csrText"),
        ({"csr": "A" * 40_000}, 400, "csrTooLarge"),
        ({"proof": 1}, 400, "invalidField"),
        ({"proof": ["AAAA"]}, 400, "invalidField"),
        ({"proof": ""}, 400, "invalidField"),
        ({"proof": "A"}, 400, "invalidField"),
        ({"proof": "AA-_"}, 400, "invalidField"),
        ({"proof": "\u00c4\u00c4"}, 400, "invalidField"),
        ({"proof": "A" * 1400}, 400, "invalidField"),
        ({"proof": "AAAA"}, 403, "notEntitled"),
        ({"csr": b64encode(csr("payroll.internal")).decode()}, 403, "notEntitled"),
    ],
)
def test_each_wrong_body_has_its_answer(node: Node, nobody: Caller, change: Any, status: int, expected: str) -> None:
    size = Event.objects.count()
    body = changed(node.body(), change) if isinstance(change, dict) else change
    for serial in (node.serial, ABSENT):
        answer = nobody.post(path(serial), body)
        assert (answer.status_code, code(answer)) == (status, expected)
    assert (Event.objects.count(), Request.objects.count()) == (size, 1)
    assert node.renew(nobody).status_code == 202, "nothing is spent"


def test_a_well_proven_request_is_read_as_any(node: Node, nobody: Caller) -> None:
    for der, expected in ((b"\x30\x00", "csrEncoding"), (csr("payroll.internal")[:-1], "csrEncoding"), (csr(), "namesChanged")):
        assert code(node.renew(nobody, der)) == expected
    forged = bytearray(csr("payroll.internal"))
    forged[-1] ^= 1
    assert code(node.renew(nobody, bytes(forged))) in ("csrSignature", "csrEncoding")


def test_other_forms_and_methods(node: Node, nobody: Caller) -> None:
    assert code(nobody.call("POST", path(node.serial), csr("payroll.internal"), "application/pkcs10")) == "unsupportedMediaType"
    assert code(nobody.get(path(node.serial))) == "methodNotAllowed"
    assert code(nobody.post(path(node.serial) + "?profile=client", node.body())) == "unknownParameter"
    assert code(node.renew(nobody, Prefer="wait=x")) == "invalidHeader"
    assert code(node.renew(nobody, Idempotency_Key="\u00e4")) == "invalidHeader"
    assert Request.objects.count() == 1


# --- guessing


def test_an_unknown_serial_a_wrong_proof_and_a_strangers_token_are_answered_alike(
    node: Node, nobody: Caller, bob: Caller, stopped: None
) -> None:
    good, bad, seen = node.body(), node.body(key=new_key()), []
    for who, serial, body in ((nobody, node.serial, bad), (nobody, ABSENT, bad), (bob, node.serial, good), (bob, ABSENT, good)):
        with CaptureQueriesContext(connection) as queries:
            answer = who.post(path(serial), body, X_Request_Id="same")
        asked = [query["sql"].replace(serial, "") for query in queries if "ca_token" not in query["sql"]]
        seen.append((answer.status_code, answer.content, dict(answer.headers), asked))
    assert seen == [seen[0]] * 4
    assert seen[0][0] == 403


def test_wrong_proofs_are_counted_and_lock_nobody_out(node: Node, stopped: None) -> None:
    stranger = Caller(address=STRANGER)
    answers = [stranger.post(path(node.serial), node.body(key=new_key())) for _ in range(limits.GUESSES + 3)]
    assert [answer.status_code for answer in answers] == [403] * limits.GUESSES + [429] * 3
    assert int(answers[-1]["Retry-After"]) > 1
    assert node.renew(stranger).status_code == 202, "a holder may share the address"


def test_only_wrong_proofs_count(node: Node, nobody: Caller, stopped: None) -> None:
    for _ in range(limits.GUESSES * 2):
        assert node.renew(nobody, csr("db.internal")).status_code == 422
        assert nobody.post(path(node.serial), {}).status_code == 400
    assert node.renew(nobody).status_code == 202
