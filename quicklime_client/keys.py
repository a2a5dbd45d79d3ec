"""Private keys on the node: made here, used here, never sent.

Owns key kinds, signing requests and the bytes that proofs sign. Pure: no files, no network.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from .records import Pair, Wanted

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey
_RENEWAL, _REVOCATION, _CHECK_IN = b"quicklime-renewal-v1\0", b"quicklime-revocation-v1\0", b"quicklime-checkin-v1\0"

KINDS: Mapping[str, Callable[[], Key]] = {
    "P-256": partial(ec.generate_private_key, ec.SECP256R1()),
    "P-384": partial(ec.generate_private_key, ec.SECP384R1()),
    "Ed25519": Ed25519PrivateKey.generate,
    "RSA-2048": partial(rsa.generate_private_key, 65537, 2048),
    "RSA-3072": partial(rsa.generate_private_key, 65537, 3072),
    "RSA-4096": partial(rsa.generate_private_key, 65537, 4096),
}


def pem(key: Key) -> str:
    """PKCS #8 (RFC 5958), not encrypted: the file's mode protects it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def load(text: str) -> Key:
    """The key that `pem` wrote. Raises ValueError."""
    key = load_pem_private_key(text.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | Ed25519PrivateKey):
        raise ValueError("the private key is of no kind that quicklime uses")
    return key


def fits(key: Key, certificate: x509.Certificate) -> bool:
    """Whether the certificate is for this key."""
    return _spki(key.public_key()) == _spki(certificate.public_key())


def _spki(key: object) -> bytes:
    raw: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return raw


def signing_request(key: Key, wanted: Wanted) -> x509.CertificateSigningRequest:
    """A PKCS #10 request (RFC 2986) for the names; its subject is empty, as names belong into the SAN (RFC 9525 §2)."""
    names = [*map(x509.DNSName, wanted.names), *(x509.IPAddress(ip_address(text)) for text in wanted.ips)]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, None if isinstance(key, Ed25519PrivateKey) else hashes.SHA256())


def renewal_statement(pair: Pair, csr: x509.CertificateSigningRequest) -> bytes:
    """What the old key signs to renew: domain string, issuer key id (20 octets), serial (20), challenge, SHA-256 of the CSR.
    Raises ValueError for a certificate that no proof can be made for."""
    digest = sha256(csr.public_bytes(Encoding.DER)).digest()
    return _RENEWAL + _identity(pair.leaf) + b64decode(pair.challenge, validate=True) + digest


def revocation_statement(pair: Pair, reason: str) -> bytes:
    """What the key signs to revoke: domain string, issuer key id (20 octets), serial (20), the reason's name.
    Raises ValueError likewise."""
    return _REVOCATION + _identity(pair.leaf) + reason.encode("ascii")


def check_in_statement(pair: Pair, time: str, served: str) -> bytes:
    """What the key signs to check in: domain string, issuer key id (20 octets), serial (20), time and what is served as they are sent.
    Raises ValueError likewise."""
    return _CHECK_IN + _identity(pair.leaf) + time.encode("ascii") + served.encode("ascii")


def _identity(leaf: x509.Certificate) -> bytes:
    return _issuer_key_id(leaf) + leaf.serial_number.to_bytes(20)


def _issuer_key_id(leaf: x509.Certificate) -> bytes:
    try:
        found = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        found = None
    if found is None or len(found) != 20:
        raise ValueError("the certificate does not name its issuer's key by 20 octets")
    return found


def serial(certificate: x509.Certificate) -> str:
    """The serial as the API has it: 40 lower-case hex digits for the 20 octets that RFC 5280 §4.1.2.2 allows, or more if it has more."""
    return f"{certificate.serial_number:040x}"


def sign(key: Key, statement: bytes) -> bytes:
    """ECDSA (DER) or RSA PKCS #1 v1.5 with SHA-256, or Ed25519."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(statement, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(statement, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(statement)
