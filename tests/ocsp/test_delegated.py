"""Responses signed by a delegate (RFC 6960 §4.2.2.2): who signs when, and that other software takes them like the issuer's own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from asn1crypto import ocsp as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as pyca

from ca import hierarchy, keys, ocsp_signers
from ca.models import Certificate
from ocsp import delegates, presign
from ocsp.models import Responder, Response

from .support import Issue, follow, log, revoked

pytestmark = pytest.mark.django_db
Tend = Callable[..., None]


@pytest.fixture(autouse=True)
def _nothing_said() -> Iterator[None]:
    delegates._lacking.clear()
    yield
    delegates._lacking.clear()


@pytest.fixture
def tend(hierarchy: None, settings: Any, run_pipeline: Callable[[], None]) -> Tend:
    """Delegate, and have the delegate certified."""
    settings.OCSP_SIGNERS = {"*": "delegated"}

    def tend(now: datetime | None = None) -> None:
        with time_machine.travel(now or datetime.now(UTC)):
            ocsp_signers.tend(datetime.now(UTC))
            run_pipeline()
        follow()

    return tend


def both() -> list[bytes]:
    row = Response.objects.get()
    return [bytes(row.sha1), bytes(row.sha256)]


def signer_of(answer: bytes) -> str | None:
    """Subject of the certificate that goes along; None if there is none."""
    certificates = pyca.load_der_ocsp_response(answer).certificates
    return certificates[0].subject.rfc4514_string() if certificates else None


def delegated() -> list[Certificate]:
    return list(Certificate.objects.filter(profile="ocsp-signer").order_by("log_position"))


DELEGATE = "CN=OCSP responder of issuing-1"


# --- who signs


def test_the_delegate_signs_and_its_certificate_goes_along(tend: Tend, issue: Issue) -> None:
    tend()
    issue()
    (delegate,) = delegated()
    certificate = x509.load_der_x509_certificate(bytes(delegate.der))
    for answer in both():
        parsed = pyca.load_der_ocsp_response(answer)
        assert [each.public_bytes(Encoding.DER) for each in parsed.certificates] == [bytes(delegate.der)]
        assert parsed.responder_name == certificate.subject
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(parsed.signature, parsed.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))


def test_while_there_is_none_the_issuer_signs_and_that_is_said_once(
    tend: Tend, issue: Issue, caplog: pytest.LogCaptureFixture, now: datetime
) -> None:
    issue()
    assert [signer_of(answer) for answer in both()] == [None, None]
    for _ in range(2):
        assert delegates.delegate_of("issuing-1", now) is None
    assert caplog.text.count("issuing-1 signs its OCSP responses itself") == 1
    tend()
    assert delegates.delegate_of("issuing-1", datetime.now(UTC))


def test_where_the_settings_want_none_the_issuer_signs(tend: Tend, issue: Issue, settings: Any) -> None:
    tend()
    settings.OCSP_SIGNERS = {"*": "delegated", "issuing-1": "issuer"}
    issue()
    assert [signer_of(answer) for answer in both()] == [None, None]


def test_a_change_of_the_setting_reaches_old_answers_when_they_are_due(tend: Tend, issue: Issue, settings: Any) -> None:
    tend()
    settings.OCSP_SIGNERS = {"*": "issuer"}
    issue()
    follow()
    settings.OCSP_SIGNERS = {"*": "delegated"}
    presign.sign_slice(datetime.now(UTC))
    assert [signer_of(answer) for answer in both()] == [None, None]
    presign.sign_due(datetime.now(UTC) + timedelta(hours=12), datetime.now(UTC))
    assert [signer_of(answer) for answer in both()] == [DELEGATE, DELEGATE]


def test_another_intermediates_delegate_does_not_sign(tend: Tend, issue: Issue, now: datetime, settings: Any) -> None:
    settings.OCSP_SIGNERS = {"*": "issuer", "issuing-1": "delegated"}
    tend()
    hierarchy.add_intermediate("issuing-2", "root", now)
    settings.OCSP_SIGNERS = {"*": "delegated"}
    keys.ocsp_path_of("issuing-1").rename(keys.ocsp_path_of("issuing-2"))  # not even with its key
    assert keys.ocsp_signer("issuing-2")
    assert delegates.delegate_of("issuing-2", datetime.now(UTC)) is None


@pytest.mark.usefixtures("other_time")
def test_the_newest_signs_and_one_that_ends_before_an_answer_would_does_not(tend: Tend) -> None:
    tend()
    first = Responder.objects.get()
    half = first.not_before + timedelta(days=15, hours=1)
    tend(half)
    newest = Responder.objects.latest("position")
    assert newest.serial != first.serial
    chosen = delegates.delegate_of("issuing-1", half + timedelta(minutes=5))
    assert chosen
    assert chosen.certificate == bytes(newest.certificate)
    assert delegates.delegate_of("issuing-1", newest.not_after - timedelta(hours=24, seconds=1))
    assert delegates.delegate_of("issuing-1", newest.not_after - timedelta(hours=24)) is None
    assert delegates.delegate_of("issuing-1", first.not_before - timedelta(seconds=1)) is None


@pytest.mark.parametrize("reason", ["keyCompromise", "superseded"])
def test_one_that_was_revoked_signs_no_more(reason: str, tend: Tend, issue: Issue) -> None:
    tend()
    (first,) = delegated()
    now = datetime.now(UTC)
    log(now, revoked(first.serial, reason))
    follow()
    assert delegates.delegate_of("issuing-1", now) is None
    issue()
    assert [signer_of(answer) for answer in both()] == [None, None]
    tend()
    _, second = delegated()
    chosen = delegates.delegate_of("issuing-1", datetime.now(UTC))
    assert chosen
    assert chosen.certificate == bytes(second.der)


def test_one_whose_key_is_not_here_does_not_sign(tend: Tend, caplog: pytest.LogCaptureFixture) -> None:
    tend()
    keys.ocsp_path_of("issuing-1").unlink()
    assert delegates.delegate_of("issuing-1", datetime.now(UTC)) is None
    assert "_ocsp-issuing-1.key is missing" in caplog.text
    keys.create_ocsp_key("issuing-1")
    assert delegates.delegate_of("issuing-1", datetime.now(UTC)) is None


def test_no_answer_is_made_about_a_delegate_itself(tend: Tend) -> None:
    """It says ocsp-nocheck; an answer about the key, signed by the key, would say nothing."""
    tend()
    assert not Response.objects.exists()


# --- what others make of it


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("root", "issuing-1"):
        (tmp_path / f"{name}.pem").write_bytes(hierarchy.pem_of(hierarchy.find(name)))
    (tmp_path / "root.der").write_bytes(bytes(hierarchy.find("root").certificate))
    return tmp_path


def openssl(files: Path, answer: bytes, leaf: Certificate, algorithm: str) -> str:
    """What `openssl ocsp` says of a response, with nothing trusted but the root."""
    (files / "answer.der").write_bytes(answer)
    (files / "leaf.pem").write_bytes(x509.load_der_x509_certificate(bytes(leaf.der)).public_bytes(Encoding.PEM))
    command = ["openssl", "ocsp", "-respin", "answer.der", "-issuer", "issuing-1.pem", f"-{algorithm}", "-cert", "leaf.pem"]
    command += ["-CAfile", "root.pem", "-verify_other", "issuing-1.pem", "-no_nonce"]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True)
    return done.stdout + done.stderr


def ocsptool(files: Path, answer: bytes) -> str:
    """What gnutls says of a response, as it looks at a stapled one: given the intermediate that it is to be signed for."""
    (files / "answer.der").write_bytes(answer)
    command = ["ocsptool", "--verify-response", "--load-response", "answer.der", "--load-trust", "issuing-1.pem"]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.mark.parametrize("who", ["delegated", "issuer"])
@pytest.mark.parametrize("state", ["good", "revoked"])
def test_openssl_and_gnutls_verify_it(who: str, state: str, tend: Tend, issue: Issue, settings: Any, files: Path) -> None:
    tend()
    settings.OCSP_SIGNERS = {"*": who}
    (leaf,) = issue()
    if state == "revoked":
        log(datetime.now(UTC), revoked(leaf.serial))
        follow()
        presign.sign_due(datetime.now(UTC), datetime.now(UTC))
    for answer, algorithm in zip(both(), ("sha1", "sha256"), strict=True):
        assert signer_of(answer) == (DELEGATE if who == "delegated" else None)
        told = openssl(files, answer, leaf, algorithm)
        assert "Response verify OK" in told, told
        assert f"leaf.pem: {state}" in told
        assert "Verifying OCSP Response: Success" in ocsptool(files, answer)
        (single,) = asn1.OCSPResponse.load(answer, strict=True).basic_ocsp_response["tbs_response_data"]["responses"]
        assert single["cert_status"].name == state


def test_they_refuse_a_delegate_whom_another_certified(tend: Tend, issue: Issue, files: Path, now: datetime) -> None:
    """The tests above would find it."""
    tend()
    (leaf,) = issue()
    hierarchy.add_intermediate("issuing-2", "root", now)
    (files / "issuing-1.pem").write_bytes(hierarchy.pem_of(hierarchy.find("issuing-2")))
    assert "Response verify OK" not in openssl(files, both()[0], leaf, "sha1")
    assert "Verifying OCSP Response: Success" not in ocsptool(files, both()[0])
