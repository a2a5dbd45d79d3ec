"""From the body of a revocation to plain values.

Owns the fields of a revocation and their forms. Whether the reason may be given, and the secret or proof is right, is decided
behind ca.revocation's door.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ca.errors import Problem

from .parsers import members

FIELDS = ("reason", "secret", "proof")
MAX_SECRET = 300  # characters: a challengePassword has up to 255
MAX_PROOF = 1_024  # bytes: an RSA-4096 signature has 512


@dataclass(frozen=True, slots=True)
class Revocation:
    """What a caller sends: at most one of `secret` and `proof` (a signature); with neither, the token has to do."""

    reason: str
    secret: str | None = field(default=None, repr=False)
    proof: bytes | None = None
    reason_given: bool = True


def from_json(body: Any) -> Revocation:
    """The revocation that a JSON body means; an empty body is an empty object. Raises Problem."""
    body = members(body, FIELDS)
    wrong = next((name for name in FIELDS if name in body and not isinstance(body[name], str)), None)
    if wrong:
        raise Problem("invalidField", f"{wrong} is a string", wrong)
    return _revocation(body)


def _revocation(body: Mapping[str, str]) -> Revocation:
    if "secret" in body and "proof" in body:
        raise Problem("invalidField", "secret and proof are two ways: send one", "proof")
    if "proof" in body:
        if "reason" not in body:
            raise Problem("missingField", "reason: what the proof was made for", "reason")
        return Revocation(body["reason"], proof=signature(body["proof"]))
    if not 0 < len(body.get("secret", "-")) <= MAX_SECRET:
        raise Problem("invalidField", f"a secret has 1 to {MAX_SECRET} characters", "secret")
    return Revocation(body.get("reason", "unspecified"), secret=body.get("secret"), reason_given="reason" in body)


def signature(text: str) -> bytes:
    """The octets of a `proof`. Raises Problem."""
    try:
        octets = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        raise Problem("invalidField", "proof is base64", "proof") from None
    if not 0 < len(octets) <= MAX_PROOF:
        raise Problem("invalidField", f"a proof has 1 to {MAX_PROOF} bytes", "proof")
    return octets
