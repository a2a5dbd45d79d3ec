"""The to-be-signed bytes of leaf certificates, and the certificate around them (RFC 5280 §4.1).

Owns the encoding. What a certificate says is decided before, in the plan; that these bytes say it is checked after, by
ca.pki.lint with another decoder. Must never see a private key or read a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from . import der, keycheck
from .names import Name

OIDS = {
    "serverAuth": "1.3.6.1.5.5.7.3.1",
    "clientAuth": "1.3.6.1.5.5.7.3.2",
    "OCSPSigning": "1.3.6.1.5.5.7.3.9",
}
NO_REV_AVAIL, OCSP_NO_CHECK = "2.5.29.56", "1.3.6.1.5.5.7.48.1.5"
_KEY_USAGE_BITS = {"digitalSignature": 0, "keyEncipherment": 2}
_SHA256_RSA = der.tlv(der.SEQUENCE, der.oid("1.2.840.113549.1.1.11"), der.tlv(der.NULL))
# What a key of this kind signs certificates with, as AlgorithmIdentifier.
SIGNATURE_ALGORITHMS = {
    "P-256": der.tlv(der.SEQUENCE, der.oid("1.2.840.10045.4.3.2")),
    "P-384": der.tlv(der.SEQUENCE, der.oid("1.2.840.10045.4.3.3")),
    "Ed25519": der.tlv(der.SEQUENCE, der.oid("1.3.101.112")),
    "RSA-2048": _SHA256_RSA,
    "RSA-3072": _SHA256_RSA,
    "RSA-4096": _SHA256_RSA,
}


class Rules(Protocol):
    """What a profile fixes about a certificate's contents, hashable; ca.profiles.Profile is one."""

    def __hash__(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def key_kinds(self) -> tuple[str, ...]: ...
    @property
    def key_usage(self) -> tuple[str, ...]: ...
    @property
    def rsa_key_usage(self) -> tuple[str, ...]: ...
    @property
    def extended_key_usage(self) -> tuple[str, ...]: ...
    @property
    def maximum(self) -> timedelta: ...
    @property
    def no_rev_avail(self) -> bool: ...
    @property
    def ocsp_no_check(self) -> bool: ...
    @property
    def status_pointers(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class IssuerFacts:
    """What certificates take over from their issuer. `subject` is the DER of its name and `key_id` its subject key
    identifier, both copied and never made anew; `signature_algorithm` the DER AlgorithmIdentifier it signs with."""

    name: str
    subject: bytes
    key_id: bytes
    signature_algorithm: bytes
    key_type: str
    spki_sha256: bytes
    not_before: datetime
    not_after: datetime
    public_key: keycheck.PublicKey


@dataclass(frozen=True, slots=True)
class LeafPlan:
    """A certificate before it has bytes. `serial` has 64 to 159 bits; the times are UTC, whole seconds, both included;
    `spki` is DER; `ocsp_url` and `crl_url` are left out where the profile has no status pointers."""

    profile: Rules
    issuer: IssuerFacts
    serial: int
    not_before: datetime
    not_after: datetime
    names: tuple[Name, ...]
    common_name: str | None
    spki: bytes
    aia_url: str | None
    ocsp_url: str | None
    crl_url: str | None

    @property
    def key_type(self) -> str:
        """The kind of the certified key, one of keycheck.KINDS."""
        return keycheck.kind_of(self.spki)

    @property
    def status_urls(self) -> tuple[str | None, str | None]:
        """The OCSP URL and the CRL URL that the certificate will hold."""
        return (self.ocsp_url, self.crl_url) if self.profile.status_pointers else (None, None)


def issuer_facts(name: str, certificate: x509.Certificate) -> IssuerFacts:
    """The facts of a CA certificate known by `name`. Raises Violation for a key kind that signs nothing here, and
    x509.ExtensionNotFound without a subject key identifier."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    kind = keycheck.kind_of(spki)
    return IssuerFacts(
        name=name, subject=_subject_of(certificate), signature_algorithm=SIGNATURE_ALGORITHMS[kind], key_type=kind,
        key_id=certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest,
        spki_sha256=sha256(spki).digest(), not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc, public_key=keycheck.load(spki),
    )  # fmt: skip


def _subject_of(certificate: x509.Certificate) -> bytes:
    tbs = certificate.tbs_certificate_bytes
    return der.encoded(tbs, der.children(tbs, der.whole(tbs))[5])


def build(plan: LeafPlan) -> bytes:
    """The DER of the plan's TBSCertificate."""
    return der.tlv(
        der.SEQUENCE, _VERSION_3, der.integer(plan.serial), plan.issuer.signature_algorithm, plan.issuer.subject,
        der.tlv(der.SEQUENCE, der.time(plan.not_before), der.time(plan.not_after)),
        _subject(plan.common_name), plan.spki, _extensions(plan),
    )  # fmt: skip


def assemble(tbs: bytes, issuer: IssuerFacts, signature: bytes) -> bytes:
    """The DER of the Certificate: `tbs`, the issuer's algorithm, and `signature` over `tbs`."""
    return der.tlv(der.SEQUENCE, tbs, issuer.signature_algorithm, der.bits(signature))


_VERSION_3 = der.tlv(0xA0, der.integer(2))
_COMMON_NAME = der.oid("2.5.4.3")
_TRUE = der.tlv(der.BOOLEAN, b"\xff")
_KEY_ID_OID, _ALT_NAME_OID = der.oid("2.5.29.14"), der.oid("2.5.29.17")


def _subject(common_name: str | None) -> bytes:
    if common_name is None:
        return der.tlv(der.SEQUENCE)
    attribute = der.tlv(der.SEQUENCE, _COMMON_NAME, der.tlv(der.UTF8_STRING, common_name.encode()))
    return der.tlv(der.SEQUENCE, der.tlv(der.SET, attribute))


def _extensions(plan: LeafPlan) -> bytes:
    parts = [
        _of_profile(plan.profile, plan.key_type.startswith("RSA")),
        _of_issuer(plan.issuer.key_id, plan.aia_url, *plan.status_urls),
        _extension(_KEY_ID_OID, der.tlv(der.OCTET_STRING, keycheck.key_id(plan.spki))),
    ]
    if plan.names:  # critical if there is no other name (RFC 5280 §4.2.1.6)
        names = der.tlv(der.SEQUENCE, *map(_general_name, plan.names))
        parts.append(_extension(_ALT_NAME_OID, names, critical=plan.common_name is None))
    return der.tlv(0xA3, der.tlv(der.SEQUENCE, *parts))


def _extension(oid: bytes, value: bytes, critical: bool = False) -> bytes:
    return der.tlv(der.SEQUENCE, oid, _TRUE if critical else b"", der.tlv(der.OCTET_STRING, value))


@lru_cache(maxsize=64)
def _of_profile(profile: Rules, rsa: bool) -> bytes:
    """The extensions that are the same in each certificate of a profile: basicConstraints CA:FALSE, key usages, markers."""
    usage = (*profile.key_usage, *(profile.rsa_key_usage if rsa else ()))
    purposes = [der.oid(OIDS[purpose]) for purpose in profile.extended_key_usage]
    parts = [
        _extension(der.oid("2.5.29.19"), der.tlv(der.SEQUENCE), critical=True),
        _extension(der.oid("2.5.29.15"), der.named_bits(*(_KEY_USAGE_BITS[bit] for bit in usage)), critical=True),
        _extension(der.oid("2.5.29.37"), der.tlv(der.SEQUENCE, *purposes)),
    ]
    if profile.no_rev_avail:
        parts.append(_extension(der.oid(NO_REV_AVAIL), der.tlv(der.NULL)))
    if profile.ocsp_no_check:
        parts.append(_extension(der.oid(OCSP_NO_CHECK), der.tlv(der.NULL)))
    return b"".join(parts)


@lru_cache(maxsize=4096)
def _of_issuer(key_id: bytes, aia_url: str | None, ocsp_url: str | None, crl_url: str | None) -> bytes:
    """The extensions that are the same in each certificate of an issuer and CRL shard: the issuer's key identifier, where it
    and its statuses are."""
    key_identifier = _extension(der.oid("2.5.29.35"), der.tlv(der.SEQUENCE, der.tlv(0x80, key_id)))
    places = (("1.3.6.1.5.5.7.48.1", ocsp_url), ("1.3.6.1.5.5.7.48.2", aia_url))
    access = [der.tlv(der.SEQUENCE, der.oid(method), der.tlv(0x86, url.encode())) for method, url in places if url]
    access_extension = _extension(der.oid("1.3.6.1.5.5.7.1.1"), der.tlv(der.SEQUENCE, *access)) if access else b""
    return key_identifier + access_extension + (_crl_pointer(crl_url) if crl_url else b"")


def _crl_pointer(url: str) -> bytes:
    """One distribution point with the full name `url` (RFC 5280 §4.2.1.13); the CRL there says the same of itself."""
    point = der.tlv(der.SEQUENCE, der.tlv(0xA0, der.tlv(0xA0, der.tlv(0x86, url.encode()))))
    return _extension(der.oid("2.5.29.31"), der.tlv(der.SEQUENCE, point))


def _general_name(name: Name) -> bytes:
    if name.kind == "ip":
        return der.tlv(0x87, ip_address(name.value).packed)
    return der.tlv({"dns": 0x82, "uri": 0x86}[name.kind], name.value.encode("ascii"))
