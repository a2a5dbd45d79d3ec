"""Certification requests: what real tools make is read, what attackers make is refused with its code and never more than that."""

from __future__ import annotations

import json
import random
import subprocess
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from ca.pki import csr, der
from ca.pki.names import Name
from ca.pki.violations import Violation

from . import forge
from .forge import asking, attribute, common_name, dns, extension, extension_request, ip, request, san, uri

CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"
GOOD = asking(san(dns("payroll.internal")))


def refusal(data: bytes, verify: bool = True) -> Violation:
    with pytest.raises(Violation) as found:
        csr.parse(data, verify)
    assert found.value.detail.isascii()
    assert found.value.detail.isprintable()
    return found.value


# --- what is taken


def test_everything_that_is_taken() -> None:
    data = asking(
        san(dns("Payroll.internal"), ip(bytes([10, 0, 0, 1])), uri("spiffe://fleet.example/payroll"), dns("payroll.internal")),
        subject=common_name("payroll.internal"),
    )
    parsed = csr.parse(data)
    assert parsed.der == data
    assert parsed.spki == forge.spki_of(forge.key())
    assert parsed.spki_sha256 == sha256(parsed.spki).digest()
    assert parsed.public_key == forge.key().public_key()
    assert parsed.key_type == "P-256"
    assert parsed.common_name == "payroll.internal"
    assert parsed.names == (Name("dns", "payroll.internal"), Name("ip", "10.0.0.1"), Name("uri", "spiffe://fleet.example/payroll"))


def with_password(*values: bytes) -> bytes:
    attributes = attribute(CHALLENGE_PASSWORD, *values), extension_request(san(dns("a.internal")))
    return request(sorted(attributes))  # DER sorts a SET OF by its elements' octets


@pytest.mark.parametrize(
    ("tag", "coding"), [(0x0C, "utf-8"), (0x13, "ascii"), (0x16, "ascii"), (0x14, "latin-1"), (0x1E, "utf-16-be"), (0x1C, "utf-32-be")]
)
def test_a_challenge_password_of_each_kind_of_string(tag: int, coding: str) -> None:
    octets = "an open secret".encode(coding)
    data = with_password(der.tlv(tag, octets))
    parsed = csr.parse(data)
    assert parsed.challenge_password == "an open secret"
    assert "open secret" not in repr(parsed)
    cleared = csr.without_password(data)
    assert len(cleared) == len(data)
    assert octets not in cleared
    assert data.count(octets) == 1
    assert cleared == data.replace(octets, b"x" * len(octets))
    assert csr.parse(cleared, verify=False).names == parsed.names
    assert refusal(cleared).code == "csrSignature"
    assert _spki_by_pyca(cleared) == parsed.spki


def _spki_by_pyca(data: bytes) -> bytes:
    public = x509.load_der_x509_csr(data).public_key()
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "values",
    [(), (der.tlv(0x0C, b"one"), der.tlv(0x0C, b"two")), (der.tlv(0x0C, b"\xff"),), (der.tlv(0x04, b"octets"),),
     (der.tlv(0x0C, b"x" * 256),),
     (der.tlv(0x30, der.tlv(0x0C, b"nested")),), (der.tlv(0x1E, b"odd"),), (der.tlv(0x1C, b"\x00\x11\x00\x00"),)],
)  # fmt: skip
def test_one_that_is_not_as_it_should_be_is_ignored_and_cleared_all_the_same(values: tuple[bytes, ...]) -> None:
    data = with_password(*values)
    assert csr.parse(data).challenge_password is None
    cleared = csr.without_password(data)
    assert not any(secret in cleared for secret in (b"one", b"two", b"octets", b"nested", b"odd", b"xxx\xff"))
    assert csr.parse(cleared, verify=False).names == (Name("dns", "a.internal"),)


