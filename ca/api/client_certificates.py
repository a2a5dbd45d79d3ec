"""Client certificates: what the caller's TLS connection showed, and whether it is the certificate that is asked about.

Owns the one place in a request where that certificate stands. It is put there by quicklime_site.middleware, from the connection
itself or from a proxy that is trusted, and never from a header of anybody else's.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ca import holders, renewal
from ca.errors import Problem

HOLDER = "holder"  # in a view's `actions`: whoever shows the certificate of the address in TLS, without a token
SHOWN = "quicklime.client_certificate"  # in META: DER


def shown(meta: Mapping[str, Any]) -> bytes | None:
    """The client certificate (DER) whose key was shown, None without one."""
    found: bytes | None = meta.get(SHOWN)
    return found


def is_holder(meta: Mapping[str, Any], serial: str, now: datetime) -> bool:
    """Whether the caller shows the living certificate `serial`, 40 hex digits."""
    der = shown(meta)
    if der is None:
        return False
    try:
        holders.check(renewal.find({serial}).get(serial), der, None, now)
    except Problem:
        return False
    return True
