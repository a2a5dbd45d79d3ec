"""OCSP responses as DER (RFC 6960 §4.2), written by putting a serial and a signature into bytes that stay the same.

Owns the encoding of CertIDs and responses. Everything but serial, status and signature is made once for a batch, so that a
response costs little more than its signature. Must never see a private key or read a clock: who signs is a function, and
times are arguments. Decides nothing: which serial is good is the caller's word.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha1, sha256
from typing import Literal

from . import der
from .reasons import CODES

MALFORMED_REQUEST, INTERNAL_ERROR, TRY_LATER, SIG_REQUIRED, UNAUTHORIZED = 1, 2, 3, 5, 6
Hash = Literal["sha1", "sha256"]
Sign = Callable[[bytes], bytes]

HASHES: tuple[Hash, ...] = ("sha1", "sha256")
_HASHES = {"sha1": sha1, "sha256": sha256}
# Without parameters where RFC 5754 §2 wants none; for SHA-1 a NULL, as every client of old writes it.
_HASH_IDENTIFIERS = {
    "sha1": der.tlv(der.SEQUENCE, der.oid("1.3.14.3.2.26"), der.tlv(der.NULL)),
    "sha256": der.tlv(der.SEQUENCE, der.oid("2.16.840.1.101.3.4.2.1"), der.tlv(der.NULL)),
}
_BASIC = der.oid("1.3.6.1.5.5.7.48.1.1")
_NONCE = der.oid("1.3.6.1.5.5.7.48.1.2")
_GOOD = der.tlv(0x80)
_NO_NAME = der.tlv(der.SEQUENCE)
_SUCCESSFUL = der.tlv(0x0A, b"\0")
_ENUMERATED = 0x0A


def error(status: int) -> bytes:
    """An unsigned response that says nothing but its `status`, e.g. UNAUTHORIZED (RFC 6960 §4.2.1)."""
    return der.tlv(der.SEQUENCE, der.tlv(_ENUMERATED, bytes((status,))))


@dataclass(frozen=True, slots=True)
class Responder:
    """Who signs. `id`: the DER ResponderID that the response names it by. `algorithm`: its DER AlgorithmIdentifier.
    `certificate`: DER of a delegate's certificate, which goes along with each response; b"" if the issuer itself signs."""

    id: bytes
    algorithm: bytes
    certificate: bytes = b""


@dataclass(frozen=True, slots=True)
class Times:
    """Of one response or a batch: aware, UTC; fractions of seconds are cut off."""

    produced_at: datetime
    this_update: datetime
    next_update: datetime


@lru_cache(maxsize=64)
def cert_id(issuer: bytes, algorithm: Hash) -> bytes:
    """The contents of a CertID up to its serial: `algorithm`, and by it the hashes of the DER certificate `issuer`."""
    return _HASH_IDENTIFIERS[algorithm] + b"".join(der.tlv(der.OCTET_STRING, each) for each in issuer_hashes(issuer, algorithm))


@lru_cache(maxsize=64)
def issuer_hashes(issuer: bytes, algorithm: Hash) -> tuple[bytes, bytes]:
    """issuerNameHash and issuerKeyHash of a CertID: the latter over the key's bits, without tag, length and count of unused
    bits (RFC 6960 §4.1.1)."""
    name, key = (_HASHES[algorithm](part).digest() for part in (subject(issuer), key_bits(issuer)))
    return name, key


def subject(certificate: bytes) -> bytes:
    """The DER Name of a certificate's subject."""
    return der.encoded(certificate, _tbs_fields(certificate)[5])


def key_bits(certificate: bytes) -> bytes:
    """The bits of a certificate's public key."""
    _, bits = der.fields(certificate, _tbs_fields(certificate)[6], der.SEQUENCE, der.BIT_STRING)
    return der.contents(certificate, bits)[1:]


def responder_id(certificate: bytes) -> bytes:
    """The ResponderID of this DER certificate's holder (RFC 6960 §4.2.1): its name, else the SHA-1 of its key. GnuTLS looks for
    a subject key identifier equal to that hash, and finds none where identifiers are not made with SHA-1."""
    subject = der.encoded(certificate, _tbs_fields(certificate)[5])
    if subject != _NO_NAME:
        return der.tlv(0xA1, subject)
    return der.tlv(0xA2, der.tlv(der.OCTET_STRING, sha1(key_bits(certificate), usedforsecurity=False).digest()))