def test_one_that_is_no_der_is_refused() -> None:
    assert refusal(with_password(b"\x0c\x7fshort")).code == "csrEncoding"
    assert refusal(request([attribute(CHALLENGE_PASSWORD), attribute(CHALLENGE_PASSWORD)])).code == "csrAttributeTwice"


def test_without_a_password_a_request_stays_as_it_is() -> None:
    assert csr.without_password(GOOD) is GOOD
    elsewhere = asking(extension("1.2.840.113549.1.9.7", b"an extension, not an attribute"))
    assert csr.without_password(elsewhere) == elsewhere
    assert csr.parse(elsewhere).challenge_password is None


def test_openssl_req_with_a_challenge_password(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[req]\nprompt=no\ndistinguished_name=dn\nattributes=attributes\n[dn]\nCN=a.internal\n"
        "[attributes]\nchallengePassword=correct horse battery staple\nunstructuredName=ignored\n"
    )
    pem = run("openssl", "req", "-new", "-nodes", "-newkey", "ed25519", "-keyout", tmp_path / "key", "-config", tmp_path / "config")
    data = csr.to_der(pem)
    assert csr.parse(data).challenge_password == "correct horse battery staple"
    (tmp_path / "cleared").write_bytes(csr.without_password(data))
    shown = run("openssl", "req", "-inform", "DER", "-in", tmp_path / "cleared", "-noout", "-text").decode()
    assert "challengePassword        :" + "x" * 28 in shown
    assert "unstructuredName         :ignored" in shown


@pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519", "RSA-2048"])
def test_key_kinds(kind: str) -> None:
    assert csr.parse(asking(san(dns("a.internal")), private=forge.key(kind))).key_type == kind


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA-2048"])
def test_signature_hashes(kind: str, digest: hashes.HashAlgorithm) -> None:
    built = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(forge.key(kind), digest)
    assert csr.parse(built.public_bytes(Encoding.DER)).key_type == kind


def test_rsa_signature_algorithm_without_null() -> None:
    """RFC 4055 §5: to be accepted."""
    assert csr.parse(request(private=forge.key("RSA-2048"), algorithm=der.tlv(0x30, der.oid("1.2.840.113549.1.1.11")))).names == ()


def test_no_names_at_all_is_for_the_policy_to_refuse() -> None:
    for attributes in ([], [extension_request()], [attribute("1.2.840.113549.1.9.7", der.tlv(0x0C, b"secret"))]):
        parsed = csr.parse(request(attributes))
        assert (parsed.names, parsed.common_name) == ((), None)


@pytest.mark.parametrize(
    "extra",
    [
        extension(forge.BASIC_CONSTRAINTS, bytes.fromhex("3000"), critical=True),
        extension(forge.BASIC_CONSTRAINTS, bytes.fromhex("3003010100")),
        extension(forge.KEY_USAGE, bytes.fromhex("030205a0"), critical=True),
        extension(forge.KEY_USAGE, bytes.fromhex("0303070080")),  # decipherOnly
        extension(forge.EXT_KEY_USAGE, bytes.fromhex("300a06082b06010505070301")),
        extension(forge.EXT_KEY_USAGE, bytes.fromhex("300a06082b06010505070309"), critical=True),
        extension(forge.EXT_KEY_USAGE, bytes.fromhex("3000")),  # step-ca's CVE-2026-40097 took its first element
        extension("1.3.6.1.5.5.7.1.24", bytes.fromhex("3003020105")),  # must-staple
        extension("1.3.6.1.5.5.7.48.1.5", b"\x05\x00"),  # ocsp-nocheck
        extension("1.2.3.4", b""),
        extension("2.5.29.14", b"\x04\x00"),
        extension("2.5.29.35", b"not even DER"),
    ],
)
def test_harmless_extensions_are_ignored(extra: bytes) -> None:
    assert csr.parse(asking(extra, san(dns("a.internal")))).names == (Name("dns", "a.internal"),)


