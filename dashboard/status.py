"""The status of one certificate as relying parties would learn it at this moment, signatures checked.

Owns the asking and the judging, and no key. What is asked is what OCSP and CRL clients ask (RFC 6960, RFC 5280 §5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from . import decoding, neighbours

LARGEST = 500_000  # bytes of a CRL that is read and searched without being asked for
_SHARD = re.compile(r"/crl/[A-Za-z0-9_-]+/([0-9]{1,6})\.crl\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Word:
    """What one channel says. `verdict`: good, revoked, or why there is none; `ok`: whether the answer can be relied on."""

    channel: str
    verdict: str
    ok: bool
    this_update: datetime | None = None
    next_update: datetime | None = None
    detail: str = ""
    unread: int = 0  # size of what was too large to be read


def served(der: bytes, issuer: str, issuer_der: bytes, now: datetime, whole: bool = False) -> list[Word]:
    """What OCSP and the CRL say of a certificate of `issuer`; `whole`: the CRL, too, if it is larger than LARGEST."""
    certificate, authority = x509.load_der_x509_certificate(der), x509.load_der_x509_certificate(issuer_der)
    return [_ocsp(certificate, authority, now), _crl(certificate, issuer, authority, decoding.crl_points(der), now, whole)]


def _ocsp(certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> Word:
    request = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA256()).build()
    response = ocsp.load_der_ocsp_response(neighbours.ocsp(request.public_bytes(Encoding.DER)))
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return Word("OCSP", _REFUSED.get(response.response_status.name, response.response_status.name.lower()), False)
    verdict, next_update = response.certificate_status.name.lower(), response.next_update_utc
    signer, fault = _ocsp_signer(response, issuer)
    fault = fault or _signature_fault(signer, response.signature, response.tbs_response_bytes, response.signature_hash_algorithm)
    if next_update is None or next_update < now:
        fault = fault or "it is past its next update"
    detail = fault or f"signed by {signer.subject.rfc4514_string() or 'a key without a name'}"
    return Word("OCSP", verdict, not fault, response.this_update_utc, next_update, detail)


_REFUSED = {"TRY_LATER": "no answer yet", "UNAUTHORIZED": "not answered for", "MALFORMED_REQUEST": "not understood"}


def _ocsp_signer(response: ocsp.OCSPResponse, issuer: x509.Certificate) -> tuple[x509.Certificate, str]:
    """Who signed, and what is wrong with its right to do so, or "" (RFC 6960 §4.2.2.2)."""
    if not response.certificates:
        return issuer, ""
    delegate = response.certificates[0]
    try:
        delegate.verify_directly_issued_by(issuer)
        usages = delegate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return delegate, "its signer is not the issuer's delegate"
    return delegate, "" if ExtendedKeyUsageOID.OCSP_SIGNING in usages else "its signer may not sign for OCSP"


def _signature_fault(signer: x509.Certificate, signature: bytes, signed: bytes, algorithm: hashes.HashAlgorithm | None) -> str:
    key = signer.public_key()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey) and algorithm:
            key.verify(signature, signed, ec.ECDSA(algorithm))
        elif isinstance(key, rsa.RSAPublicKey) and algorithm:
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, signed)
        else:
            return "its signature is of a kind that is not checked here"
    except InvalidSignature:
        return "its signature is wrong"
    return ""


def _crl(certificate: x509.Certificate, name: str, issuer: x509.Certificate, points: list[str], now: datetime, whole: bool) -> Word:
    shard = next((int(found[1]) for url in points if (found := _SHARD.search(url))), None)
    channel = "CRL" if shard is None else f"CRL shard {shard}"
    known = neighbours.crl_facts(name, shard)
    if known is not None and known.size > LARGEST and not whole:
        return Word(channel, "not looked up", True, known.this_update, known.next_update, "not read", known.size)
    der = neighbours.crl(name, shard)
    if der is None:
        return Word(channel, "none published yet", False)
    return _listed(channel, der, certificate, issuer, now)


def _listed(channel: str, der: bytes, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> Word:
    crl = x509.load_der_x509_crl(der)
    entry = crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
    fault = "" if crl.is_signature_valid(issuer.public_key()) else "its signature is wrong"  # type: ignore[arg-type]
    next_update = crl.next_update_utc
    if next_update is None or next_update < now:
        fault = fault or "it is past its next update"
    detail = fault or f"signed by {issuer.subject.rfc4514_string()}"
    return Word(channel, "revoked" if entry else "not listed", not fault, crl.last_update_utc, next_update, detail)
