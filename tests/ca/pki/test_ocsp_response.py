"""What the writer writes, read by asn1crypto, pyca, OpenSSL and GnuTLS."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import ocsp as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as pyca
from pkilint.loader import RFC6960OCSPResponseDocumentLoader
from pkilint.pkix import create_attribute_decoder, create_extension_decoder, extension, name, ocsp
from pkilint.validation import ValidationFindingSeverity

from ca.pki import ocsp_response
from ca.pki.leaf import SIGNATURE_ALGORITHMS
from ca.pki.ocsp_response import Hash, Responder, Times, Writer
from ca.pki.reasons import CODES

from . import forge, plans

NOW = datetime.now(UTC).replace(microsecond=0)
TIMES = Times(NOW, NOW - timedelta(minutes=1), NOW + timedelta(hours=24))
KINDS = ("P-256", "P-384", "RSA-2048", "Ed25519")
SERIALS = (1, 0x7F, 0x80, 2**63, plans.SERIAL, 2**159 - 1)


def issuer(kind: str) -> bytes:
    return plans.issuer_certificate(kind).public_bytes(Encoding.DER)


def writer(kind: str = "P-256", algorithm: Hash = "sha1", **more: Any) -> Writer:
    certificate, private = issuer(kind), forge.key("issuer " + kind)
    responder = Responder(ocsp_response.responder_id(certificate), SIGNATURE_ALGORITHMS[kind])
    digest = hashes.SHA384() if kind == "P-384" else hashes.SHA256()
    sign = partial(forge.sign, private, algorithm=digest)
    return Writer(responder, ocsp_response.cert_id(certificate, algorithm), TIMES, sign, **more)


def basic(answer: bytes) -> Any:
    response = asn1.OCSPResponse.load(answer, strict=True)
    assert response.dump(force=True) == answer, "not DER"
    return response.basic_ocsp_response


@pytest.mark.parametrize("serial", SERIALS)
@pytest.mark.parametrize("algorithm", ocsp_response.HASHES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_good_response_names_the_certificate_and_is_signed(kind: str, algorithm: Hash, serial: int) -> None:
    answer = writer(kind, algorithm).good(serial)
    certificate = plans.issuer_certificate(kind)
    (single,) = basic(answer)["tbs_response_data"]["responses"]
    hashed = {"sha1": sha1, "sha256": sha256}[algorithm]
    spki = asn1_spki(certificate)
    assert single["cert_id"].native == {
        "hash_algorithm": {"algorithm": algorithm, "parameters": None},
        "issuer_name_hash": hashed(certificate.subject.public_bytes()).digest(),
        "issuer_key_hash": hashed(spki).digest(),
        "serial_number": serial,
    }
    assert single["cert_status"].name == "good"
    assert (single["this_update"].native, single["next_update"].native) == (TIMES.this_update, TIMES.next_update)
    assert pyca.load_der_ocsp_response(answer).responder_name == certificate.subject
    assert basic(answer)["tbs_response_data"]["produced_at"].native == NOW
    parsed = pyca.load_der_ocsp_response(answer)
    assert parsed.certificate_status is pyca.OCSPCertStatus.GOOD
    verify(kind, parsed.signature, parsed.tbs_response_bytes)


def verify(kind: str, signature: bytes, data: bytes) -> None:
    key = plans.issuer_certificate(kind).public_key()
    match key:
        case ec.EllipticCurvePublicKey():
            key.verify(signature, data, ec.ECDSA(hashes.SHA384() if kind == "P-384" else hashes.SHA256()))
        case rsa.RSAPublicKey():
            key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        case _:
            key.verify(signature, data)  # type: ignore[union-attr, call-arg]


def asn1_spki(certificate: x509.Certificate) -> bytes:
    """The key's bits by another decoder than the writer's."""
    from asn1crypto.x509 import Certificate

    key = Certificate.load(certificate.public_bytes(Encoding.DER))["tbs_certificate"]["subject_public_key_info"]["public_key"]
    return bytes(key.contents[1:])


@pytest.mark.parametrize("reason", CODES)
def test_a_revoked_response_says_when_and_why(reason: str) -> None:
    at = NOW - timedelta(days=3)
    parsed = pyca.load_der_ocsp_response(writer().revoked(plans.SERIAL, at, reason))
    assert (parsed.certificate_status, parsed.revocation_time_utc) == (pyca.OCSPCertStatus.REVOKED, at)
    found = parsed.revocation_reason
    assert (found and found.value) == {"unspecified": None}.get(reason, reason)


def test_one_writer_writes_many_kinds_one_after_the_other() -> None:
    ours = writer()
    for serial in (*SERIALS, *SERIALS):
        for answer in (ours.good(serial), ours.revoked(serial, NOW, "superseded"), ours.revoked(serial, NOW, "unspecified")):
            parsed = pyca.load_der_ocsp_response(answer)
            assert parsed.serial_number == serial
            verify("P-256", parsed.signature, parsed.tbs_response_bytes)
            basic(answer)


@pytest.mark.parametrize("algorithm", ocsp_response.HASHES)
def test_pkilint_finds_nothing(algorithm: Hash) -> None:
    decoders = create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS), create_extension_decoder(extension.EXTENSION_MAPPINGS)
    linter = ocsp.create_pkix_ocsp_response_validator_container([ocsp.create_response_decoder(), *decoders], [])
    ours = writer(algorithm=algorithm)
    for answer in (ours.good(plans.SERIAL), ours.revoked(plans.SERIAL, NOW, "keyCompromise"), writer(nonce=bytes(32)).good(1)):
        document = RFC6960OCSPResponseDocumentLoader().load_document(answer, "answer")
        findings = [finding for result in linter.validate(document.root) for finding in result.finding_descriptions]
        assert [str(each) for each in findings if each.finding.severity <= ValidationFindingSeverity.WARNING] == []


def test_signed_by_the_issuer_it_is_as_small_as_can_be() -> None:
    name = len(plans.issuer_certificate("P-256").subject.public_bytes())
    assert len(writer().good(plans.SERIAL)) - name in range(256, 266)


@pytest.mark.parametrize("size", [1, 32, 128])
def test_a_nonce_is_echoed_in_its_two_wrappings(size: int) -> None:
    answer = writer(nonce=bytes(range(size))).good(plans.SERIAL)
    (extension,) = basic(answer)["tbs_response_data"]["response_extensions"]
    assert (extension["extn_id"].native, extension["extn_value"].parsed.native) == ("nonce", bytes(range(size)))
    assert pyca.load_der_ocsp_response(answer).extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == bytes(range(size))


@pytest.mark.parametrize("status", [1, 2, 3, 5, 6])
def test_errors_are_five_unsigned_bytes(status: int) -> None:
    answer = ocsp_response.error(status)
    assert len(answer) == 5
    assert pyca.load_der_ocsp_response(answer).response_status.value == status


def test_a_delegates_certificate_goes_along() -> None:
    delegate = plans.signed(plans.plan("ocsp-signer"))
    responder = Responder(ocsp_response.responder_id(delegate), SIGNATURE_ALGORITHMS["P-256"], delegate)
    ours = Writer(responder, ocsp_response.cert_id(issuer("P-256"), "sha1"), TIMES, lambda data: bytes(70))
    (certificate,) = pyca.load_der_ocsp_response(ours.good(plans.SERIAL)).certificates
    assert certificate.public_bytes(Encoding.DER) == delegate
    assert pyca.load_der_ocsp_response(ours.good(1)).responder_name == certificate.subject


def test_who_has_no_name_is_named_by_the_key() -> None:
    nameless = plans.signed(plans.plan(common_name=None))
    ours = Writer(
        Responder(ocsp_response.responder_id(nameless), SIGNATURE_ALGORITHMS["P-256"]), ocsp_response.cert_id(issuer("P-256"), "sha1"),
        TIMES, lambda data: bytes(70),
    )  # fmt: skip
    expected = sha1(asn1_spki(x509.load_der_x509_certificate(nameless))).digest()
    assert pyca.load_der_ocsp_response(ours.good(1)).responder_key_hash == expected


@pytest.mark.parametrize("algorithm", ocsp_response.HASHES)
@pytest.mark.parametrize("kind", KINDS)
def test_openssl_accepts_it(kind: str, algorithm: Hash, tmp_path: Path) -> None:
    said = openssl(writer(kind, algorithm).good(plans.SERIAL), kind, algorithm, tmp_path)
    assert "Response verify OK" in said
    assert ": good" in said
    said = openssl(writer(kind, algorithm).revoked(plans.SERIAL, NOW, "keyCompromise"), kind, algorithm, tmp_path)
    assert ": revoked" in said
    assert "Reason: keyCompromise" in said


def openssl(answer: bytes, kind: str, algorithm: str, directory: Path) -> str:
    (directory / "issuer.pem").write_bytes(plans.issuer_certificate(kind).public_bytes(Encoding.PEM))
    (directory / "answer.der").write_bytes(answer)
    command = ["openssl", "ocsp", "-respin", "answer.der", "-CAfile", "issuer.pem", f"-{algorithm}", "-issuer", "issuer.pem"]
    done = subprocess.run([*command, "-serial", f"{plans.SERIAL:#x}", "-no_nonce"], cwd=directory, capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_gnutls_reads_it_and_verifies_it(kind: str, tmp_path: Path) -> None:
    (tmp_path / "answer.der").write_bytes(writer(kind).revoked(plans.SERIAL, NOW, "superseded"))
    (tmp_path / "issuer.pem").write_bytes(plans.issuer_certificate(kind).public_bytes(Encoding.PEM))
    info = subprocess.run(["ocsptool", "-j", "--infile", "answer.der"], cwd=tmp_path, capture_output=True, text=True)
    assert info.returncode == 0
    assert "Certificate Status: revoked" in info.stdout
    for known_as in ("--load-signer", "--load-trust"):
        verify = ["ocsptool", "-e", "--load-response", "answer.der", "--load-issuer", "issuer.pem", known_as, "issuer.pem"]
        done = subprocess.run(verify, cwd=tmp_path, capture_output=True, text=True)
        assert "Verifying OCSP Response: Success" in done.stdout + done.stderr, (known_as, done)
