"""Keys and signing requests for tests, made by pyca; what other tools make is tested where it matters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr(*names: str, key: CertificateIssuerPrivateKeyTypes | None = None, common_name: str | None = None) -> bytes:
    """A DER CSR for `names` (an address becomes an iPAddress, something with :// a URI) under a new P-256 key."""
    subject = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key or new_key(), digest).public_bytes(Encoding.DER)


def _general(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@cache
def many(count: int) -> Sequence[bytes]:
    """`count` CSRs node0.internal, node1.internal, …, made once for the whole run."""
    return [csr(f"node{number}.internal") for number in range(count)]