def test_other_attributes_and_subject_fields_are_ignored() -> None:
    subject = forge.name(
        ("2.5.4.6", 0x13, b"XX"), ("2.5.4.10", 0x0C, b"<script>" * 30), ("2.5.4.3", 0x13, b"a.internal"), ("2.5.4.11", 0x14, b"\xff")
    )
    data = request([attribute("1.2.840.113549.1.9.7", der.tlv(0x0C, b"x")), attribute("1.2.3", b"\x05\x00", b"\x05\x00")], subject=subject)
    assert csr.parse(data).common_name == "a.internal"


def test_sixty_four_characters_of_common_name() -> None:
    assert csr.parse(request(subject=common_name("a" * 64))).common_name == "a" * 64


# --- text forms

_PEM = x509.load_der_x509_csr(GOOD).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        _PEM,
        _PEM.decode(),
        b"\n \r\n" + _PEM + b"\n\n",
        _PEM.replace(b"\n", b"\r\n"),
        _PEM.replace(b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST"),
        b64encode(GOOD),
        b64encode(GOOD).decode() + "\n",
    ],
)
def test_forms_of_the_same_request(text: bytes | str) -> None:
    assert csr.to_der(text) == GOOD


_KEY_PEM = forge.key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        "",
        " ",
        _PEM + _PEM,
        _KEY_PEM + _PEM,
        _PEM + _KEY_PEM,
        _KEY_PEM,
        b"Certificate Request:\n" + _PEM,
        _PEM + b"x",
        _PEM.replace(b"-----BEGIN", b"----BEGIN"),
        _PEM.replace(b"END CERTIFICATE REQUEST", b"END NEW CERTIFICATE REQUEST"),
        _PEM.replace(b"CERTIFICATE REQUEST", b"CERTIFICATE"),
        _PEM.replace(b"CERTIFICATE REQUEST-----\n", b"CERTIFICATE REQUEST-----\nProc-Type: 4,ENCRYPTED\n", 1),
        _PEM[:-10],
        _PEM.replace(b"M", b"\0", 1),
        "\ufeff" + _PEM.decode(),
        _PEM.decode().replace("M", "\uff2d", 1),
        "\ud800",
        b64encode(GOOD) + b"A",
        b64encode(GOOD) + b"====",
        b64encode(b"0ab") + b"=",
        b"MGE",
        b"MGF=",
        b"!!!!" + b64encode(GOOD),
        b"\xff\xfe",
        "not a csr",
    ],
)
def test_texts_that_are_no_request(text: bytes | str) -> None:
    with pytest.raises(Violation) as found:
        csr.parse(csr.to_der(text))
    assert found.value.code in ("csrText", "csrEncoding")


def test_size_limits() -> None:
    for data in (b"0" * 40_000, "A" * 40_000):
        with pytest.raises(Violation, match="csrTooLarge"):
            csr.to_der(data)
    assert refusal(b"0" * (csr.MAX_DER + 1)).code == "csrTooLarge"


# --- hostile structure

