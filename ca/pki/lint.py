"""The checks between a plan and a signature: nothing is signed that did not pass here.

Owns two looks at the bytes that will be signed. `check`, on every certificate, reads them back and compares every field with
the plan: the frame and the names with the strict reader, the numbers with pyca's parser, and what a profile and an issuer fix
with what pyca's builder writes for it. None of them wrote the bytes. pkilint, at 4 ms too dear for each, judges one
certificate of each new *shape* under a throw-away key. Must never see a CA's key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, lru_cache
from hashlib import sha256
from importlib.metadata import version
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from . import der, keycheck, leaf
from .leaf import LeafPlan, Rules
from .names import Name
from .violations import Violation

if TYPE_CHECKING:
    from pkilint.validation import ValidatorContainer

_OWN_VERSION = 1  # raise it with every change of the rules below, so that every shape is judged again
LINTER_VERSION = f"{_OWN_VERSION}/pkilint-{version('pkilint')}"
_MAKER: Final = object()


class Linted:
    """TBSCertificate bytes that passed `check`, the only thing that can make one: whoever signs asks for this type, so
    that linting is no habit one may forget."""

    __slots__ = ("_tbs",)

    def __init__(self, tbs: bytes, maker: object) -> None:
        if maker is not _MAKER:
            raise TypeError("only lint.check makes Linted bytes")
        self._tbs = tbs

    @property
    def tbs(self) -> bytes:
        """The DER that was checked, and no other."""
        return self._tbs


def check(plan: LeafPlan, tbs: bytes) -> Linted:
    """Compare every field of `tbs` with `plan`, and the plan with its profile and issuer. Raises Violation "lintFailed" whose
    `where` names the first field that differs, "tbs.serialNumber" for example."""
    try:
        _check_plan(plan)
        _check_frame(plan, tbs)
        _check_basics(plan, x509.load_der_x509_certificate(leaf.assemble(tbs, plan.issuer, b"\0")))
    except (ValueError, x509.InvalidVersion) as error:
        raise Violation("lintFailed", f"not the DER of a certificate: {error}", "tbs") from error
    return Linted(tbs, _MAKER)


def _must(holds: bool, field: str, detail: str = "it is not what was planned") -> None:
    if not holds:
        raise Violation("lintFailed", f"{field}: {detail}", f"tbs.{field}")


def _check_plan(plan: LeafPlan) -> None:
    """What the profile and the issuer demand of any plan."""
    _must(64 <= plan.serial.bit_length() <= 159, "serialNumber", "a serial has 64 to 159 bits, so that it fits 20 octets")
    lifetime = plan.not_after - plan.not_before + _SECOND
    _must(_SECOND < lifetime <= plan.profile.maximum, "validity", "it is longer than the profile permits, or negative")
    within = plan.issuer.not_before <= plan.not_before and plan.not_after <= plan.issuer.not_after
    _must(within, "validity", "it is not within the issuer's")
    _must(plan.key_type in plan.profile.key_kinds, "subjectPublicKeyInfo", "the profile does not permit this kind of key")
    _must(bool(plan.names or plan.common_name), "subject", "a certificate names something")
    for name in plan.names:
        _must(Name.parse(str(name)) == name, "subjectAltName", "a name is not canonical")


def _check_basics(plan: LeafPlan, certificate: x509.Certificate) -> None:
    """The numbers, as pyca reads them."""
    _must(certificate.serial_number == plan.serial, "serialNumber")
    _must(certificate.not_valid_before_utc == plan.not_before, "notBefore")
    _must(certificate.not_valid_after_utc == plan.not_after, "notAfter")


# --- the frame, by the strict reader


def _check_frame(plan: LeafPlan, tbs: bytes) -> None:
    """Exactly the eight fields, so no unique identifiers; those that are copied, byte for byte; the right kind of time."""
    version_, serial, algorithm, issuer, validity, subject, spki, extensions = der.fields(
        tbs, der.whole(tbs), 0xA0, der.INTEGER, der.SEQUENCE, der.SEQUENCE, der.SEQUENCE, der.SEQUENCE, der.SEQUENCE, 0xA3
    )
    encoded = der.encoded
    _must(encoded(tbs, version_) == _VERSION_3, "version")
    _must(int.from_bytes(der.contents(tbs, serial), "big", signed=True) == plan.serial, "serialNumber")
    _must(encoded(tbs, algorithm) == plan.issuer.signature_algorithm, "signature")
    _must(encoded(tbs, issuer) == plan.issuer.subject, "issuer")
    _must(encoded(tbs, spki) == plan.spki, "subjectPublicKeyInfo")
    _must([time.tag for time in der.children(tbs, validity)] == [_form(plan.not_before), _form(plan.not_after)], "validity", _FORMS)
    _must(_common_name(tbs, subject) == plan.common_name, "subject")
    _check_extensions(plan, tbs, extensions)


_SECOND = timedelta(seconds=1)
_VERSION_3 = bytes.fromhex("a003020102")
_COMMON_NAME = bytes.fromhex("0603550403")
_FORMS = "UTCTime is for years to 2049, GeneralizedTime for later ones"


def _form(moment: datetime) -> int:
    return der.UTC_TIME if moment.year <= 2049 else der.GENERALIZED_TIME


def _common_name(tbs: bytes, subject: der.Element) -> str | None:
    """The one common name that the subject consists of, or None for an empty subject. Raises Malformed for any other."""
    if subject.body == subject.end:
        return None
    (rdn,) = der.fields(tbs, subject, der.SET)
    (attribute,) = der.fields(tbs, rdn, der.SEQUENCE)
    kind, value = der.fields(tbs, attribute, der.OID, der.UTF8_STRING)
    _must(der.encoded(tbs, kind) == _COMMON_NAME, "subject")
    return der.contents(tbs, value).decode()


# --- extensions

_KEY_ID = bytes.fromhex("301d0603551d0e04160414")  # an extension with a key identifier of 20 octets, up to these
_ALT_NAME, _TRUE = bytes.fromhex("0603551d11"), bytes.fromhex("0101ff")


def _check_extensions(plan: LeafPlan, tbs: bytes, extensions: der.Element) -> None:
    """First those that profile and issuer fix, byte for byte as pyca encodes them, then the key identifier, then the names;
    no other, and none twice."""
    (inner,) = der.fields(tbs, extensions, der.SEQUENCE)
    is_rsa = plan.key_type.startswith("RSA")
    expected = _fixed(plan.profile, is_rsa, plan.issuer.key_id, plan.aia_url, *plan.status_urls) + _KEY_ID + keycheck.key_id(plan.spki)
    if not tbs.startswith(expected, inner.body):
        raise Violation("lintFailed", "an extension is missing or not what profile, issuer and key make it", _place(tbs, inner, expected))
    rest = der.children(tbs, inner._replace(body=inner.body + len(expected)))
    _must(len(rest) == bool(plan.names), "extensions", "there are more or fewer than planned")
    if rest:
        _check_names(plan, tbs, rest[0])


def _check_names(plan: LeafPlan, tbs: bytes, extension: der.Element) -> None:
    kind, *critical, value = der.children(tbs, extension) or [extension]
    _must(der.encoded(tbs, kind) == _ALT_NAME and value.tag == der.OCTET_STRING, "subjectAltName")
    flags = [] if plan.common_name else [_TRUE]
    _must([der.encoded(tbs, flag) for flag in critical] == flags, "subjectAltName", "critical if there is no subject, and only then")
    (names,) = der.fields(tbs, value, der.SEQUENCE)
    _must(tuple([_name(tbs, name) for name in der.children(tbs, names)]) == plan.names, "subjectAltName")


def _name(tbs: bytes, item: der.Element) -> Name:
    """The name as it stands there, not as it would be after names.py made it canonical."""
    octets = der.contents(tbs, item)
    if item.tag == 0x87:
        return Name("ip", str(ip_address(octets)))
    return Name({0x82: "dns", 0x86: "uri"}.get(item.tag, "other"), octets.decode("ascii"))


def _place(tbs: bytes, inner: der.Element, expected: bytes) -> str:
    """Where the first extension stands that differs from the expected ones."""
    at = inner.body
    for index, extension in enumerate(der.children(tbs, inner)):
        if not expected.startswith(der.encoded(tbs, extension), extension.start - at):
            return f"tbs.extensions[{index}]"
    return "tbs.extensions"


@lru_cache(maxsize=4096)
def _fixed(profile: Rules, is_rsa: bool, key_id: bytes, aia_url: str | None, ocsp_url: str | None, crl_url: str | None) -> bytes:
    """The DER of the extensions that all certificates of a profile, issuer and CRL shard share, as pyca's own builder writes
    them."""
    builder = x509.CertificateBuilder(
        issuer_name=x509.Name([]), subject_name=x509.Name([]), public_key=_throwaway_key("Ed25519").public_key(),
        serial_number=1, not_valid_before=datetime(2000, 1, 1), not_valid_after=datetime(2000, 1, 1),  # noqa: DTZ001 pyca reads it as UTC
    )  # fmt: skip
    for critical, value in _of_profile(profile, is_rsa) + _of_issuer(key_id, aia_url, ocsp_url, crl_url):
        builder = builder.add_extension(value, critical)
    tbs = builder.sign(_throwaway_key("Ed25519"), None).tbs_certificate_bytes
    (extensions,) = der.fields(tbs, der.children(tbs, der.whole(tbs))[-1], der.SEQUENCE)
    return der.contents(tbs, extensions)


_Expected = list[tuple[bool, x509.ExtensionType]]  # (critical, value)


def _of_profile(profile: Rules, is_rsa: bool) -> _Expected:
    usage = {*profile.key_usage, *(profile.rsa_key_usage if is_rsa else ())}
    key_usage = x509.KeyUsage(
        digital_signature="digitalSignature" in usage, key_encipherment="keyEncipherment" in usage, content_commitment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    expected: _Expected = [
        (True, x509.BasicConstraints(ca=False, path_length=None)),
        (True, key_usage),
        (False, x509.ExtendedKeyUsage([_PURPOSES[purpose] for purpose in profile.extended_key_usage])),
    ]
    if profile.no_rev_avail:
        expected.append((False, x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.56"), b"\x05\x00")))
    if profile.ocsp_no_check:
        expected.append((False, x509.OCSPNoCheck()))
    return expected


_PURPOSES = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "OCSPSigning": ExtendedKeyUsageOID.OCSP_SIGNING,
}


def _of_issuer(key_id: bytes, aia_url: str | None, ocsp_url: str | None, crl_url: str | None) -> _Expected:
    expected: _Expected = [(False, x509.AuthorityKeyIdentifier(key_id, None, None))]
    places = ((AuthorityInformationAccessOID.OCSP, ocsp_url), (AuthorityInformationAccessOID.CA_ISSUERS, aia_url))
    access = [x509.AccessDescription(method, x509.UniformResourceIdentifier(url)) for method, url in places if url]
    if access:
        expected.append((False, x509.AuthorityInformationAccess(access)))
    if crl_url:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url)], None, None, None)
        expected.append((False, x509.CRLDistributionPoints([point])))
    return expected


# --- shapes


@dataclass(frozen=True, slots=True)
class Shape:
    """What certificates have in common that pkilint judges alike. `key`: 64 hex digits; `description`: for people."""

    key: str
    description: str


def shape_of(plan: LeafPlan, linter_version: str = LINTER_VERSION) -> Shape:
    """The plan's shape: profile and version × issuer's name and key × kinds of names × kind of key × linter version."""
    kinds = tuple(sorted({"wildcard" if name.is_wildcard else name.kind for name in plan.names}))
    late = plan.not_after.year > 2049
    subject = "no subject" if plan.common_name is None else "CN"
    issuer, profile = plan.issuer, plan.profile
    pointers = f"pointers {plan.aia_url} {_status_pointers(plan)}"
    return _shape((profile.name, profile.version, issuer.name, issuer.key_id.hex(), plan.key_type, subject, *kinds,
                   pointers, "GeneralizedTime" if late else "UTCTime", linter_version))  # fmt: skip


def _status_pointers(plan: LeafPlan) -> str:
    """Where the status is to be had, shards of one CRL alike."""
    ocsp_url, crl_url = plan.status_urls
    return f"{ocsp_url} {crl_url and crl_url.rpartition('/')[0]}"


@lru_cache(maxsize=1024)
def _shape(parts: tuple[str | int, ...]) -> Shape:
    return Shape(key=sha256(repr(parts).encode()).hexdigest(), description=" · ".join(map(str, parts)))


# --- pkilint

# The errors of pkilint that do not block, each only for a value that `_judged_elsewhere` lists, and why.
ALLOWED: Mapping[str, str] = {
    # "validators" knows the schemes and dotted hosts of the public web only: it refuses spiffe://fleet.example/a, and
    # http://localhost:8080/ocsp for its host of one label. names.uri_name and the settings judge these, by RFC 3986.
    "pkix.invalid_uri_syntax": "a SPIFFE ID, or the CA's own URL with a host of one label",
    # RFC 5280 §4.2.1.6 leaves wildcards to the application, RFC 6125 §6.4.3 defines them; a private zone may be one label.
    # names.dns_name has judged both.
    "pkix.invalid_domain_name_syntax": "a permitted wildcard, or a host of one label",
}


def pkilint_findings(plan: LeafPlan) -> list[str]:
    """What blocks in pkilint's view of the plan's certificate under a throw-away key of the issuer's kind; empty if it
    passes. About 4 ms; the first call of a process loads pkilint and makes the key. Raises Violation if `check` does."""
    tbs = check(plan, leaf.build(plan)).tbs
    return findings(leaf.assemble(tbs, plan.issuer, _throwaway_signature(plan.issuer.key_type, tbs)), _judged_elsewhere(plan))


def findings(certificate: bytes, allowed_values: Set[str] = frozenset()) -> list[str]:
    """pkilint's errors and fatal findings on any DER certificate (RFC 5280 rules), as "code at place: message". Those in
    ALLOWED are left out where they are about one of `allowed_values`."""
    from pkilint.loader import load_certificate
    from pkilint.validation import ValidationFindingSeverity

    return [
        f"{found.finding.code} at {result.node.path}: {found.message or ''}"
        for result in _validators().validate(load_certificate(certificate, "certificate").root)
        for found in result.finding_descriptions
        if found.finding.severity <= ValidationFindingSeverity.ERROR
        and not (found.finding.code in ALLOWED and str(result.node.pdu) in allowed_values)
    ]


def _judged_elsewhere(plan: LeafPlan) -> set[str]:
    names = {name.value for name in plan.names if name.kind == "uri" or name.is_wildcard or "." not in name.value}
    return names | {url for url in (plan.aia_url, *plan.status_urls) if url and _is_on_one_label(url)}


def _is_on_one_label(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and _ONE_LABEL.fullmatch(parts.hostname or "") is not None and not parts.username


_ONE_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


@cache
def _validators() -> ValidatorContainer:
    """pkilint's rules for RFC 5280. Imported here, for only processes that validate need them: 0.2 s and 30 MB."""
    from pkilint.pkix import certificate, extension, name

    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )


def _throwaway_signature(kind: str, tbs: bytes) -> bytes:
    key = _throwaway_key(kind)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(tbs, ec.ECDSA(hashes.SHA384() if kind == "P-384" else hashes.SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(tbs)


@cache
def _throwaway_key(kind: str) -> ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey:
    """A key that lives in this process only and vouches for nothing."""
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if kind.startswith("P-"):
        return ec.generate_private_key(ec.SECP384R1() if kind == "P-384" else ec.SECP256R1())
    return rsa.generate_private_key(65537, int(kind.removeprefix("RSA-")))
