"""Requests are read as RFC 6960 writes them, whoever wrote them, and anything else gets its OCSP error."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asn1crypto import core, ocsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPRequestBuilder

from ca.pki import der
from ca.pki.ocsp_request import Asked, Refused, beginning, read
from ca.pki.ocsp_response import MALFORMED_REQUEST, UNAUTHORIZED

NAME, KEY = bytes(range(20)), bytes(range(100, 120))
SERIAL = 0x5F << 152 | 7
NONCE, SERVICE_LOCATOR = "1.3.6.1.5.5.7.48.1.2", "1.3.6.1.5.5.7.48.1.7"


def cert_id(
    serial: int = SERIAL, oid: str = "1.3.14.3.2.26", parameters: bytes = der.tlv(der.NULL), size: int = 20, **more: bytes
) -> bytes:
    number = serial.to_bytes((serial.bit_length() + 8) // 8, "big", signed=True)
    parts = (more.get("algorithm", der.tlv(der.SEQUENCE, der.oid(oid), parameters)), octets(NAME[:1] * size), octets(KEY[:1] * size))
    return der.tlv(der.SEQUENCE, *parts, der.tlv(der.INTEGER, more.get("number", number)))


def octets(content: bytes) -> bytes:
    return der.tlv(der.OCTET_STRING, content)


def extension(oid: str, value: bytes, critical: bytes = b"") -> bytes:
    return der.tlv(der.SEQUENCE, der.oid(oid), critical, octets(value))


def extensions(*items: bytes) -> bytes:
    return der.tlv(der.SEQUENCE, *items)


def request(
    *cert_ids: bytes, version: bytes = b"", requestor: bytes = b"", options: bytes = b"", single: bytes = b"", after: bytes = b""
) -> bytes:
    items = [der.tlv(der.SEQUENCE, each, single) for each in cert_ids]
    return der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, version, requestor, der.tlv(der.SEQUENCE, *items), options), after)


def options(*items: bytes) -> bytes:
    return der.tlv(0xA2, extensions(*items))


CRITICAL = der.tlv(der.BOOLEAN, b"\xff")
PLAIN = request(cert_id())


@pytest.fixture(scope="module")
def pair() -> tuple[x509.Certificate, x509.Certificate]:
    """An issuer's certificate and a leaf's."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)

    def certificate(name: str, serial: int) -> x509.Certificate:
        builder = x509.CertificateBuilder().issuer_name(dn("issuer")).subject_name(dn(name)).public_key(key.public_key())
        return builder.serial_number(serial).not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())

    return certificate("issuer", 1), certificate("leaf", SERIAL)