_INFO = der.encoded(GOOD, der.children(GOOD, der.whole(GOOD))[0])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "csrEncoding"),
        (b"0", "csrEncoding"),
        (b"\x30\x00", "csrEncoding"),
        (GOOD + GOOD, "csrEncoding"),
        (GOOD + b"\0", "csrEncoding"),
        (b"\0" + GOOD, "csrEncoding"),
        (GOOD[:-1], "csrEncoding"),
        (b"\x31" + GOOD[1:], "csrEncoding"),
        (b"\x30\x83\0" + GOOD[2:], "csrEncoding"),
        (b"\x30\x80" + _INFO + b"\0\0", "csrEncoding"),
        (der.tlv(0x30, _INFO, forge.ECDSA_SHA256), "csrEncoding"),
        (der.tlv(0x30, _INFO, forge.ECDSA_SHA256, der.bits(b"x"), der.tlv(der.NULL)), "csrEncoding"),
        (der.tlv(0x30, _INFO, forge.ECDSA_SHA256, der.tlv(0x03, b"")), "csrEncoding"),
        (der.tlv(0x30, _INFO, forge.ECDSA_SHA256, der.bits(b"xx", unused=3)), "csrEncoding"),
        (request(version=b"\x02\x01\x01"), "csrVersion"),
        (request(version=b"\x02\x01\xff"), "csrVersion"),
        (request(version=b"\x02\x02\x00\x00"), "csrVersion"),
        (request(version=b""), "csrEncoding"),
        (request([der.tlv(der.NULL)]), "csrEncoding"),
        (request([attribute("1.2.3"), attribute("1.2.3")]), "csrAttributeTwice"),
        (request([extension_request(san(dns("a.internal"))), extension_request(san(dns("evil.example")))]), "csrAttributeTwice"),
        (request([attribute(forge.EXTENSION_REQUEST, der.tlv(0x30, san(dns("a.internal"))), der.tlv(0x30))]), "csrEncoding"),
        (request([attribute(forge.EXTENSION_REQUEST)]), "csrEncoding"),
        (request([attribute(forge.EXTENSION_REQUEST, der.tlv(der.NULL))]), "csrEncoding"),
        (asking(san(dns("a.internal")), san(dns("b.internal"))), "csrExtensionTwice"),
        (asking(extension("1.2.3", b""), extension("1.2.3", b"")), "csrExtensionTwice"),
        (asking(der.tlv(0x30)), "csrEncoding"),
        (asking(der.tlv(0x30, der.oid("1.2.3"))), "csrEncoding"),
        (asking(der.tlv(0x30, der.oid("1.2.3"), b"\x01\x01\x00", der.tlv(4))), "csrEncoding"),
        (asking(der.tlv(0x30, der.oid("1.2.3"), b"\x01\x01\x01", der.tlv(4))), "csrEncoding"),
        (asking(der.tlv(0x30, der.oid("1.2.3"), b"\x01\x01\xff", b"\x01\x01\xff", der.tlv(4))), "csrEncoding"),
        (asking(der.tlv(0x31, der.oid("1.2.3"), der.tlv(4))), "csrEncoding"),
        (asking(extension(forge.SAN, b"")), "csrEncoding"),
        (asking(extension(forge.SAN, der.tlv(0x30, dns("a.internal")) + b"\0")), "csrEncoding"),
        (asking(extension(forge.SAN, dns("a.internal"))), "csrEncoding"),
        (asking(extension(forge.SAN, b"\x30\x81\x0c" + dns("a.internal"))), "csrEncoding"),
        (asking(san()), "namesCount"),
        (asking(san(*[dns(f"a{number}.internal") for number in range(101)])), "namesCount"),
    ],
)
def test_hostile_structure(data: bytes, code: str) -> None:
    assert refusal(data).code == code


# --- hostile requests for more than a leaf


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (extension(forge.BASIC_CONSTRAINTS, bytes.fromhex("30030101ff")), "caRequested"),
        (extension(forge.BASIC_CONSTRAINTS, bytes.fromhex("30060101ff020100"), critical=True), "caRequested"),
        (extension(forge.BASIC_CONSTRAINTS, bytes.fromhex("3003010101")), "caRequested"),  # BER's TRUE
        (extension(forge.BASIC_CONSTRAINTS, bytes.fromhex("3003020100")), "caRequested"),
        (extension(forge.KEY_USAGE, bytes.fromhex("03020204")), "caRequested"),  # keyCertSign
        (extension(forge.KEY_USAGE, bytes.fromhex("03020186")), "caRequested"),
        (extension(forge.KEY_USAGE, bytes.fromhex("03020102")), "caRequested"),  # cRLSign
        (extension(forge.KEY_USAGE, bytes.fromhex("0300")), "csrEncoding"),
        (extension(forge.KEY_USAGE, bytes.fromhex("0500")), "csrEncoding"),
        (extension(forge.KEY_USAGE, b""), "csrEncoding"),
        (extension("2.5.29.30", bytes.fromhex("3000")), "caRequested"),
        (extension("2.5.29.33", bytes.fromhex("3000")), "caRequested"),
        (extension("2.5.29.36", bytes.fromhex("3000")), "caRequested"),
        (extension("2.5.29.54", bytes.fromhex("020100")), "caRequested"),
        (extension("1.2.3.4", b"", critical=True), "extensionCritical"),
        (extension("1.3.6.1.4.1.11129.2.4.3", b"\x05\x00", critical=True), "extensionCritical"),  # the CT poison
    ],
)
def test_hostile_extensions(wanted: bytes, code: str) -> None:
    assert refusal(asking(san(dns("a.internal")), wanted)).code == code
    assert refusal(asking(wanted, san(dns("a.internal")))).code == code


