"""A signed JWT and what has to be right about any (RFC 7519, RFC 8725): its form, its signature, its times, whom it is for.

Owns those rules, for JWTs of workloads and of people's identity provider alike. Must never take a key, an algorithm or an address from the
JWT itself. Why one is not right is nobody's business outside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError

from . import jwks
from .jwks import Keys
from .setting_files import once

SKEW = timedelta(seconds=60)  # that an issuer's clock may be ahead
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)


class Wrong(Exception):
    """The JWT is not valid here."""


def is_one(text: str) -> bool:
    """Whether `text` has the form of a signed JWT (RFC 7515 §7.1)."""
    return _FORM.fullmatch(text) is not None


def read(jwt: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims as they stand there, not verified. Raises Wrong."""
    if not is_one(jwt):
        raise Wrong
    header, claims = (_json(part) for part in jwt.split(".")[:2])
    return header, claims


def check_signature(jwt: str, header: Mapping[str, Any], keys: Keys) -> None:
    """Raise Wrong unless the key that the header names is one of `keys`, and made the signature by the algorithm which it is for.
    Raises KeysUnavailable."""
    kid = header.get("kid")
    key = keys.find(kid) if isinstance(kid, str) else None
    if key is None or header.get("alg") != key.algorithm or "crit" in header:
        raise Wrong
    try:
        jws.deserialize_compact(jwt, key.public, registry=jws.JWSRegistry(algorithms=[key.algorithm], strict_check_header=False))
    except (JoseError, ValueError):
        raise Wrong from None


def is_for(audience: str, claims: Mapping[str, Any]) -> bool:
    """Whether `audience` is among those that the JWT is meant for (RFC 7519 §4.1.3)."""
    found = claims.get("aud")
    return audience in (found if isinstance(found, list) else [found])


def check_times(claims: Mapping[str, Any], most: timedelta, now: datetime) -> datetime:
    """When the JWT expires, which it has to say, and within `most` (RFC 7519 §4.1.4-6). Raises Wrong."""
    expires_at = _time(claims.get("exp"))
    if not now < expires_at <= now + most:
        raise Wrong
    if any(_time(claims[name]) > now + SKEW for name in ("nbf", "iat") if name in claims):
        raise Wrong
    return expires_at


def _json(part: str) -> dict[str, Any]:
    try:
        found = json.loads(jwks.base64url(part), object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise Wrong from None
    if not isinstance(found, dict):
        raise Wrong
    return found


def _time(value: Any) -> datetime:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1 << 37:  # NaN is in no range
        raise Wrong
    return datetime.fromtimestamp(int(value), UTC)
