"""A certificate, a request or a CRL in words: every field of RFC 5280, for people to read.

Owns the words. What cannot be read is shown as what it is, an OID and its octets, and never stops a page. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha1, sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID

from ca.pki import constraints
from ca.pki.violations import Violation


@dataclass(frozen=True, slots=True)
class Field:
    """A label and what is under it, a line each. `mono`: octets or text for machines."""

    label: str
    lines: Sequence[str]
    mono: bool = False
    critical: bool | None = None  # of an extension


@dataclass(frozen=True, slots=True)
class Section:
    """Fields that belong together."""

    title: str
    fields: Sequence[Field]


def certificate(der: bytes) -> list[Section]:
    """All of a DER certificate."""
    parsed = x509.load_der_x509_certificate(der)
    return [
        Section("Subject", _name(parsed.subject)),
        Section("Issuer", _name(parsed.issuer)),
        Section("Validity", _validity(parsed)),
        Section("Public key", public_key(parsed.public_key())),
        Section("Extensions", _extensions(lambda: parsed.extensions)),
        Section("Certificate", _whole(parsed, der)),
    ]


def hexadecimal(octets: bytes) -> str:
    """ "AB:CD:EF"."""
    return octets.hex(":").upper()


def _name(name: x509.Name) -> list[Field]:
    fields = [Field(attribute.rfc4514_attribute_name, [str(attribute.value)]) for attribute in name]
    return fields or [Field("Name", ["empty: the subject alternative names say who it is"])]


def _validity(parsed: x509.Certificate) -> list[Field]:
    start, end = parsed.not_valid_before_utc, parsed.not_valid_after_utc
    return [
        Field("Not before", [_utc(start)]),
        Field("Not after", [f"{_utc(end)}, this second included"]),
        Field("Lifetime", [str(end - start)]),
    ]


def _utc(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def public_key(key: Any) -> list[Field]:
    """What a public key is, and the hash by which it is known here."""
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return [
        Field("Algorithm", [_algorithm(key)]),
        Field("SHA-256 of the key", [hexadecimal(sha256(spki).digest())], mono=True),
        Field("SubjectPublicKeyInfo", [hexadecimal(spki)], mono=True),
    ]


def _algorithm(key: Any) -> str:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"elliptic curve {key.curve.name}, {key.key_size} bits"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA, {key.key_size} bits, exponent {key.public_numbers().e}"
    return type(key).__name__.removesuffix("PublicKey")


def _whole(parsed: x509.Certificate, der: bytes) -> list[Field]:
    return [
        Field("Version", [f"{parsed.version.value + 1} ({parsed.version.name})"]),
        Field("Serial number", [hexadecimal(parsed.serial_number.to_bytes(20))], mono=True),
        Field("Signature algorithm", [_oid(parsed.signature_algorithm_oid)]),
        Field("Signature", [hexadecimal(parsed.signature)], mono=True),
        Field("SHA-256 fingerprint", [hexadecimal(sha256(der).digest())], mono=True),
        Field("SHA-1 fingerprint", [hexadecimal(sha1(der, usedforsecurity=False).digest())], mono=True),
        Field("Size", [f"{len(der):,} bytes of DER"]),
    ]


def _oid(oid: x509.ObjectIdentifier) -> str:
    name = oid._name
    return oid.dotted_string if name == "Unknown OID" else f"{name} ({oid.dotted_string})"


# --- Extensions


def _extensions(read: Callable[[], x509.Extensions]) -> list[Field]:
    try:
        found = list(read())
    except ValueError as error:
        return [Field("Unreadable", [str(error)])]
    return [_extension(extension) for extension in found] or [Field("None", [""])]


def _extension(extension: x509.Extension[Any]) -> Field:
    title, words = _WORDS.get(extension.oid, (_oid(extension.oid), None))
    if words is None or isinstance(extension.value, x509.UnrecognizedExtension):
        return Field(title, _octets(extension.value), True, extension.critical)
    return Field(title, list(words(extension.value)), title.endswith("identifier"), extension.critical)


def _octets(value: Any) -> list[str]:
    octets = value.value if isinstance(value, x509.UnrecognizedExtension) else value.public_bytes()
    return [hexadecimal(octets)]


def general_name(name: x509.GeneralName) -> str:
    """ "DNS a.internal", "IP 10.0.0.1", …; A-labels stay A-labels."""
    if isinstance(name, x509.DirectoryName):
        return f"name {name.value.rfc4514_string()}"
    kind = {x509.DNSName: "DNS", x509.IPAddress: "IP", x509.UniformResourceIdentifier: "URI", x509.RFC822Name: "e-mail"}
    return f"{kind.get(type(name), type(name).__name__)} {name.value}"


def _key_usage(value: x509.KeyUsage) -> Iterable[str]:
    always = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
    )
    names = [name for name in always if getattr(value, name)]
    if value.key_agreement:
        names += [name for name in ("encipher_only", "decipher_only") if getattr(value, name)]
    return [name.replace("_", " ") for name in names]


def _basic(value: x509.BasicConstraints) -> Iterable[str]:
    if not value.ca:
        return ["not a CA"]
    return ["a CA", "any number of CAs below it" if value.path_length is None else f"{value.path_length} CAs below it"]


def _authority_key(value: x509.AuthorityKeyIdentifier) -> Iterable[str]:
    return [hexadecimal(value.key_identifier or b"")]


def _access(value: x509.AuthorityInformationAccess) -> Iterable[str]:
    return [f"{each.access_method._name}: {general_name(each.access_location)}" for each in value]


def _points(value: x509.CRLDistributionPoints) -> Iterable[str]:
    return [general_name(name) for point in value for name in point.full_name or ()]


def _constraints(value: x509.NameConstraints) -> Iterable[str]:
    yield from (f"permitted: {_tree(name)}" for name in value.permitted_subtrees or ())
    yield from (f"excluded: {_tree(name)}" for name in value.excluded_subtrees or ())


def _tree(name: x509.GeneralName) -> str:
    return general_name(name) if str(name.value) else f"every {general_name(name).strip()}"


_WORDS: Mapping[x509.ObjectIdentifier, tuple[str, Callable[[Any], Iterable[str]] | None]] = {
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME: ("Subject alternative names", lambda value: map(general_name, value)),
    ExtensionOID.KEY_USAGE: ("Key usage", _key_usage),
    ExtensionOID.EXTENDED_KEY_USAGE: ("Extended key usage", lambda value: map(_oid, value)),
    ExtensionOID.BASIC_CONSTRAINTS: ("Basic constraints", _basic),
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: ("Subject key identifier", lambda value: [hexadecimal(value.digest)]),
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: ("Authority key identifier", _authority_key),
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS: ("Authority information access", _access),
    ExtensionOID.CRL_DISTRIBUTION_POINTS: ("CRL distribution points", _points),
    ExtensionOID.NAME_CONSTRAINTS: ("Name constraints", _constraints),
    ExtensionOID.OCSP_NO_CHECK: ("OCSP no check", lambda value: ["this responder's own status is not asked for"]),
    x509.ObjectIdentifier("2.5.29.56"): ("No revocation available", None),
}


def constraints_of(der: bytes) -> list[tuple[str, Sequence[str]]]:
    """What a CA certificate lets its holder certify: [(kind of name, values)], or the one thing that is wrong with it."""
    try:
        found = constraints.read(x509.load_der_x509_certificate(der))
    except Violation as violation:
        return [("Cannot be relied on", [violation.detail])]
    kinds = (("DNS zones", found.zones), ("IP ranges", found.ip_ranges), ("SPIFFE trust domains", found.trust_domains))
    return [(kind, [str(value) for value in values]) for kind, values in kinds]


def crl_points(der: bytes) -> list[str]:
    """The URLs of the CRLs that a certificate points to."""
    try:
        points = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(name.value) for point in points for name in point.full_name or ()]


def subject(der: bytes) -> str:
    """The subject's name, most general part last (RFC 4514)."""
    return x509.load_der_x509_certificate(der).subject.rfc4514_string()