# --- hostile names


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (dns(b"a.internal\0.evil.example"), "nameLabel"),
        (dns(b"a.internal\n"), "nameLabel"),
        (dns(b""), "nameEmptyLabel"),
        (dns("\u212aafka.internal"), "nameNotAscii"),
        (dns(b"\xe2\x84\xaa"), "nameNotAscii"),
        (dns(b"\xff\xfe"), "nameNotAscii"),
        (dns("10.0.0.1"), "nameNumeric"),
        (dns("*.*.internal"), "nameWildcard"),
        (ip(bytes(8)), "ipLength"),
        (ip(b""), "ipLength"),
        (uri("http://a.internal"), "uriScheme"),
        (uri("spiffe://fleet.example/\u0430"), "uriSyntax"),
        (der.tlv(0x81, b"root@internal"), "nameKind"),
        (der.tlv(0xA0, der.oid("1.3.6.1.4.1.311.20.2.3"), der.tlv(0xA0, der.tlv(0x0C, b"admin@internal"))), "nameKind"),
        (der.tlv(0xA4, common_name("a.internal")), "nameKind"),
        (der.tlv(0x88, b"\x2a\x03"), "nameKind"),
        (der.tlv(0xA3, b""), "nameKind"),
        (der.tlv(0xA5, b""), "nameKind"),
        (der.tlv(0xA2, dns("a.internal")), "nameKind"),  # constructed
        (der.tlv(0x0C, b"a.internal"), "nameKind"),
    ],
)
def test_hostile_names(name: bytes, code: str) -> None:
    """Each at each place: a loop that looks at one name again and again would let two of three through."""
    for place in range(3):
        names = [dns(f"good{number}.internal") for number in range(3)]
        names[place] = name
        found = refusal(asking(san(*names)))
        assert (found.code, found.where) == (code, f"names[{place}]")


@pytest.mark.parametrize(
    ("subject", "code"),
    [
        (forge.name(("2.5.4.3", 0x0C, b"a.internal"), ("2.5.4.3", 0x0C, b"b.internal")), "commonNameTwice"),
        (common_name(""), "commonNameSyntax"),
        (common_name("a" * 65), "commonNameSyntax"),
        (common_name("a\nlevel=critical"), "commonNameSyntax"),
        (common_name("a\0b"), "commonNameSyntax"),
        (common_name("a\u202eb"), "commonNameSyntax"),
        (forge.name(("2.5.4.3", 0x0C, b"\xff")), "commonNameEncoding"),
        (forge.name(("2.5.4.3", 0x13, b"\xe9")), "commonNameEncoding"),
        (forge.name(("2.5.4.3", 0x1E, b"\0a")), "commonNameEncoding"),
        (forge.name(("2.5.4.3", 0x04, b"a")), "commonNameEncoding"),
        (der.tlv(0x30, der.tlv(0x31)), "csrEncoding"),
        (der.tlv(0x30, der.tlv(0x30)), "csrEncoding"),
        (der.tlv(0x30, der.tlv(0x31, der.tlv(0x30))), "csrEncoding"),
        (der.tlv(0x30, der.tlv(0x31, der.tlv(0x30, der.oid("2.5.4.3")))), "csrEncoding"),
        (der.tlv(0x30, der.tlv(0x31, der.tlv(0x30, der.tlv(5), der.tlv(5)))), "csrEncoding"),
        (der.tlv(0x31), "csrEncoding"),
    ],
)
def test_hostile_subjects(subject: bytes, code: str) -> None:
    assert refusal(request(subject=subject)).code == code


