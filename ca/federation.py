"""Workload identity: a JWT of an issuer that the operator trusts is an API token for as long as it lives.

Owns whose JWT is taken, and the token that stands for it in the log: what it grants is written down at its first use, so that where a
key is used its right is read from the database as everybody's is, and can be revoked. What makes a JWT valid is `ca.signed_jwt`'s.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from django.conf import settings

from . import jwks, signed_jwt, tokens
from .errors import Problem
from .jwt_issuers import JwtIssuer, granted
from .models import Token
from .signed_jwt import Wrong
from .tokens import Scope

MAX_LIFE = timedelta(hours=24)  # that a JWT may have left: what lives longer is to be an API token, which can be seen and revoked
_DOMAIN = b"quicklime-jwt-v1\0"  # no bearer token holds a NUL, so none has the digest of a JWT


def recognise(secret: str, now: datetime) -> Token | None:
    """The token that stands for a JWT, None for one that is not valid; it may have been revoked since. The first use of each
    appends token.created. Raises Problem: forbidden for who is known and permitted nothing, unavailable while no keys are to be had."""
    try:
        issuer, claims = _verified(secret)
        expires_at = signed_jwt.check_times(claims, MAX_LIFE, now)
    except Wrong:
        return None
    grant = granted(issuer, claims)
    signed = secret.rpartition(".")[0]  # without the signature, of which there may be several for the same words
    fields: dict[str, Any] = {**grant.scope, "expires_at": expires_at}
    return tokens.admit(sha256(_DOMAIN + signed.encode()).digest(), f"JWT of {issuer.name}", grant.owner, Scope(**fields), now)


def _verified(secret: str) -> tuple[JwtIssuer, dict[str, Any]]:
    """The claims, whose signature, issuer and audience are right. The claim `iss` says which issuer's keys have to fit, no more."""
    header, claims = signed_jwt.read(secret)
    issuer = next((each for each in settings.JWT_ISSUERS if each.issuer == claims.get("iss")), None)
    if issuer is None or not signed_jwt.is_for(issuer.audience, claims):
        raise Wrong
    try:
        signed_jwt.check_signature(secret, header, jwks.of(issuer))
    except jwks.KeysUnavailable:
        raise Problem("unavailable", f"the keys of {issuer.name} cannot be had just now", retry_after=int(jwks.AGAIN)) from None
    return issuer, claims
