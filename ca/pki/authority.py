"""CA certificates: what a root and an issuing intermediate say, and whether one that was made elsewhere says enough.

Owns the profile of CA certificates (RFC 5280 §4.2.1). Must never leave a name constraint out: a trust store ignores those of
a root, so the intermediate carries them too. Issuing intermediates have path length 0 and so cannot make further CAs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from . import der, keycheck, lint
from .constraints import NOBODY, Constraints, read
from .violations import Violation

_USAGE = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
    key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
)  # fmt: skip
_WHERE = "certificate"
_UNREADABLE = (
    ValueError, UnsupportedAlgorithm, CryptographyDeprecationWarning,
    x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType,
)  # fmt: skip


@dataclass(frozen=True)
class Authority:
    """A CA certificate to be made. `parent` is the root's certificate, None for a root itself; times are whole seconds UTC;
    `aia_url` is where the parent's certificate can be fetched."""

    name: str
    public_key: keycheck.PublicKey
    parent: x509.Certificate | None
    not_before: datetime
    not_after: datetime
    constraints: Constraints
    aia_url: str | None = None

    def builder(self) -> x509.CertificateBuilder:
        """The certificate with a new serial of 159 random bits, ready to be signed by the parent's key or, a root, its own."""
        own = subject(self.name)
        serial = x509.random_serial_number()
        issuer = self.parent.subject if self.parent else own
        builder = x509.CertificateBuilder(issuer, own, self.public_key, serial, self.not_before, self.not_after)
        for value, critical in self._extensions():
            builder = builder.add_extension(value, critical)
        return builder

    def _extensions(self) -> Iterable[tuple[x509.ExtensionType, bool]]:
        yield x509.BasicConstraints(ca=True, path_length=0 if self.parent else None), True
        yield _USAGE, True
        yield self.constraints.extension(), True
        own = keycheck.key_id(self.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        yield x509.SubjectKeyIdentifier(own), False
        # A parent's is copied, not computed again (§4.2.1.1). A root could go without, but pkilint does not take the draft
        # for self-signed, being under a throw-away key.
        yield x509.AuthorityKeyIdentifier(key_id(self.parent) if self.parent else own, None, None), False
        if self.aia_url:
            where = x509.UniformResourceIdentifier(self.aia_url)
            yield x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, where)]), False


def subject(authority: str) -> x509.Name:
    """The distinguished name of the issuer called `authority`."""
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Quicklime"), x509.NameAttribute(NameOID.COMMON_NAME, authority)],
    )


def common_name(named: x509.Name) -> str:
    """The one common name in `named`. Raises Violation."""
    found = named.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(found) != 1:
        raise Violation("authorityName", f"its subject has {len(found)} common names instead of one", _WHERE)
    return str(found[0].value)


def key_id(certificate: x509.Certificate) -> bytes:
    """Its subject key identifier. Raises Violation unless that is 20 bytes, the form every part of Quicklime counts on."""
    found = _extension(certificate, x509.SubjectKeyIdentifier)
    if found is None or len(found.value.digest) != 20:
        raise Violation("authorityKeyId", "has no subject key identifier of 20 bytes", _WHERE)
    digest: bytes = found.value.digest
    return digest