# --- proof of possession


def test_signature_of_another_key() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    assert refusal(request(spki=forge.spki_of(other))).code == "csrSignature"


@pytest.mark.parametrize("kind", ["P-256", "Ed25519", "RSA-2048"])
@pytest.mark.parametrize("signature", [b"", b"\0", b"\x30\x06\x02\x01\x00\x02\x01\x00", bytes(64), bytes(256), b"\xff" * 256])
def test_signatures_that_are_none(kind: str, signature: bytes) -> None:
    assert refusal(request(private=forge.key(kind), signature=signature)).code == "csrSignature"


@pytest.mark.parametrize(
    ("kind", "oid"),
    [
        ("RSA-2048", "1.2.840.113549.1.1.4"),  # MD5
        ("RSA-2048", "1.2.840.113549.1.1.5"),  # SHA-1
        ("RSA-2048", "1.2.840.113549.1.1.10"),  # PSS, without the parameters it needs
        ("RSA-2048", "1.2.840.10045.4.3.2"),
        ("P-256", "1.2.840.10045.4.1"),  # SHA-1
        ("P-256", "1.2.840.113549.1.1.11"),
        ("P-256", "1.3.101.112"),
        ("P-256", "1.2.3"),
        ("Ed25519", "1.2.840.10045.4.3.2"),
        ("Ed25519", "1.3.101.113"),
    ],
)
def test_signature_algorithms_that_do_not_suit(kind: str, oid: str) -> None:
    data = request(private=forge.key(kind), algorithm=der.tlv(0x30, der.oid(oid)))
    assert refusal(data).code == "csrSignatureAlgorithm"


