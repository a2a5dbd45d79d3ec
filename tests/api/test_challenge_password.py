"""A challengePassword in a signing request: a second secret if it is strong, and nowhere to be read afterwards."""

from __future__ import annotations

import os
import secrets
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from django.db import connection

from ca import blocklist
from ca.models import Certificate, Request
from ca.pki import csr as csr_rules
from eventlog.models import Event
from tests.material import new_key

from .conftest import Caller, code

pytestmark = pytest.mark.django_db
PASSWORD = "J8-" + secrets.token_urlsafe(30)
WEAK = "hunter2-" + secrets.token_hex(4)


def der(password: str, name: str = "a.internal", key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    builder = builder.add_attribute(x509.oid.AttributeOID.CHALLENGE_PASSWORD, password.encode())
    return builder.sign(key or new_key(), hashes.SHA256()).public_bytes(Encoding.DER)


def pem(request: bytes) -> str:
    return x509.load_der_x509_csr(request).public_bytes(Encoding.PEM).decode()


def b64(request: bytes) -> str:
    return b64encode(request).decode()


def everything() -> bytes:
    """What every column of every table holds."""
    found = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            found += [_plain(value) for row in cursor.fetchall() for value in row]
    return b"\n".join(found)


def _plain(value: Any) -> bytes:
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()


def in_the_broker() -> bytes:
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    values = []
    for key in client.keys("*"):
        values += [key, client.dump(key) or b""]  # it may have expired meanwhile
        values += client.lrange(key, 0, -1) if client.type(key) == b"list" else []
    return b"\n".join(values)


def spellings(password: str) -> list[bytes]:
    raw = password.encode()
    return [raw, raw.hex().encode(), *(b64encode(bytes(shift) + raw)[4:-4] for shift in range(3))]


FORMS: dict[str, Callable[[Caller, bytes], Any]] = {
    "json": lambda caller, request: caller.post("certificates/", {"csr": b64(request)}),
    "json with PEM": lambda caller, request: caller.post("certificates/", {"csr": pem(request)}),
    "cfssl": lambda caller, request: caller.post("certificates/", {"certificate_request": pem(request), "hosts": ["a.internal"]}),
    "bulk": lambda caller, request: caller.post("certificates/bulk/", {"requests": [{"csr": b64(request)}]}),
    "pkcs10": lambda caller, request: caller.call("POST", "certificates/", request, "application/pkcs10"),
    "pem": lambda caller, request: caller.call("POST", "certificates/", pem(request), "application/x-pem-file"),
    "idempotent": lambda caller, request: caller.post("certificates/", {"csr": b64(request)}, Idempotency_Key="k"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("password", [PASSWORD, WEAK], ids=["strong", "weak"])
def test_it_is_in_no_table_log_line_message_or_answer(
    hierarchy: None, alice: Caller, run_pipeline: Callable[[], None], caplog: Any, form: str, password: str
) -> None:
    caplog.set_level("DEBUG")
    request = der(password)
    assert password.encode() in request
    answer = FORMS[form](alice, request)
    assert answer.status_code in (200, 202), answer.content
    middle = everything()
    run_pipeline()
    serial = Certificate.objects.get().serial
    shown = alice.get(f"certificates/{serial}/").content
    places = {"answer": answer.content, "between": middle, "table": everything(), "broker": in_the_broker(), "log": caplog.text.encode(),
              "certificate": shown}  # fmt: skip
    assert b"a.internal" in places["table"], "the search itself works"
    for place, content in places.items():
        assert not any(spelling in content for spelling in spellings(password)), place
    stored = bytes(Request.objects.get().csr)
    assert len(stored) == len(request)
    assert csr_rules.parse(stored, verify=False).names
    assert (Certificate.objects.get().challenge_password_hash is not None) == (password == PASSWORD)


def test_it_revokes_as_the_secret_does(hierarchy: None, alice: Caller, nobody: Caller, run_pipeline: Callable[[], None]) -> None:
    request = der(PASSWORD)
    for _ in range(2):
        alice.post("certificates/", {"csr": b64(request)})
    run_pipeline()
    one, other = Certificate.objects.order_by("log_position")
    assert bytes(one.challenge_password_hash or b"") != bytes(other.challenge_password_hash or b""), "nobody sees that it was used twice"
    path = f"certificates/{one.serial}/revoke/"
    for wrong in (PASSWORD[:-1], PASSWORD.swapcase(), PASSWORD + " ", bytes(one.challenge_password_hash or b"").hex()):
        assert code(nobody.post(path, {"secret": wrong})) == "notEntitled"
    assert nobody.post(path, {"secret": PASSWORD, "reason": "superseded"}).status_code == 200
    other.refresh_from_db()
    assert other.revoked_at is None


def test_a_weak_one_is_ignored(hierarchy: None, alice: Caller, nobody: Caller, run_pipeline: Callable[[], None]) -> None:
    alice.post("certificates/", {"csr": b64(der(WEAK))})
    run_pipeline()
    serial = Certificate.objects.get().serial
    assert code(nobody.post(f"certificates/{serial}/revoke/", {"secret": WEAK})) == "notEntitled"
    secret = alice.get(f"certificates/{serial}/").json()["revocation_secret"]
    assert nobody.post(f"certificates/{serial}/revoke/", {"secret": secret}).status_code == 200


def test_what_is_rejected_leaves_no_trace_of_it_either(
    hierarchy: None, alice: Caller, now: Any, run_pipeline: Callable[[], None], caplog: Any
) -> None:
    caplog.set_level("DEBUG")
    key = new_key()
    request = der(PASSWORD, key=key)
    blocklist.block(csr_rules.parse(request).spki_sha256, "keyCompromise", now, "test")
    accepted = alice.post("certificates/", {"csr": b64(request)}).json()["id"]
    run_pipeline()
    assert Event.objects.filter(type="request.rejected").exists()
    broken = request[:-1] + bytes([request[-1] ^ 1])
    answers = [
        alice.get(f"requests/{accepted}/"),
        alice.post("certificates/", {"csr": b64(der(PASSWORD, "elsewhere.example"))}),
        alice.post("certificates/", {"csr": b64(broken)}),
        alice.post(f"certificates/?profile={quote('x')}", {"csr": b64(request)}),
    ]
    assert [answer.status_code for answer in answers[1:]] == [422, 422, 400]
    for content in (everything(), in_the_broker(), caplog.text.encode(), *(answer.content for answer in answers)):
        assert not any(spelling in content for spelling in spellings(PASSWORD))
