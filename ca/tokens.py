"""API tokens: made, revoked, recognised.

Owns the token's form: "ql_" and 43 characters of URL-safe base64, 256 random bits, of which only the SHA-256 is kept.
A long random string needs no slow password hash: one SHA-256 finds the row.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256

from django.db import transaction

from eventlog.append import append
from eventlog.bulk import places, read_rows

from .events import TokenCreated, TokenRevoked
from .models import Token
from .policy import ACTIONS
from .profiles import LEAF


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
        unknown += [profile for profile in self.profiles if profile != "*" and profile not in LEAF]
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
    """The live token that `secret` is, or None."""
    row = recognise(secret)
    return row if row and row.is_live(now) and row.id in unrevoked({row.id}) else None


def recognise(secret: str) -> Token | None:
    """The token that `secret` is, or None; it may have been revoked since. What a token may do never changes, so it is
    read from the database once for each process."""
    return _by_hash(sha256(secret.encode("utf-8", "surrogatepass")).digest())


@lru_cache(4096)
def known(token: str) -> Token:
    """The token of this id, which exists; it may have been revoked since, see `recognise`."""
    return Token.objects.get(id=token)


def unrevoked(ids: Collection[str]) -> dict[str, Token]:
    """Those of the tokens that are not revoked now, by id."""
    rows = read_rows(Token, ("id", "hash"), f"WHERE revoked_at IS NULL AND id IN ({places(ids)})", list(ids))
    return {token: row for token, digest in rows if (row := _by_hash(bytes(digest)))}


_REMEMBERED = 4096
_known: dict[bytes, Token] = {}


def _by_hash(digest: bytes) -> Token | None:
    row = _known.get(digest) or Token.objects.filter(hash=digest).first()
    if row is not None:
        if len(_known) >= _REMEMBERED:
            _known.clear()
        _known[digest] = row
    return row
