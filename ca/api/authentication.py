"""Who calls, and whether the call may go on.

Owns the step from an Authorization header (RFC 6750) to a principal, and the refusal of every call that no view declared. The bearer
is a token of our own, or a JWT of an issuer in the settings. Must never say why a token is unknown, and must never log one.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from ca import federation, signed_jwt, tokens
from ca.errors import Problem
from ca.models import Token
from ca.policy import ACTIONS, Grant, require

from . import limits, representations
from .client_certificates import HOLDER, is_holder

if TYPE_CHECKING:
    from rest_framework.views import APIView  # at run time it imports this module

PUBLIC = "public"
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]{1,7000})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller: its token's row, and what that grants."""

    token: Token
    grant: Grant

    @property
    def sees_all(self) -> bool:
        """An auditor sees every owner's requests and certificates."""
        return "audit" in self.grant.actions


def anybody(request: Request) -> Principal | None:
    """The caller of a public view that knows tokens, if it sent one."""
    return cast(Principal | None, request.auth)


def principal(request: Request) -> Principal:
    """The caller of a view that is not public."""
    return cast(Principal, request.auth)


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer <token>`; without the header nobody, with a wrong one 401."""

    def authenticate(self, request: Request) -> tuple[Principal, Principal] | None:
        view = request.parser_context["view"]
        find = _recognised if request.method in getattr(view, "asks_at_the_door", ()) else _authenticated
        found = caller(request.META, datetime.now(UTC), find)
        return None if found is None else (found, found)

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="quicklime"'


def _recognised(secret: str, now: datetime) -> Token | None:
    """For a submission: whether the token was revoked since is asked in the commit that stores the request."""
    token = federation.recognise(secret, now) if signed_jwt.is_one(secret) else tokens.recognise(secret)
    return token if token and token.is_live(now) else None


def _authenticated(secret: str, now: datetime) -> Token | None:
    token = _recognised(secret, now)
    return token if token and tokens.is_valid(token, now) else None


def caller(meta: Mapping[str, Any], now: datetime, find: Callable[[str, datetime], Token | None] = _authenticated) -> Principal | None:
    """Who sent a request with these headers (`META`), None without an Authorization header. Raises Problem for a wrong one."""
    header = meta.get("HTTP_AUTHORIZATION")
    if header is None:
        return None
    match = _BEARER.fullmatch(header)
    return _principal(find, match[1] if match else "", meta.get("REMOTE_ADDR", ""), now)


_known: OrderedDict[bytes, None] = OrderedDict()


def _principal(find: Callable[[str, datetime], Token | None], secret: str, address: str, now: datetime) -> Principal:
    """Raises Problem. An address with too many failures is refused unread, so that guessing costs no look-up; but not with
    a token that was good here lately, so that a stranger behind the same address locks nobody out."""
    digest = sha256(secret.encode()).digest()
    wait = limits.failure_wait(address)
    if wait and digest not in _known:
        raise Problem("tooManyRequests", "too many wrong tokens from this address", retry_after=int(wait) + 1)
    token = find(secret, now)
    if token is None:
        _known.pop(digest, None)
        limits.count_failure(address)
        raise Problem("tokenInvalid", "the token is unknown, revoked or expired")
    _remember(digest)
    return Principal(token, token.grant())


def _remember(digest: bytes) -> None:
    if digest not in _known:
        _known[digest] = None
    if len(_known) > limits.REMEMBERED:
        _known.popitem(last=False)


class DenyUnlessDeclared(BasePermission):
    """Passes what the view declares for the method in `actions`: PUBLIC, or the actions of which the token needs one, and HOLDER for
    who has no token and shows the certificate itself. What is not declared is refused, whoever calls."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        declared: tuple[str, ...] = view.declared(request.method)  # type: ignore[attr-defined]
        if declared == (PUBLIC,):
            return True
        if request.auth is None and HOLDER in declared:
            return is_holder(request.META, representations.full(view.kwargs["serial"]), datetime.now(UTC))
        wanted = tuple(action for action in declared if action != HOLDER)
        if request.auth is None or not wanted or not set(wanted) <= set(ACTIONS):
            return False
        grant = principal(request).grant
        action = next((action for action in wanted if action in grant.actions), wanted[0])
        require(grant, action, datetime.now(UTC))
        return True
