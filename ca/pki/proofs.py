"""Signatures by which the holder of a certificate's key shows that an order comes from there.

Owns the bytes that are signed and which signatures count. Each kind of statement begins with its own domain string, so that a
signature made for one purpose, or in TLS, serves no other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from .keycheck import PublicKey

_REVOCATION, _RENEWAL, _CHECK_IN = b"quicklime-revocation-v1\0", b"quicklime-renewal-v1\0", b"quicklime-checkin-v1\0"
_HASH = hashes.SHA256()
_RSA_PADDINGS = (padding.PKCS1v15(), padding.PSS(padding.MGF1(_HASH), padding.PSS.AUTO))


def revocation_statement(issuer_key_id: bytes, serial: str, reason: str) -> bytes:
    """What is signed to revoke a certificate: domain string, the issuer's key id, the serial in 20 octets, the reason's name.
    `serial` is hex."""
    return _REVOCATION + issuer_key_id + int(serial, 16).to_bytes(20) + reason.encode("ascii")


def renewal_statement(issuer_key_id: bytes, serial: str, challenge: bytes, csr_sha256: bytes) -> bytes:
    """What is signed to renew a certificate: domain string, the issuer's key id, the serial in 20 octets, the certificate's
    renewal challenge, SHA-256 of the new request's DER. `serial` is hex."""
    return _RENEWAL + issuer_key_id + int(serial, 16).to_bytes(20) + challenge + csr_sha256


def check_in_statement(issuer_key_id: bytes, serial: str, time: str, served: str) -> bytes:
    """What is signed to tell what a node serves: domain string, the issuer's key id, the serial in 20 octets, the time as it is
    written, in 20 characters, and what is served: a serial, "none", or "" where nobody looked. `serial` is hex."""
    return _CHECK_IN + issuer_key_id + int(serial, 16).to_bytes(20) + time.encode("ascii") + served.encode("ascii")


def proves(key: PublicKey, signature: bytes, statement: bytes) -> bool:
    """Whether `signature` over `statement` is by `key`: ECDSA (DER) or RSA, PKCS #1 v1.5 or PSS of any salt length, with
    SHA-256; or Ed25519."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _fits(lambda: key.verify(signature, statement, ec.ECDSA(_HASH)))
    if isinstance(key, rsa.RSAPublicKey):
        return any(_fits(partial(key.verify, signature, statement, scheme, _HASH)) for scheme in _RSA_PADDINGS)
    return _fits(lambda: key.verify(signature, statement))


@cache
def nobodys_key() -> PublicKey:
    """To be asked where there is no certificate, so that a wrong proof takes as long; of the kind that most certificates have."""
    return ec.generate_private_key(ec.SECP256R1()).public_key()


def _fits(verify: Callable[[], None]) -> bool:
    try:
        verify()
    except InvalidSignature:
        return False
    return True