def test_sha1_signature_is_refused_though_it_is_right() -> None:
    key = forge.key("RSA-2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    algorithm = der.tlv(0x30, der.oid("1.2.840.113549.1.1.5"), der.tlv(5))
    data = request(private=key, digest=hashes.SHA1(), algorithm=algorithm)
    info, _, signature = der.children(data, der.whole(data))
    key.public_key().verify(der.contents(data, signature)[1:], der.encoded(data, info), padding.PKCS1v15(), hashes.SHA1())
    assert refusal(data).code == "csrSignatureAlgorithm"


def test_weak_key_with_a_good_signature() -> None:
    assert refusal(asking(san(dns("a.internal")), private=forge.fermat_key())).code == "keyWeak"


def test_without_verification_only_the_costly_proofs_are_left_out() -> None:
    assert csr.parse(request(signature=b"none"), verify=False).key_type == "P-256"
    assert csr.parse(request(private=forge.fermat_key()), verify=False).key_type == "RSA-2048"
    for data in (GOOD + b"\0", asking(san(dns("a_b.internal"))), request(spki=forge.rsa_spki(3))):
        refusal(data, verify=False)


@pytest.mark.parametrize(
    ("spki", "code"),
    [
        (forge.rsa_spki((1 << 1023) + 1), "keySize"),
        (forge.rsa_spki((1 << 16383) + 1), "keySize"),
        (forge.rsa_spki((1 << 2047) + 1, 3), "keyExponent"),
        (forge.spki_of(forge.key("P-521")), "keyKind"),
        (der.tlv(0x30), "keyInvalid"),
    ],
)
def test_keys_that_are_not_certified(spki: bytes, code: str) -> None:
    found = refusal(request(spki=spki))
    assert (found.code, found.where) == (code, "csr.key")


# --- other people's tools

NAMES = (Name("dns", "payroll.internal"), Name("dns", "*.payroll.internal"), Name("ip", "10.0.0.7"), Name("ip", "fd00::7"))


def run(*command: str | Path, text: str = "") -> bytes:
    return subprocess.run(command, input=text.encode(), capture_output=True, check=True).stdout


@pytest.mark.parametrize(
    ("newkey", "kind"),
    [
        (("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), "P-256"),
        (("ec", "-pkeyopt", "ec_paramgen_curve:P-384"), "P-384"),
        (("ed25519",), "Ed25519"),
        (("rsa:2048",), "RSA-2048"),
        (("rsa:3072",), "RSA-3072"),
    ],
)
def test_openssl_req(tmp_path: Path, newkey: tuple[str, ...], kind: str) -> None:
    alternative = "subjectAltName=DNS:payroll.internal,DNS:*.payroll.internal,IP:10.0.0.7,IP:fd00::7,URI:spiffe://fleet.example/payroll"
    pem = run(
        "openssl", "req", "-new", "-nodes", "-newkey", *newkey, "-keyout", tmp_path / "key", "-subj", "/O=Fleet/CN=payroll.internal",
        "-addext", alternative, "-addext", "keyUsage=critical,digitalSignature", "-addext", "basicConstraints=critical,CA:FALSE",
    )  # fmt: skip
    parsed = csr.parse(csr.to_der(pem))
    assert parsed.key_type == kind
    assert parsed.common_name == "payroll.internal"
    assert parsed.names == (*NAMES, Name("uri", "spiffe://fleet.example/payroll"))
    public = run("openssl", "pkey", "-in", tmp_path / "key", "-pubout", "-outform", "DER")
    assert parsed.spki == public


def test_openssl_ca_request_is_refused(tmp_path: Path) -> None:
    pem = run(
        "openssl", "req", "-new", "-nodes", "-newkey", "ed25519", "-keyout", tmp_path / "key", "-subj", "/CN=a.internal",
        "-addext", "basicConstraints=critical,CA:TRUE",
    )  # fmt: skip
    assert refusal(csr.to_der(pem)).code == "caRequested"


def test_openssl_explicit_curve_is_refused(tmp_path: Path) -> None:
    run("openssl", "ecparam", "-name", "prime256v1", "-param_enc", "explicit", "-genkey", "-noout", "-out", tmp_path / "key")
    pem = run("openssl", "req", "-new", "-key", tmp_path / "key", "-subj", "/CN=a.internal")
    assert x509.load_pem_x509_csr(pem).is_signature_valid
    assert refusal(csr.to_der(pem)).code == "keyExplicitCurve"


@pytest.mark.parametrize(
    ("make", "kind"),
    [(("--ecdsa", "--curve=secp256r1"), "P-256"), (("--key-type=ed25519",), "Ed25519"), (("--rsa", "--bits=2048"), "RSA-2048")],
)
def test_certtool(tmp_path: Path, make: tuple[str, ...], kind: str) -> None:
    (tmp_path / "template").write_text(
        'cn = "payroll.internal"\norganization = "Fleet"\ndns_name = "payroll.internal"\ndns_name = "*.payroll.internal"\n'
        'ip_address = "10.0.0.7"\nip_address = "fd00::7"\ntls_www_server\nsigning_key\nchallenge_password = 123456\n'
    )
    run("certtool", "--generate-privkey", *make, "--no-text", "--outfile", tmp_path / "key")
    run(
        "certtool", "--generate-request", "--load-privkey", tmp_path / "key", "--template", tmp_path / "template", "--no-text",
        "--outfile", tmp_path / "csr",
    )  # fmt: skip
    parsed = csr.parse(csr.to_der((tmp_path / "csr").read_bytes()))
    assert (parsed.key_type, parsed.common_name) == (kind, "payroll.internal")
    assert parsed.names == NAMES
    assert parsed.challenge_password == "123456"


@pytest.mark.parametrize(("algo", "size", "kind"), [("ecdsa", 256, "P-256"), ("ecdsa", 384, "P-384"), ("rsa", 2048, "RSA-2048")])
def test_cfssl(algo: str, size: int, kind: str) -> None:
    wanted = {
        "CN": "payroll.internal",
        "hosts": [name.value for name in NAMES],
        "key": {"algo": algo, "size": size},
        "names": [{"O": "Fleet"}],
    }
    made = json.loads(run("cfssl", "genkey", "-", text=json.dumps(wanted)))
    parsed = csr.parse(csr.to_der(made["csr"]))
    assert (parsed.key_type, parsed.common_name) == (kind, "payroll.internal")
    assert set(parsed.names) == set(NAMES)


def test_cfssl_ca_request_is_refused() -> None:
    wanted = {"CN": "evil", "key": {"algo": "ecdsa", "size": 256}, "ca": {"pathlen": 1}}
    made = json.loads(run("cfssl", "genkey", "-initca", "-", text=json.dumps(wanted)))
    assert refusal(csr.to_der(made["csr"])).code == "caRequested"


# --- bytes at random


def accepted(read: Callable[[], object]) -> bool:
    """Whether `read` went well; anything but a Violation escapes and fails the test."""
    try:
        read()
    except Violation as found:
        refused = found
    else:
        return True
    assert refused.code.isalnum()
    assert refused.detail.isprintable()
    return False


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=100))
def test_any_bytes_or_text(data: bytes | str) -> None:
    assert not accepted(lambda: csr.parse(csr.to_der(data)))


_SUBJECTS = st.binary(max_size=40).map(lambda data: der.tlv(0x30, data))


@settings(derandomize=True, max_examples=400, deadline=None)
@given(
    _SUBJECTS, st.lists(st.binary(max_size=60), max_size=3), st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=4)
)
def test_any_content_in_a_good_frame(subject: bytes, attributes: list[bytes], names: list[tuple[int, bytes]]) -> None:
    alternative = der.tlv(0x30, *(der.tlv(tag, octets) for tag, octets in names))
    data = request([*attributes, extension_request(extension(forge.SAN, alternative))], subject=subject)
    accepted(lambda: csr.parse(data))


