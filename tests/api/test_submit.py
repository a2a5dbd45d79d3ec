"""Submitting one request: every form that is accepted, and what the answer holds."""

from __future__ import annotations

import subprocess
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography import x509

from ca.models import Certificate, Request
from tests.material import csr

from .conftest import Caller, code

pytestmark = pytest.mark.django_db
Pipeline = Callable[[], None]


def pem(der: bytes) -> str:
    text = b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE REQUEST-----", *lines, "-----END CERTIFICATE REQUEST-----", ""])


DER = csr("payroll.internal", "10.0.0.7")
BASE64 = b64encode(DER).decode()
FORMS: dict[str, tuple[Any, str]] = {
    "JSON, base64": ({"csr": BASE64}, "application/json"),
    "JSON, PEM": ({"csr": pem(DER)}, "application/json; charset=utf-8"),
    "CFSSL": ({"certificate_request": pem(DER), "hosts": ["10.0.0.7", "Payroll.internal"]}, "application/json"),
    "DER": (DER, "application/pkcs10"),
    "base64": (BASE64, "application/pkcs10"),
    "PEM": (pem(DER), "application/x-pem-file"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_certificate(form: str, hierarchy: None, alice: Caller, run_pipeline: Pipeline) -> None:
    body, content_type = FORMS[form]
    rest = {"profile": "peer", "service": "payroll", "node": "n1", "validity_days": 7}
    if isinstance(body, dict):
        answer = alice.post("certificates/", body | rest)
    else:
        answer = alice.call("POST", f"certificates/?{urlencode(rest)}", body, content_type)

    assert answer.status_code == 202
    assert answer["Location"] == f"/api/v1/requests/{answer.json()['id']}/"
    assert answer["Retry-After"] == "1"
    assert answer.json() == {"id": answer.json()["id"], "status": "pending", "certificate": None, "error": None}
    assert alice.get(answer["Location"]).json() == answer.json()

    run_pipeline()
    found = alice.get(answer["Location"]).json()
    assert (found["status"], found["error"]) == ("issued", None)
    shown = found["certificate"]
    assert shown["names"] == ["dns:payroll.internal", "ip:10.0.0.7"]
    assert (shown["profile"], shown["service"], shown["node"], shown["owner"]) == ("peer", "payroll", "n1", "alice")
    leaf = x509.load_pem_x509_certificate(shown["pem"].encode())
    lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc + timedelta(seconds=1)
    assert timedelta(0) <= timedelta(days=7) - lifetime < timedelta(minutes=2), "as asked, less what it waited in the pipeline"
    assert leaf.public_key() == x509.load_der_x509_csr(DER).public_key()


def test_openssl_verifies_the_chain_that_is_handed_out(issued: dict[str, Any], nobody: Caller, tmp_path: Path) -> None:
    shown = issued["certificate"]
    for name in ("pem", "chain"):
        (tmp_path / name).write_text(shown[name])
    root = next(each for each in nobody.get("issuers/").json()["results"] if each["kind"] == "root")
    (tmp_path / "root").write_bytes(nobody.get(f"roots/{root['fingerprint']}/").content)
    command = ["openssl", "verify", "-x509_strict", "-CAfile", "root", "-untrusted", "chain", "-verify_hostname", "payroll.internal", "pem"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def test_certificate_object_holds_the_promised_fields(issued: dict[str, Any]) -> None:
    shown, row = issued["certificate"], Certificate.objects.get()
    assert list(shown) == [
        "serial", "issuer", "subject", "names", "profile", "service", "node", "owner", "not_before", "not_after", "status",
        "revoked_at", "reason", "replaces", "replaced_by", "replace_by", "fingerprint", "key_type", "pem", "chain",
        "log_position",
        "renewal_challenge", "revocation_secret",
    ]  # fmt: skip
    leaf = x509.load_pem_x509_certificate(shown["pem"].encode())
    assert int(shown["serial"], 16) == leaf.serial_number
    assert shown["not_after"] == f"{leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    assert shown["not_before"] == f"{leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}"
    assert shown["status"] == "active"
    assert shown["log_position"] == row.log_position
    assert len(x509.load_pem_x509_certificates(shown["chain"].encode())) == 1, "the root is left out"


def test_only_the_token_that_asked_sees_the_revocation_secret(
    issued: dict[str, Any], alice: Caller, charlie: Caller, caller: Callable[..., Caller]
) -> None:
    from ca.challenges import secret_hash

    path = f"certificates/{issued['certificate']['serial']}/"
    secret = alice.get(path).json()["revocation_secret"]
    assert secret_hash(secret) == bytes(Certificate.objects.get().revocation_secret_hash)
    assert "revocation_secret" not in charlie.get(path).json()
    assert "revocation_secret" not in caller("alice", "read").get(path).json(), "another token of the same owner"


def test_not_after_may_be_named_in_any_offset(alice: Caller) -> None:
    wanted = (datetime.now(UTC) + timedelta(days=3)).replace(microsecond=0)
    alice.submit("a.internal", not_after=f"{wanted + timedelta(hours=2):%Y-%m-%dT%H:%M:%S}.750+02:00")
    assert Request.objects.get().not_after == wanted


def test_a_rejection_is_told_when_asked(hierarchy: None, alice: Caller, run_pipeline: Pipeline, now: datetime) -> None:
    from ca import tokens

    answer = alice.submit("a.internal")
    tokens.revoke(alice.id, now, "test", "test")
    run_pipeline()
    Request.objects.get(state="rejected")
    assert code(alice.get(answer["Location"])) == "tokenInvalid"


def test_rejected_request_object(hierarchy: None, alice: Caller, charlie: Caller, run_pipeline: Pipeline, now: datetime) -> None:
    from ca import tokens

    answer = alice.submit("a.internal")
    tokens.revoke(alice.id, now, "test", "test")
    run_pipeline()
    shown = charlie.get(answer["Location"]).json()
    assert (shown["status"], shown["certificate"], shown["error"]["code"]) == ("rejected", None, "tokenRevoked")


@pytest.mark.parametrize(
    ("fields", "status", "expected"),
    [
        ({"csr": "hello"}, 400, "csrText"),
        ({"csr": ""}, 400, "csrEncoding"),
        ({"csr": "MAA="}, 400, "csrEncoding"),
        ({"csr": None}, 400, "invalidField"),
        ({"csr": ["x"]}, 400, "invalidField"),
        ({"csr": pem(DER) * 2}, 400, "csrText"),
        ({"certificate_request": BASE64}, 400, "invalidField"),
        ({"profile": 1}, 400, "invalidField"),
        ({"profile": "root"}, 422, "profileUnknown"),
        ({"profile": "intermediate"}, 422, "profileUnknown"),
        ({"service": {"a": 1}}, 400, "invalidField"),
        ({"service": "a b"}, 422, "serviceInvalid"),
        ({"node": "x" * 101}, 422, "nodeInvalid"),
        ({"validity_days": "7"}, 400, "invalidField"),
        ({"validity_days": 0}, 400, "invalidField"),
        ({"validity_days": True}, 400, "invalidField"),
        ({"validity_days": 1.5}, 400, "invalidField"),
        ({"validity_days": 10**18}, 400, "invalidField"),
        ({"validity_days": 9999}, 422, "validityTooLong"),
        ({"validity_days": 9, "not_after": "2030-01-01T00:00:00Z"}, 400, "invalidField"),
        ({"not_after": "2030-01-01"}, 400, "invalidField"),
        ({"not_after": "2030-01-01T00:00:00"}, 400, "invalidField"),
        ({"not_after": "2030-02-30T00:00:00Z"}, 400, "invalidField"),
        ({"not_after": "0001-01-01T00:00:00+23:59"}, 400, "invalidField"),
        ({"not_after": "9999-12-31T23:59:59-23:59"}, 400, "invalidField"),
        ({"not_after": "2001-01-01T00:00:00Z"}, 422, "validityPast"),
        ({"not_after": "9999-12-31T23:59:59Z"}, 422, "validityTooLong"),
        ({"hosts": "payroll.internal"}, 400, "invalidField"),
        ({"hosts": [1]}, 400, "invalidField"),
        ({"hosts": []}, 422, "hostsDiffer"),
        ({"hosts": ["payroll.internal", "10.0.0.7", "evil.internal"]}, 422, "hostsDiffer"),
        ({"serial": "1"}, 400, "unknownField"),
        ({"state": "issued"}, 400, "unknownField"),
        ({"owner": "bob"}, 400, "unknownField"),
        ({"__class__": {}}, 400, "unknownField"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], status: int, expected: str, alice: Caller) -> None:
    answer = alice.post("certificates/", {"csr": BASE64} | fields)
    assert (answer.status_code, code(answer)) == (status, expected)
    assert not Request.objects.exists()


def test_missing_csr(alice: Caller) -> None:
    assert code(alice.post("certificates/", {})) == "missingField"
    assert code(alice.call("POST", "certificates/", b"")) == "missingField"


@pytest.mark.parametrize(
    "query",
    ["validity_days=x", "validity_days=-1", "validity_days=7&validity_days=8", "hosts=a", "csr=MAA=", "not_after=soon", "service=%00"],
)
def test_a_wrong_query_parameter_beside_a_bare_csr(query: str, alice: Caller) -> None:
    answer = alice.call("POST", f"certificates/?{query}", DER, "application/pkcs10")
    assert answer.status_code == 400
    code(answer)


def test_query_parameters_do_not_mix_with_json(alice: Caller) -> None:
    assert code(alice.post("certificates/?profile=client", {"csr": BASE64})) == "unknownParameter"


@pytest.mark.parametrize(
    ("names", "expected"), [((), "namesMissing"), (("www.example.com",), "nameOutsideZones"), (("*.internal",), "wildcardForbidden")]
)
def test_policy_answers_422_at_the_door(names: tuple[str, ...], expected: str, alice: Caller) -> None:
    answer = alice.submit(*names)
    assert (answer.status_code, code(answer)) == (422, expected)
