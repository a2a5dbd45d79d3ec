"""Who shows the key of a certificate in TLS is its node: for that one certificate, and as long as it is trusted.

Owns what makes a client certificate the right to its own renewal, revocation and status. The handshake proved the key (RFC 8446 §4.4.3);
what the certificate is, is read from the inventory, byte for byte: no name in it, and no chain beside it, says who it is.
"""

from __future__ import annotations

import hmac
from datetime import datetime

from .errors import Problem
from .profiles import PROFILES
from .renewal import Old

CLIENT_AUTH = "clientAuth"


def check(old: Old | None, shown: bytes, owner: str | None, now: datetime) -> Old:
    """`old`, what was found of a serial, if `shown` (DER) is that certificate, it is for TLS clients, lives and was not revoked, and is
    `owner`'s; None: whoever's it is. Raises Problem, the same whatever is wrong."""
    fits = old is not None and hmac.compare_digest(old.der, shown) and owner in (None, old.owner) and _is_trusted(old, now)
    if old is None or not fits:
        raise Problem("notEntitled", "the client certificate is not this one, or is not for TLS clients, expired or revoked")
    return old


def _is_trusted(old: Old, now: datetime) -> bool:
    profile = PROFILES.get(old.profile)
    is_for_clients = profile is not None and CLIENT_AUTH in profile.extended_key_usage
    return is_for_clients and old.revoked_at is None and old.not_before <= now <= old.not_after
