"""Certification requests (PKCS #10, RFC 2986): what is taken from one, and everything that is refused.

Owns the reading of the requester's bytes. Taken: the public key, the common name and the subject alternative names; nothing
else can reach a certificate. The challengePassword is read too, for who stores the request has to take it out of there. The
bytes are read here by our own strict reader, which sees each byte once: a parser that takes the first of two requests, of two
attributes or of two extensions would leave the second to somebody else's reading.

What else a request may hold, and what becomes of it:
- other subject attributes, and all other attributes: ignored;
- challengePassword (RFC 2985 §5.4.1): handed on if it is one text as it should be, else ignored; ca.challenges decides;
- basicConstraints with cA, keyUsage with keyCertSign or cRLSign: refused (caRequested); without: ignored;
- nameConstraints, policyMappings, policyConstraints, inhibitAnyPolicy, which only a CA can mean: refused (caRequested);
- extKeyUsage: ignored, for the profile that is asked for beside it decides (certtool marks it critical);
- any other extension: ignored if it is not critical, refused if it is (extensionCritical), for who marks it so relies on it;
- an attribute or extension twice, or two values of extensionRequest: refused, whatever it is.

`to_der` and `parse` raise Violation and nothing else, whatever the bytes.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from . import der, keycheck
from .der import Element
from .names import Name, general_names
from .violations import Violation

MAX_DER = 16_384
MAX_COMMON_NAME = 64  # RFC 5280 appendix A.1, ub-common-name
_PEM = re.compile(rb"\s*-----BEGIN ((?:NEW )?CERTIFICATE REQUEST)-----\s([A-Za-z0-9+/=\s]*)-----END \1-----\s*")
_VERSION_1 = der.integer(0)
_ATTRIBUTES = 0xA0


@dataclass(frozen=True, slots=True)
class ParsedCSR:
    """A request that is well-formed and signed by the key it names. `der` the request, `spki` its DER
    SubjectPublicKeyInfo, `spki_sha256` that one's 32-byte hash, `key_type` one of keycheck.KINDS, `common_name` as written
    or None, `names` canonical, in the order of the request, each once, `challenge_password` a secret of the requester's or None."""

    der: bytes = field(repr=False)
    spki: bytes
    spki_sha256: bytes
    public_key: keycheck.PublicKey
    key_type: str
    common_name: str | None
    names: tuple[Name, ...]
    challenge_password: str | None = field(repr=False)


def to_der(data: bytes | str) -> bytes:
    """The DER in `data`: DER itself, its base64, or exactly one PEM block (RFC 7468 §7) with nothing but white space around
    it. The result is not parsed yet. Raises Violation."""
    if isinstance(data, str):
        data = data.encode("utf-8", "replace")
    if len(data) > 2 * MAX_DER:
        raise _too_large()
    if data[:1] == b"0":  # the tag of a SEQUENCE; the base64 of one begins with "M", PEM with "-"
        return data
    text = data
    if b"-----" in data:
        block = _PEM.fullmatch(data)
        if block is None:
            raise Violation("csrText", "send exactly one CERTIFICATE REQUEST block and no text, key or second block around it")
        text = block[2]
    return _from_base64(b"".join(text.split()))


def _from_base64(text: bytes) -> bytes:
    try:
        request = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise Violation("csrText", "the request is neither DER nor base64 nor one PEM block") from error
    if binascii.b2a_base64(request, newline=False) != text:  # superfluous padding, or bits that no octet holds
        raise Violation("csrText", "the base64 is not canonical")
    return request


def parse(request: bytes, verify: bool = True) -> ParsedCSR:
    """Read one DER request. `verify=False` leaves out the costly proofs, the signature and the search for weak keys, and is
    only for bytes that were accepted before and kept where nobody else can write. Raises Violation."""
    if len(request) > MAX_DER:
        raise _too_large()
    try:
        parts = _split(request)
        common_name = _common_name(request, parts.subject)
        attributes = _attributes(request, parts.attributes)
        names = _requested_names(request, attributes.get(_EXTENSION_REQUEST))
        password = _challenge_password(request, attributes.get(_CHALLENGE_PASSWORD))
    except der.Malformed as error:
        raise Violation("csrEncoding", f"not one DER certification request: {error}") from error
    key = keycheck.load(parts.spki)
    if verify:
        _verify(key, parts)
        keycheck.check_strength(parts.spki, key)
    return ParsedCSR(request, parts.spki, sha256(parts.spki).digest(), key, keycheck.kind_of(parts.spki), common_name, names, password)


def without_password(request: bytes) -> bytes:
    """`request`, one that `parse` accepts, with the octets of every value of its challengePassword overwritten: as long and as
    well-formed as before, though its signature fits no more."""
    if _CHALLENGE_PASSWORD not in request:
        return request
    values = _attributes(request, _split(request).attributes).get(_CHALLENGE_PASSWORD)
    cleared = bytearray(request)
    for value in der.children(request, values) if values else ():
        cleared[value.body : value.end] = b"x" * (value.end - value.body)
    return bytes(cleared)


def _too_large() -> Violation:
    return Violation("csrTooLarge", f"a request has at most {MAX_DER} bytes")


