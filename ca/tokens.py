"""API tokens: made, revoked, recognised.

Owns the token's form: "ql_" and 43 characters of URL-safe base64, 256 random bits, of which only the SHA-256 is kept.
A long random string needs no slow password hash: one SHA-256 finds the row. What else stands for a token, a JWT, is
verified by ca.federation, and admitted here.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any

from django.db import IntegrityError, transaction

from eventlog.append import append
from eventlog.bulk import places, read_rows

from .events import TokenCreated, TokenRevoked
from .models import Token
from .policy import ACTIONS, APPROVALS, AS_PROFILE
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
    approval: str = AS_PROFILE

    def __post_init__(self) -> None:
        unknown = [action for action in self.actions if action not in ACTIONS]
        unknown += [] if self.approval in APPROVALS else [self.approval]
        unknown += [profile for profile in self.profiles if profile != "*" and profile not in LEAF]
        if unknown:
            raise ValueError(f"unknown action, profile or approval: {', '.join(unknown)}")


def create(label: str, owner: str, scope: Scope, now: datetime, by: str) -> tuple[str, str]:
    """Append token.created; returns (token id, the token itself), which is shown once and stored nowhere."""
    secret = "ql_" + secrets.token_urlsafe(32)
    return _create(sha256(secret.encode()).digest(), label, owner, scope, now, by), secret


def _create(digest: bytes, label: str, owner: str, scope: Scope, now: datetime, by: str) -> str:
    token = secrets.token_hex(8)
    event = TokenCreated(token=token, hash=digest.hex(), label=label, owner=owner, by=by, **_fields(scope))
    with transaction.atomic():
        append([event.new()], now)
    return token


def _fields(scope: Scope | Token) -> dict[str, Any]:
    """As in events.TokenCreated."""
    lists = {name: list(getattr(scope, name)) for name in ("actions", "names", "profiles", "services", "uris", "ips")}
    ends = scope.expires_at.isoformat() if scope.expires_at else None
    return {**lists, "wildcards": scope.wildcards, "expires_at": ends, "approval": scope.approval}


def admit(digest: bytes, label: str, owner: str, scope: Scope, now: datetime) -> Token | None:
    """The token that stands for somebody else's credential of this digest, which no token's SHA-256 can be: made at its first
    use, found at the others. None if it stands for other rights than these, as the rules have changed since."""
    row = _by_hash(digest)
    if row is None:
        with suppress(IntegrityError):  # another process was first
            _create(digest, label, owner, scope, now, by=label)
        row = _by_hash(digest)
    same = row is not None and (row.owner, _fields(row)) == (owner, _fields(scope))
    return row if same else None


def revoke(token: str, now: datetime, by: str, why: str) -> None:
    """Append token.revoked: the next call with it is 401, and what it has queued is not signed. Twice is once.
    Raises NoSuchToken."""
    with transaction.atomic():
        row = Token.objects.select_for_update().filter(id=token).first()
        if row is None:
            raise NoSuchToken(token)
        if row.revoked_at is None:
            append([TokenRevoked(token=token, by=by, why=why).new()], now)


def is_valid(token: Token, now: datetime) -> bool:
    """Whether a token that was recognised is neither expired nor, as the database has it now, revoked."""
    return token.is_live(now) and token.id in unrevoked({token.id})


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
