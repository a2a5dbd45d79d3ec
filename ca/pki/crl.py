"""Certificate revocation lists, version 2 (RFC 5280 §5): their to-be-signed bytes, and where they lie.

Owns the encoding and the URL, which certificates and the lists themselves must write alike to the byte. Which serials are
listed is decided by whoever calls. Must never see a private key or read a clock. A list of 100,000 entries is made of joined
bytes, as a builder's objects would take the time of a hundred signatures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from . import der
from .leaf import IssuerFacts
from .reasons import CODES

_ENUMERATED = 0x0A
_VERSION_2 = der.integer(1)
_TRUE = der.tlv(der.BOOLEAN, b"\xff")
_KEY_ID, _NUMBER, _SCOPE, _REASON = (der.oid(f"2.5.29.{arc}") for arc in (35, 20, 28, 21))


@dataclass(frozen=True, slots=True)
class Crl:
    """A list before it has bytes. `number` at most 20 octets; times UTC, whole seconds; `entries` = (serial as 40 hex digits,
    when it was revoked, reason as of ca.pki.reasons), in any order; `url` the distribution point that it is for, None for
    the list of all that the issuer revoked."""

    issuer: IssuerFacts
    number: int
    this_update: datetime
    next_update: datetime
    entries: Iterable[tuple[str, datetime, str]]
    url: str | None = None


def url(base: str, issuer: str, shard: int | None) -> str:
    """Where the list of an issuer's shard lies, or, for None, its full list."""
    return f"{base}/{issuer}.crl" if shard is None else f"{base}/{issuer}/{shard}.crl"


def build(crl: Crl) -> bytes:
    """The DER of the TBSCertList. The same list gives the same bytes: entries are in the order of their serials."""
    entries = [_entry(*entry) for entry in sorted(crl.entries)]
    return der.tlv(
        der.SEQUENCE, _VERSION_2, crl.issuer.signature_algorithm, crl.issuer.subject, der.time(crl.this_update), der.time(crl.next_update),
        der.tlv(der.SEQUENCE, *entries) if entries else b"",  # absent when empty, never an empty list (§5.1.2.6)
        der.tlv(0xA0, der.tlv(der.SEQUENCE, *_extensions(crl))),
    )  # fmt: skip


def _extensions(crl: Crl) -> list[bytes]:
    """The issuer's key identifier is copied (§5.2.1); the scope is critical (§5.2.5), a full list has none."""
    extensions = [
        _extension(_KEY_ID, der.tlv(der.SEQUENCE, der.tlv(0x80, crl.issuer.key_id))),
        _extension(_NUMBER, der.integer(crl.number)),
    ]
    if crl.url:
        full_name = der.tlv(0xA0, der.tlv(0x86, crl.url.encode()))
        extensions.append(_extension(_SCOPE, der.tlv(der.SEQUENCE, der.tlv(0xA0, full_name)), _TRUE))
    return extensions


def _extension(oid: bytes, value: bytes, critical: bytes = b"") -> bytes:
    return der.tlv(der.SEQUENCE, oid, critical, der.tlv(der.OCTET_STRING, value))


def _entry(serial: str, revoked_at: datetime, reason: str) -> bytes:
    """One of revokedCertificates, always shorter than 128 bytes."""
    body = _serial(bytes.fromhex(serial)) + _time(revoked_at) + _REASONS[reason]
    return bytes((der.SEQUENCE, len(body))) + body


def _serial(octets: bytes) -> bytes:
    if 0 < octets[0] < 0x80:  # as nearly all are
        return bytes((der.INTEGER, len(octets))) + octets
    return der.integer(int.from_bytes(octets, "big"))


_time = lru_cache(maxsize=1024)(der.time)  # those revoked together were revoked at the same time


def _reason(code: int) -> bytes:
    """The entry's extensions. "unspecified" is said by silence (§5.3.1)."""
    return der.tlv(der.SEQUENCE, _extension(_REASON, der.tlv(_ENUMERATED, bytes((code,))))) if code else b""


_REASONS = {name: _reason(code) for name, code in CODES.items()}