class _Parts(NamedTuple):
    """CertificationRequest { CertificationRequestInfo { version, subject, spki, attributes }, algorithm, signature }."""

    signed: bytes
    subject: Element
    spki: bytes
    attributes: Element
    algorithm: bytes
    signature: bytes


def _split(request: bytes) -> _Parts:
    info, algorithm, signature = der.fields(request, der.whole(request), der.SEQUENCE, der.SEQUENCE, der.BIT_STRING)
    version, subject, spki, attributes = der.fields(request, info, der.INTEGER, der.SEQUENCE, der.SEQUENCE, _ATTRIBUTES)
    if der.encoded(request, version) != _VERSION_1:
        raise Violation("csrVersion", "the only version of PKCS #10 is 1, written as 0")
    unused, octets = request[signature.body : signature.body + 1], request[signature.body + 1 : signature.end]
    if unused != b"\0":
        raise der.Malformed("the signature is not whole octets")
    encoded = der.encoded
    return _Parts(encoded(request, info), subject, encoded(request, spki), attributes, encoded(request, algorithm), octets)


# --- proof of possession


def _identifier(oid: str, parameters: bytes = b"") -> bytes:
    return der.tlv(der.SEQUENCE, der.oid(oid), parameters)


# AlgorithmIdentifier → hash. SHA-1, MD5 and RSASSA-PSS are not here and so are refused. RFC 4055 §5 lets the NULL be left out.
_ECDSA = {
    _identifier("1.2.840.10045.4.3.2"): ec.ECDSA(hashes.SHA256()),
    _identifier("1.2.840.10045.4.3.3"): ec.ECDSA(hashes.SHA384()),
    _identifier("1.2.840.10045.4.3.4"): ec.ECDSA(hashes.SHA512()),
}
_RSA: Mapping[bytes, hashes.HashAlgorithm] = {
    _identifier(oid, null): algorithm
    for oid, algorithm in (
        ("1.2.840.113549.1.1.11", hashes.SHA256()),
        ("1.2.840.113549.1.1.12", hashes.SHA384()),
        ("1.2.840.113549.1.1.13", hashes.SHA512()),
    )
    for null in (b"", der.tlv(der.NULL))
}
_ED25519 = _identifier("1.3.101.112")


def _verify(key: keycheck.PublicKey, parts: _Parts) -> None:
    """RFC 2986 §4.2: whoever asks must hold the private key."""
    try:
        if not _signature_fits(key, parts):
            raise Violation("csrSignatureAlgorithm", "the request is not signed with SHA-256, -384 or -512 by the kind of key it holds")
    except InvalidSignature as error:
        raise Violation("csrSignature", "the signature was not made by the key in the request") from error


