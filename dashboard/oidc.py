"""Sign-in by the company's identity provider: OpenID Connect, authorization code flow with PKCE and nonce.

Owns the conversation with the provider and what counts of its answer: the ID token, verified, by which somebody is issuer and subject, and
nothing else: no mail address, no name. What becomes of them here is for `dashboard.vouched`. The provider may be down, slow or lie: then
nobody comes in this way, and everybody else's way stays open.
"""

from __future__ import annotations

import json
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.contrib.auth.models import User

from ca import jwks, signed_jwt
from ca.signed_jwt import Wrong

from .oidc_settings import Provider
from .vouched import MAX_GROUPS, MAX_SUBJECT, NotSignedIn, Person, admitted

MAX_LIFE = timedelta(hours=24)  # of an ID token, which is read once, at once
_FRESH = 300.0  # seconds
_BY = "OpenID Connect"


@dataclass(frozen=True)
class Endpoints:
    """What the provider's configuration says."""

    authorization: str
    token: str
    keys: str


@dataclass(frozen=True)
class Started:
    """A sign-in under way, kept in the session until its answer comes."""

    state: str
    nonce: str
    verifier: str
    next: str


def start(provider: Provider, callback: str, next_url: str) -> tuple[str, Started]:
    """Where to send the browser, and what to keep. Raises NotSignedIn."""
    begun = Started(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48), next_url)
    challenge = urlsafe_b64encode(sha256(begun.verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code", "scope": "openid profile", "client_id": provider.client_id, "redirect_uri": callback,
        "state": begun.state, "nonce": begun.nonce, "code_challenge": challenge, "code_challenge_method": "S256",
    }  # fmt: skip
    return f"{endpoints(provider).authorization}?{urlencode(asked)}", begun


def finish(provider: Provider, begun: Started, code: str, callback: str, now: datetime) -> User:
    """The account of whoever the provider says has signed in, with the roles of today's groups. Raises NotSignedIn."""
    claims = _verified(provider, _id_token(provider, begun, code, callback), begun.nonce, now)
    return admitted(provider, _person(provider, claims), _BY, now)


def endpoints(provider: Provider) -> Endpoints:
    """Raises NotSignedIn."""
    return _endpoints(provider.issuer, provider.ca_file, int(time.monotonic() / _FRESH))


@lru_cache(8)
def _endpoints(issuer: str, ca_file: str, _age: int) -> Endpoints:
    try:
        found = json.loads(jwks.fetch(f"{issuer.rstrip('/')}/.well-known/openid-configuration", ca_file))
        named = [found[name] for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
        if found["issuer"] != issuer or not all(urlsplit(url).scheme == "https" for url in named):
            raise ValueError
    except jwks.KeysUnavailable:
        raise NotSignedIn("The identity provider does not answer.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise NotSignedIn("The identity provider's configuration is not that of the issuer that was set up.") from None
    return Endpoints(*named)


def _id_token(provider: Provider, begun: Started, code: str, callback: str) -> str:
    asked = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": callback, "client_id": provider.client_id,
        "client_secret": provider.client_secret, "code_verifier": begun.verifier,
    }  # fmt: skip
    try:
        token = json.loads(jwks.fetch(endpoints(provider).token, provider.ca_file, asked))["id_token"]
    except (jwks.KeysUnavailable, ValueError, KeyError, TypeError, RecursionError):
        token = None
    if not isinstance(token, str):
        raise NotSignedIn("The identity provider did not confirm this sign-in.")
    return token


def _verified(provider: Provider, token: str, nonce: str, now: datetime) -> dict[str, Any]:
    """The claims of an ID token that is right (OpenID Connect Core §3.1.3.7)."""
    try:
        header, claims = signed_jwt.read(token)
        signed_jwt.check_signature(token, header, jwks.known(endpoints(provider).keys, provider.ca_file, provider.algorithms))
        signed_jwt.check_times(claims, MAX_LIFE, now)
        if claims.get("iss") != provider.issuer or not _is_for_us(provider, claims) or claims.get("nonce") != nonce:
            raise Wrong
        if not isinstance(claims.get("sub"), str) or not 0 < len(claims["sub"]) <= MAX_SUBJECT or not claims["sub"].isprintable():
            raise Wrong
    except Wrong:
        raise NotSignedIn("What the identity provider said of you is not valid here.") from None
    except jwks.KeysUnavailable:
        raise NotSignedIn("The identity provider does not answer.") from None
    return claims


def _is_for_us(provider: Provider, claims: Mapping[str, Any]) -> bool:
    several = isinstance(claims.get("aud"), list) and len(claims["aud"]) > 1
    authorized = claims.get("azp", None if several else provider.client_id)
    return signed_jwt.is_for(provider.client_id, claims) and authorized == provider.client_id


def _person(provider: Provider, claims: Mapping[str, Any]) -> Person:
    said = claims.get(provider.groups)
    groups = [group for group in said[:MAX_GROUPS] if isinstance(group, str)] if isinstance(said, list) else []
    return Person(provider.issuer, claims["sub"], claims.get("preferred_username"), groups)