def dn(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


@pytest.mark.parametrize(("algorithm", "name"), [(hashes.SHA1(), "sha1"), (hashes.SHA256(), "sha256")])
@pytest.mark.parametrize("nonce", [None, b"n", b"n" * 128])
def test_what_another_library_writes(pair: Any, algorithm: Any, name: str, nonce: bytes | None) -> None:
    issuer, leaf = pair
    builder = OCSPRequestBuilder().add_certificate(leaf, issuer, algorithm)
    if nonce:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    encoded = builder.build().public_bytes(Encoding.DER)
    asked = read(encoded)
    theirs = ocsp.OCSPRequest.load(encoded)["tbs_request"]["request_list"][0]["req_cert"]
    assert asked == Asked(name, theirs["issuer_name_hash"].native, theirs["issuer_key_hash"].native, leaf.serial_number, nonce)
    if not nonce:
        assert encoded == beginning(name, asked.issuer_name_hash, asked.issuer_key_hash) + SERIAL.to_bytes(20, "big")


@pytest.mark.parametrize("serial", [0, 1, 127, 128, 255, 256, SERIAL, SERIAL >> 8, 1 << 158, -1, -(1 << 70), 1 << 300])
@pytest.mark.parametrize("size_and_oid", [(20, "1.3.14.3.2.26"), (32, "2.16.840.1.101.3.4.2.1")])
@pytest.mark.parametrize("parameters", [der.tlv(der.NULL), b""])
def test_every_serial_in_every_form(serial: int, size_and_oid: tuple[int, str], parameters: bytes) -> None:
    size, oid = size_and_oid
    asked = read(request(cert_id(serial, oid, parameters, size)))
    assert (asked.serial, len(asked.issuer_name_hash), asked.nonce) == (serial, size, None)


@pytest.mark.parametrize(
    "data",
    [
        request(cert_id(), version=der.tlv(0xA0, der.tlv(der.INTEGER, b"\0"))),
        request(cert_id(), requestor=der.tlv(0xA1, der.tlv(0x82, b"someone"))),
        request(cert_id(), single=der.tlv(0xA0, extensions(extension(SERVICE_LOCATOR, b"\x30\x00", CRITICAL)))),
        request(cert_id(), options=options(extension("1.2.3", b"anything"), extension(NONCE, octets(b"n" * 32)))),
        request(cert_id(), after=der.tlv(0xA0, der.tlv(der.SEQUENCE, b""))),
    ],
    ids=["explicit version", "requestor", "service locator", "unknown extension", "signed"],
)
def test_options_are_passed_over(data: bytes) -> None:
    assert read(data).serial == SERIAL


REFUSED = {
    "empty": b"",
    "not a sequence": octets(b""),
    "truncated": PLAIN[:-1],
    "trailing": PLAIN + b"\0",
    "no request": request(),
    "two requests": request(cert_id(), cert_id(1)),
    "the same twice": request(cert_id(), cert_id()),
    "version 2": request(cert_id(), version=der.tlv(0xA0, der.tlv(der.INTEGER, b"\1"))),
    "fields in disorder": request(cert_id(), requestor=options(extension("1.2.3", b"")) + der.tlv(0xA1, b"")),
    "unknown critical": request(cert_id(), options=options(extension("1.2.3", b"", CRITICAL))),
    "unknown critical of the single request": request(cert_id(), single=der.tlv(0xA0, extensions(extension("1.2.3", b"", CRITICAL)))),
    "extension twice": request(cert_id(), options=options(*2 * [extension(NONCE, octets(b"n"))])),
    "no extension": request(cert_id(), options=options()),
    "empty nonce": request(cert_id(), options=options(extension(NONCE, octets(b"")))),
    "long nonce": request(cert_id(), options=options(extension(NONCE, octets(b"n" * 129)))),
    "bare nonce": request(cert_id(), options=options(extension(NONCE, b"nonce"))),
    "hash too short": request(cert_id(size=19)),
    "hash of the other algorithm": request(cert_id(size=32)),
    "parameters": request(cert_id(parameters=octets(b""))),
    "serial without octets": request(cert_id(number=b"")),
    "serial not minimal": request(cert_id(number=b"\0\x7f" + bytes(18))),
    "negative serial not minimal": request(cert_id(number=b"\xff\x80" + bytes(18))),
    "nested": (lambda depth: b"".join(b"\x30\x83" + (5 * i).to_bytes(3, "big") for i in range(depth, 0, -1)))(600),
    "huge length": b"\x30\x84\xff\xff\xff\xff",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_what_is_no_request_is_malformed(data: bytes) -> None:
    with pytest.raises(Refused) as refused:
        read(data)
    assert refused.value.status == MALFORMED_REQUEST


def test_lengths_that_disagree_are_malformed() -> None:
    longer = PLAIN[:-21] + bytes((21,)) + PLAIN[-20:] + b"\1"
    with pytest.raises(Refused) as refused:
        read(longer)
    assert refused.value.status == MALFORMED_REQUEST


@pytest.mark.parametrize("oid", ["2.16.840.1.101.3.4.2.2", "1.2.840.113549.2.5"])
def test_another_hash_is_unauthorized(oid: str) -> None:
    with pytest.raises(Refused) as refused:
        read(request(cert_id(oid=oid, size=48)))
    assert refused.value.status == UNAUTHORIZED


def test_mutants_raise_nothing_else_and_agree_with_another_decoder() -> None:
    """What is read from a mutant is what asn1crypto reads from it too."""
    sample, chance = [PLAIN, request(cert_id(), options=options(extension(NONCE, octets(b"n" * 32))))], random.Random(6960)
    read_anyway, refusals = 0, set()
    for number in range(10_000):
        mutant = bytearray(sample[number % 2])
        mutant[chance.randrange(len(mutant))] ^= 1 << chance.randrange(8)
        try:
            asked = read(bytes(mutant))
        except Refused as refused:
            refusals.add(refused.status)
            continue
        read_anyway += 1
        (theirs,) = ocsp.OCSPRequest.load(bytes(mutant), strict=True)["tbs_request"]["request_list"]
        cert = theirs["req_cert"]
        assert asked[1:4] == (
            cert["issuer_name_hash"].native,
            cert["issuer_key_hash"].native,
            core.Integer.native.fget(cert["serial_number"]),
        )
    assert 3_000 < read_anyway < 9_000
    assert refusals == {MALFORMED_REQUEST, UNAUTHORIZED}
