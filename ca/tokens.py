"""API tokens: made, revoked, recognised.

Owns the token's form: "ql_" and 43 characters of URL-safe base64, 256 random bits, of which only the SHA-256 is kept.
A long random string needs no slow password hash: one SHA-256 finds the row.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256

from django.db import connection, transaction

from eventlog.append import append

from .events import TokenCreated, TokenRevoked
from .models import Token
from .policy import ACTIONS
from .profiles import PROFILES


class NoSuchToken(Exception):
    """No token has this id."""


@dataclass(frozen=True)
class Scope:
    """What a token may do. "*" in `names`, `profiles`, `services` and `ips` means all that the CA itself permits;
    `uris` are prefixes of spiffe:// URIs and have no such short cut."""

    actions: Sequence[str] = ("issue", "read")
    names: Sequence[str] = ("*",)
    profiles: Sequence[str] = ("server",)
    services: Sequence[str] = ("*",)
    wildcards: bool = False
    uris: Sequence[str] = ()
    ips: Sequence[str] = ()
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        unknown = [action for action in self.actions if action not in ACTIONS]
        unknown += [profile for profile in self.profiles if profile != "*" and profile not in PROFILES]
        if unknown:
            raise ValueError(f"unknown action or profile: {', '.join(unknown)}")


def create(label: str, owner: str, scope: Scope, now: datetime, by: str) -> tuple[str, str]:
    """Append token.created; returns (token id, the token itself), which is shown once and stored nowhere."""
    token, secret = secrets.token_hex(8), "ql_" + secrets.token_urlsafe(32)
    event = TokenCreated(
        token=token, hash=sha256(secret.encode()).hexdigest(), label=label, owner=owner, actions=list(scope.actions),
        names=list(scope.names), profiles=list(scope.profiles), services=list(scope.services), wildcards=scope.wildcards,
        uris=list(scope.uris), ips=list(scope.ips), expires_at=scope.expires_at.isoformat() if scope.expires_at else None, by=by,
    )  # fmt: skip
    with transaction.atomic():
        append([event.new()], now)
    return token, secret


def revoke(token: str, now: datetime, by: str, why: str) -> None:
    """Append token.revoked: the next call with it is 401, and what it has queued is not signed. Twice is once.
    Raises NoSuchToken."""
    with transaction.atomic():
        row = Token.objects.select_for_update().filter(id=token).first()
        if row is None:
            raise NoSuchToken(token)
        if row.revoked_at is None:
            append([TokenRevoked(token=token, by=by, why=why).new()], now)


def authenticate(secret: str, now: datetime) -> Token | None:
    """The live token that `secret` is, or None. What a token may do never changes, so it is read once; whether it was
    revoked is asked each time."""
    digest = sha256(secret.encode("utf-8", "surrogatepass")).digest()
    with connection.cursor() as cursor:  # on the path of every request: no query to compile, no model to fill
        cursor.execute("SELECT revoked_at IS NULL FROM ca_token WHERE hash = %s", [digest])
        found = cursor.fetchone()
    if not found or not found[0]:
        return None
    row = _by_hash(digest)
    return row if row.is_live(now) else None


@lru_cache(maxsize=4096)
def _by_hash(digest: bytes) -> Token:
    return Token.objects.get(hash=digest)
