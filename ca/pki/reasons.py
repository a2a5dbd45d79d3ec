"""Why a certificate is revoked (RFC 5280 §5.3.1), who may say which, and which outweighs which.

Owns the names, their numbers in CRLs and OCSP responses, and the table of ways to authorise a revocation. Reasons that this CA
never gives are named here too, each with why, so that a refusal can say it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

KEY_COMPROMISE = "keyCompromise"
CODES: Mapping[str, int] = {
    "unspecified": 0,  # RFC 5280 §5.3.1: written by leaving the reason out
    "keyCompromise": 1,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
    "privilegeWithdrawn": 9,
}
NEVER: Mapping[str, str] = {
    "certificateHold": "a revocation here is final",
    "removeFromCRL": "a revocation here is final",
    "cACompromise": "it is for certificates of a CA",
    "aACompromise": "it is for attribute certificates",
}

Way = Literal["secret", "key", "token", "operator"]
_HOLDER = ("unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation")
PERMITTED: Mapping[Way, tuple[str, ...]] = {
    "secret": _HOLDER,
    "key": _HOLDER,
    "token": _HOLDER,
    "operator": (*_HOLDER, "privilegeWithdrawn"),
}


def outweighs(new: str, old: str) -> bool:
    """Whether a certificate revoked for `old` is to be called revoked for `new`: only a compromised key is worse than any
    other reason."""
    return new == KEY_COMPROMISE != old