def _signature_fits(key: keycheck.PublicKey, parts: _Parts) -> bool:
    """Whether the algorithm suits the key. Raises InvalidSignature if the signature is wrong."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        if scheme := _ECDSA.get(parts.algorithm):
            key.verify(parts.signature, parts.signed, scheme)
        return scheme is not None
    if isinstance(key, rsa.RSAPublicKey):
        if algorithm := _RSA.get(parts.algorithm):
            key.verify(parts.signature, parts.signed, padding.PKCS1v15(), algorithm)
        return algorithm is not None
    key.verify(parts.signature, parts.signed)
    return parts.algorithm == _ED25519


# --- subject

_COMMON_NAME = der.oid("2.5.4.3")
_TEXT = {der.UTF8_STRING: "utf-8", der.PRINTABLE_STRING: "ascii", der.IA5_STRING: "ascii"}


def _common_name(request: bytes, subject: Element) -> str | None:
    found = [value for kind, value in _subject_attributes(request, subject) if kind == _COMMON_NAME]
    if len(found) > 1:
        raise Violation("commonNameTwice", "a subject has at most one common name", "csr.subject")
    return _common_name_text(request, found[0]) if found else None


def _subject_attributes(request: bytes, subject: Element) -> Iterator[tuple[bytes, Element]]:
    """(type as DER OID, value) of each attribute in the RDNSequence."""
    for rdn in der.children(request, subject):
        if rdn.tag != der.SET or rdn.body == rdn.end:
            raise der.Malformed(f"not a relative distinguished name at byte {rdn.start}")
        for attribute in der.children(request, rdn):
            kind, value = _two(request, attribute)
            yield der.encoded(request, kind), value


def _two(request: bytes, pair: Element) -> list[Element]:
    """The two children of a SEQUENCE that begins with an OID."""
    found = der.children(request, pair)
    if pair.tag != der.SEQUENCE or len(found) != 2 or found[0].tag != der.OID:
        raise der.Malformed(f"not a type with its value at byte {pair.start}")
    return found


def _common_name_text(request: bytes, value: Element) -> str:
    try:
        text = der.contents(request, value).decode(_TEXT[value.tag])
    except (KeyError, UnicodeDecodeError) as error:
        raise Violation("commonNameEncoding", "the common name is not a UTF8String or PrintableString", "csr.subject") from error
    if not 1 <= len(text) <= MAX_COMMON_NAME or not text.isprintable():
        raise Violation("commonNameSyntax", f"a common name has 1 to {MAX_COMMON_NAME} printable characters", "csr.subject")
    return text


# --- attributes and extensions

_EXTENSION_REQUEST, _CHALLENGE_PASSWORD = der.oid("1.2.840.113549.1.9.14"), der.oid("1.2.840.113549.1.9.7")
_CRITICAL = der.tlv(der.BOOLEAN, b"\xff")


def _attributes(request: bytes, attributes: Element) -> dict[bytes, Element]:
    """DER OID → values of each attribute."""
    found: dict[bytes, Element] = {}
    for attribute in der.children(request, attributes):
        kind, values = _two(request, attribute)
        name = der.encoded(request, kind)
        if name in found:
            raise Violation("csrAttributeTwice", "an attribute appears twice", "csr.attributes")
        found[name] = values
    return found


_DIRECTORY_STRING = {**_TEXT, 0x14: "latin-1", 0x1C: "utf-32-be", 0x1E: "utf-16-be"}  # teletex, universal, bmp (X.520)
_MAX_PASSWORD = 255  # RFC 2985 appendix B.1, pkcs-9-ub-challengePassword


def _challenge_password(request: bytes, values: Element | None) -> str | None:
    """What the attribute says, if it has one value that is a text of permitted length."""
    found = der.children(request, values) if values else []
    if len(found) != 1 or found[0].tag not in _DIRECTORY_STRING:
        return None
    try:
        text = der.contents(request, found[0]).decode(_DIRECTORY_STRING[found[0].tag])
    except UnicodeDecodeError:
        return None
    return text if len(text) <= _MAX_PASSWORD else None


def _requested_names(request: bytes, requested: Element | None) -> tuple[Name, ...]:
    """The subject alternative names that are asked for; none if there is no such extension. `requested`: the values of the
    extensionRequest attribute."""
    names: list[Name] = []
    for kind, critical, value in _extensions(request, requested):
        if kind == _SUBJECT_ALT_NAME:
            names = general_names(request, value)
        elif kind in _ONLY_FOR_A_CA:
            raise _ca_requested("extensions that only a CA's certificate can have")
        elif kind in _HARMLESS_IF:
            _HARMLESS_IF[kind](der.contents(request, value))
        elif critical and kind != _EXT_KEY_USAGE:
            raise Violation("extensionCritical", "an unknown extension is requested as critical", "csr.extensions")
    return tuple(dict.fromkeys(names))


def _extensions(request: bytes, requested: Element | None) -> Iterator[tuple[bytes, bool, Element]]:
    """(DER OID, critical, the extnValue) of each requested extension, each OID once (RFC 2985 §5.4.2)."""
    seen = set()
    for extension in der.children(request, *der.fields(request, requested, der.SEQUENCE)) if requested else ():
        name, critical, value = _extension(request, extension)
        if name in seen:
            raise Violation("csrExtensionTwice", "an extension is requested twice", "csr.extensions")
        seen.add(name)
        yield name, critical, value


def _extension(request: bytes, extension: Element) -> tuple[bytes, bool, Element]:
    parts = der.children(request, extension)
    tags = [extension.tag, *(part.tag for part in parts)]
    if tags == [der.SEQUENCE, der.OID, der.OCTET_STRING]:
        return der.encoded(request, parts[0]), False, parts[1]
    if tags == [der.SEQUENCE, der.OID, der.BOOLEAN, der.OCTET_STRING] and der.encoded(request, parts[1]) == _CRITICAL:
        return der.encoded(request, parts[0]), True, parts[2]
    raise der.Malformed(f"not an extension at byte {extension.start}")


def _ca_requested(what: str) -> Violation:
    return Violation("caRequested", f"the request asks for {what}; CA certificates are not had this way", "csr.extensions")


def _check_basic_constraints(value: bytes) -> None:
    if value not in (_EMPTY, _CA_FALSE):
        raise _ca_requested("basicConstraints of a CA")


def _check_key_usage(value: bytes) -> None:
    usage = der.whole(value, der.BIT_STRING)
    octets = der.contents(value, usage)
    if not 2 <= len(octets) <= 3:
        raise der.Malformed("not a key usage")
    if octets[1] & 0b110:  # keyCertSign(5), cRLSign(6)
        raise _ca_requested("a key usage of a CA")


_EMPTY = der.tlv(der.SEQUENCE)
_CA_FALSE = der.tlv(der.SEQUENCE, der.tlv(der.BOOLEAN, b"\0"))  # not DER, for FALSE is the default; seen in the wild
_SUBJECT_ALT_NAME, _EXT_KEY_USAGE = der.oid("2.5.29.17"), der.oid("2.5.29.37")
_ONLY_FOR_A_CA = frozenset(map(der.oid, ("2.5.29.30", "2.5.29.33", "2.5.29.36", "2.5.29.54")))
_HARMLESS_IF: Mapping[bytes, Callable[[bytes], None]] = {
    der.oid("2.5.29.19"): _check_basic_constraints,
    der.oid("2.5.29.15"): _check_key_usage,
}
