"""The secrets around a certificate: the one that revokes it, a second one that its requester may have chosen, and the
challenge that its renewal must answer.

Owns how they are made, written, weighed and hashed. Must never store one: a revocation secret is derived from the server's
revocation key whenever it is shown, and the log holds its hash; of a challengePassword only a keyed hash is kept; a renewal
challenge is public.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import b32encode
from hashlib import sha256
from itertools import pairwise
from math import log2
from uuid import UUID

_DOMAIN = b"quicklime-revocation-v1\0"
_PASSWORD_DOMAIN, _ATTESTATION_DOMAIN = b"quicklime-challenge-password-v1\0", b"quicklime-tls-renewal-v1\0"
STRONG = 100  # bits, by `estimated_bits`
_BYTES = 25  # 200 bits: 40 base32 characters without padding, eight groups of five


def revocation_secret(key: bytes, issuer_key_id: bytes, serial: str) -> str:
    """The secret that revokes one certificate, for people to copy: eight groups of five in lower-case base32, 200 bits.

    `key` is the server's (32 bytes), `issuer_key_id` the issuer's subject key identifier, `serial` lower-case hex; leading
    zeros in it do not matter. HMAC-SHA-256, so that one certificate's secret says nothing of another's.
    """
    number = int(serial, 16).to_bytes(20)
    mac = hmac.digest(key, _DOMAIN + len(issuer_key_id).to_bytes(1) + issuer_key_id + number, "sha256")
    text = b32encode(mac[:_BYTES]).decode().lower()
    return "-".join(text[start : start + 5] for start in range(0, len(text), 5))


def secret_hash(secret: str) -> bytes:
    """SHA-256 of the secret as the log stores it; case, dashes and white space do not matter. Any text has a hash, so
    a wrong secret is told apart only by comparing hashes."""
    return sha256("".join(secret.split()).replace("-", "").lower().encode("utf-8", "surrogatepass")).digest()


def estimated_bits(password: str) -> float:
    """A cautious guess of how hard `password` is to guess: the distinct pairs of neighbours in it, times the bits that one of
    its distinct characters takes. For random text it is a little below the truth; repeating a word adds nothing."""
    return len(set(pairwise(password))) * log2(len(set(password)) or 1)


def password_hash(key: bytes, request: UUID, password: str) -> bytes:
    """What is kept of a challengePassword: HMAC-SHA-256 under the server's revocation `key`, so that the log lets nobody try
    passwords at home, over the request's id too, so that it shows nobody who used one twice. Unlike the secret, a password
    is compared as it is written."""
    return hmac.digest(key, _PASSWORD_DOMAIN + request.bytes + password.encode("utf-8", "surrogatepass"), "sha256")


def attestation(key: bytes, statement: bytes) -> bytes:
    """HMAC-SHA-256 under the server's revocation `key`: that the door saw the caller prove what `statement`, a renewal's, would prove."""
    return hmac.digest(key, _ATTESTATION_DOMAIN + statement, "sha256")


def new_renewal_challenge() -> bytes:
    """32 random bytes that a renewal proof must cover."""
    return secrets.token_bytes(32)
