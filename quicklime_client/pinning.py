"""The first contact: a root is trusted because its hash is known by other means.

Owns the comparison. Must never pin, nor send anything but the question for it, before the hash is found to fit.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from . import api
from .failures import Failure
from .store import Trust

_PREFIX = re.compile(r"sha-?256( fingerprint)?[:= ]")
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


def fingerprint_of(text: str) -> str:
    """A SHA-256 fingerprint as people copy it, with colons, spaces or a prefix, as 64 lower-case hex digits. Raises Failure."""
    bare = re.sub(r"[\s:]", "", _PREFIX.sub("", text.strip().lower()))
    if not _HEX.fullmatch(bare):
        raise Failure("the fingerprint", "it is not the 64 hex digits of a SHA-256", "copy it from the operator, or from `quicklime up`")
    return bare


def pinned(url: str, fingerprint: str) -> Trust:
    """The root of that fingerprint, from `url`, once its hash is compared and the server is found to live under it. Raises
    Failure."""
    url, digest = api.checked_url(url), fingerprint_of(fingerprint)
    root = _only(api.fetch_root(url, digest))
    found = sha256(root.public_bytes(Encoding.DER)).hexdigest()
    if not hmac.compare_digest(found, digest):
        why = f"the root that the server sent has {found}"
        raise Failure("the fingerprint does not fit", why, "do not use this server before you know why")
    trust = Trust(url, root.public_bytes(Encoding.PEM).decode())
    with api.Server(trust, None) as server:
        server.check()
    return trust


def _only(pem: bytes) -> x509.Certificate:
    try:
        (root,) = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise Failure("the root cannot be read", "the server sent something else than one certificate", "check the URL") from None
    return root