def _corpus() -> list[bytes]:
    names = san(dns("payroll.internal"), dns("xn--bcher-kva.internal"), ip(bytes([10, 0, 0, 1])), uri("spiffe://fleet.example/a"))
    usage = extension(forge.KEY_USAGE, bytes.fromhex("03020780"), critical=True)
    kinds = ("P-256", "P-384", "Ed25519", "RSA-2048")
    return [asking(names, usage, subject=common_name("payroll.internal"), private=forge.key(kind)) for kind in kinds]


def _mutant(data: bytes, chance: random.Random) -> bytes:
    mutant = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        place = chance.randrange(len(mutant))
        mutant[place] = chance.choice((mutant[place] ^ 1 << chance.randrange(8), chance.randrange(256), 0, 0xFF))
    if chance.random() < 0.1:
        del mutant[chance.randrange(len(mutant)) :]
    return bytes(mutant)


def test_ten_thousand_mutants_of_real_requests() -> None:
    """Every byte of a request is signed or is the signature: no mutant may pass, and each is refused by a Violation. Its
    fields are read once more without the signature that guards them."""
    chance, corpus = random.Random(20261123), _corpus()
    for number in range(10_000):
        original = corpus[number % len(corpus)]
        mutant = _mutant(original, chance)
        if mutant != original:
            assert not accepted(lambda data=mutant: csr.parse(data)), mutant.hex()
            accepted(lambda data=mutant: csr.parse(data, verify=False))


def test_public_key_is_what_pyca_reads() -> None:
    for data in _corpus():
        theirs = x509.load_der_x509_csr(data).public_key()
        assert csr.parse(data).spki == theirs.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