def read_chain(data: bytes) -> tuple[x509.Certificate, x509.Certificate]:
    """The intermediate and its root in a PEM file that holds exactly these two. Raises Violation for anything else, also for
    a certificate of which a part that is looked at later cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", CryptographyDeprecationWarning)  # what pyca still lets pass, e.g. a negative serial
            certificates = x509.load_pem_x509_certificates(data)
            for certificate in certificates:
                certificate.public_key(), certificate.extensions, certificate.subject, certificate.issuer  # pyca parses these late
    except _UNREADABLE as error:
        raise Violation("authorityMalformed", f"it does not hold readable certificates as PEM: {error}", _WHERE) from None
    if len(certificates) != 2:
        raise Violation("authorityMalformed", f"it holds {len(certificates)} certificates, not the intermediate's and its root's", _WHERE)
    return certificates[0], certificates[1]


def check(certificate: x509.Certificate, parent: x509.Certificate, now: datetime) -> None:
    """Whether an intermediate and its root, from `read_chain`, made by whomever, can be Quicklime's. Raises Violation with all the reasons:
    signature, validity, CA bits, path length, identifiers, name constraints."""
    faults = [
        *_signature_faults(certificate, parent),
        *(f"the root {fault}" for fault in _authority_faults(parent, now)),
        *(f"the intermediate {fault}" for fault in _authority_faults(certificate, now)),
        *_intermediate_faults(certificate, parent),
    ]
    if faults:
        raise Violation("authorityUnfit", "; ".join(faults), _WHERE)


def validity_fault(certificate: x509.Certificate, now: datetime) -> str | None:
    """ "expired on …" or "is not valid before …"; None while it is valid."""
    if now > certificate.not_valid_after_utc:
        return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d at %H:%M:%S} UTC"
    if now < certificate.not_valid_before_utc:
        return f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d at %H:%M:%S} UTC"
    return None


def _signature_faults(certificate: x509.Certificate, parent: x509.Certificate) -> Iterable[str]:
    for what, signed in (("intermediate", certificate), ("root", parent)):
        try:
            signed.verify_directly_issued_by(parent)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            yield f"the {what} was not issued by the root"
        if not _signature_is_octets(signed.public_bytes(Encoding.DER)):
            yield f"the {what}'s signature is not whole octets"


def _signature_is_octets(certificate: bytes) -> bool:
    """pyca takes a signature that ends in zero bits also with those bits marked unused: another file, the same certificate."""
    _, _, signature = der.fields(certificate, der.whole(certificate), der.SEQUENCE, der.SEQUENCE, der.BIT_STRING)
    return certificate[signature.body] == 0


def _authority_faults(certificate: x509.Certificate, now: datetime) -> Iterable[str]:
    try:
        key_id(certificate)
    except Violation as violation:
        yield violation.detail
    basic, usage = _extension(certificate, x509.BasicConstraints), _extension(certificate, x509.KeyUsage)
    if certificate.version != x509.Version.v3 or not basic or not basic.critical or not basic.value.ca:
        yield "is not marked as a CA (version 3, critical basicConstraints with cA)"
    if not usage or not usage.value.key_cert_sign or not usage.value.crl_sign:
        yield "lacks the key usages keyCertSign and cRLSign"
    if fault := validity_fault(certificate, now):
        yield fault


def _intermediate_faults(certificate: x509.Certificate, parent: x509.Certificate) -> Iterable[str]:
    basic, issued_by = _extension(certificate, x509.BasicConstraints), _extension(certificate, x509.AuthorityKeyIdentifier)
    if not basic or basic.value.path_length != 0:
        yield "the intermediate has no path length of 0, so it could make further CAs"
    root_id = _extension(parent, x509.SubjectKeyIdentifier)
    if not issued_by or not root_id or issued_by.value.key_identifier != root_id.value.digest:
        yield "the intermediate's authority key identifier is not the root's key identifier"
    if not parent.not_valid_before_utc <= certificate.not_valid_before_utc <= certificate.not_valid_after_utc <= parent.not_valid_after_utc:
        yield "the intermediate's validity is not within the root's"
    yield from _constraint_faults(certificate, parent)


def _constraint_faults(certificate: x509.Certificate, parent: x509.Certificate) -> Iterable[str]:
    """The intermediate must be constrained; the root may be somebody else's and without, but then not narrower."""
    try:
        own = read(certificate)
        if _extension(parent, x509.NameConstraints):
            yield from (f"the root does not permit the intermediate's {outside}" for outside in read(parent).outside(own))
    except Violation as violation:
        yield violation.detail


def _extension(certificate: x509.Certificate, kind: type[x509.ExtensionType]) -> x509.Extension[Any] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


# --- lint

# pkilint takes a constraint for a whole name, so that "invalid" and "" are no e-mail addresses. None other is in there.
_MAIL_CONSTRAINTS = "pkix.invalid_email_address_syntax at certificate.tbsCertificate.extensions"


def pkilint_findings(plan: Authority, certificate: x509.Certificate) -> list[str]:
    """What blocks in pkilint's view of the plan's `certificate`, "code at place: message" each. Domain names and URLs are
    left to us: it knows no private top-level domain, the constraints have their own rules, the settings check the URL."""
    ours = {*plan.constraints.zones, *plan.constraints.trust_domains, NOBODY, "", plan.aia_url or ""}
    found = lint.findings(certificate.public_bytes(Encoding.DER), ours)
    return [finding for finding in found if not finding.startswith(_MAIL_CONSTRAINTS)]