def _tbs_fields(certificate: bytes) -> list[der.Element]:
    """Of a version 3 certificate: version, serial, algorithm, issuer, validity, subject, key, …"""
    tbs = der.children(certificate, der.whole(certificate))[0]
    return der.children(certificate, tbs)


class Writer:
    """Writes the responses of one batch: same responder, same first part of the CertID, same times, same `nonce` (the octets
    of RFC 9654, echoed; None for responses made in advance)."""

    __slots__ = ("_after", "_before", "_certificate_id", "_frames", "_responder", "_sign", "_times", "_to_sign")

    def __init__(self, responder: Responder, certificate_id: bytes, times: Times, sign: Sign, nonce: bytes | None = None) -> None:
        self._responder, self._certificate_id, self._sign = responder, certificate_id, sign
        self._before = responder.id + _time(times.produced_at)
        self._times = _time(times.this_update) + der.tlv(0xA0, _time(times.next_update))
        self._after = b"" if nonce is None else _response_extensions(nonce)
        self._to_sign: dict[tuple[int, bytes], tuple[bytes, bytes]] = {}
        self._frames: dict[tuple[int, int], tuple[bytes, bytes, bytes]] = {}

    def good(self, serial: int) -> bytes:
        """The response that `serial` is good."""
        return self._write(serial, _GOOD)

    def revoked(self, serial: int, at: datetime, reason: str) -> bytes:
        """The response that `serial` was revoked `at`, for a `reason` of ca.pki.reasons; "unspecified" is not said
        (RFC 5280 §5.3.1)."""
        return self._write(serial, _revoked(at, reason))

    def _write(self, serial: int, status: bytes) -> bytes:
        number = serial.to_bytes(serial.bit_length() // 8 + 1, "big")
        size = len(number)
        around = self._to_sign.get((size, status)) or self._keep_to_sign(size, status)
        to_sign = number.join(around)
        signature = self._sign(to_sign)
        lengths = len(to_sign), len(signature)
        before, between, after = self._frames.get(lengths) or self._keep_frame(*lengths)
        return b"".join((before, to_sign, between, signature, after))

    def _keep_to_sign(self, size: int, status: bytes) -> tuple[bytes, bytes]:
        """The bytes to be signed around a serial of `size` octets. Revocation times differ: of these none is kept."""
        certificate = der.tlv(der.SEQUENCE, self._certificate_id, der.tlv(der.INTEGER, bytes(size)))
        single = der.tlv(der.SEQUENCE, der.tlv(der.SEQUENCE, certificate, status, self._times))
        whole = der.tlv(der.SEQUENCE, self._before, single, self._after)
        end = len(whole) - len(self._after) - len(self._times) - len(status)
        around = whole[: end - size], whole[end:]
        if status == _GOOD:
            self._to_sign[size, status] = around
        return around

    def _keep_frame(self, to_sign: int, signature: int) -> tuple[bytes, bytes, bytes]:
        """What stands before, between and after that many bytes to be signed and that many of the signature."""
        certificate = self._responder.certificate
        after = der.tlv(0xA0, der.tlv(der.SEQUENCE, certificate)) if certificate else b""
        between = self._responder.algorithm + der.bits(bytes(signature))[:-signature]
        basic = der.tlv(der.SEQUENCE, bytes(to_sign), between, bytes(signature), after)
        body = der.tlv(der.SEQUENCE, _BASIC, der.tlv(der.OCTET_STRING, basic))
        whole = der.tlv(der.SEQUENCE, _SUCCESSFUL, der.tlv(0xA0, body))
        before = whole[: len(whole) - len(after) - signature - len(between) - to_sign]
        self._frames[to_sign, signature] = before, between, after
        return before, between, after


def _response_extensions(nonce: bytes) -> bytes:
    """The nonce is an OCTET STRING within extnValue, which is another (RFC 9654 §2.1)."""
    extension = der.tlv(der.SEQUENCE, _NONCE, der.tlv(der.OCTET_STRING, der.tlv(der.OCTET_STRING, nonce)))
    return der.tlv(0xA1, der.tlv(der.SEQUENCE, extension))


def _revoked(at: datetime, reason: str) -> bytes:
    code = CODES[reason]
    return der.tlv(0xA1, _time(at), der.tlv(0xA0, der.tlv(_ENUMERATED, bytes((code,)))) if code else b"")


def _time(moment: datetime) -> bytes:
    """OCSP knows GeneralizedTime only, and no fractions (RFC 6960 §4.2.2.1)."""
    return der.tlv(der.GENERALIZED_TIME, f"{moment:%Y%m%d%H%M%S}Z".encode())
