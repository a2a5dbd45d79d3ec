"""The keys by which an issuer's JWTs are verified: fetched, kept for a while, and each for one algorithm.

Owns the JWK Set (RFC 7517) of an issuer as this process knows it. Where it comes from is the operator's setting and nothing else: no
header of a JWT, no redirect and no proxy of the environment leads elsewhere. How often it is asked for does not depend on how many
JWTs name an unknown key. While it cannot be had the keys last known count on, for an hour.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey, import_key

from .jwt_issuers import ALGORITHMS, JwtIssuer

log = logging.getLogger(__name__)
FRESH, AGAIN, STALE = 300.0, 30.0, 3600.0  # seconds: looked at anew after; not asked for more often than; not believed any longer than
TIMEOUT, WHOLE = 3.0, 5.0  # seconds: for each step of fetching it, and after which it is given up
_HEADERS = {"Accept": "application/json, application/jwk-set+json", "Accept-Encoding": ""}  # what is read is not unpacked
MAX_BYTES, MAX_KEYS, MIN_RSA = 256 * 1024, 100, 2048


class KeysUnavailable(Exception):
    """No JWK Set is to be had, nor was one lately; the text says why."""


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, and the one algorithm that it is for here."""

    public: RSAKey | ECKey
    algorithm: str


class Keys:
    """The keys of one issuer, by their `kid`. Safe for threads: one asks, and who knows the key need not wait for it."""

    def __init__(self, read: Callable[[], bytes], algorithms: tuple[str, ...], clock: Callable[[], float] = time.monotonic) -> None:
        self._read, self._algorithms, self._clock = read, algorithms, clock
        self._lock = threading.Lock()
        self._keys: Mapping[str, Key] = {}
        self._known_at = self._asked_at = -STALE - 1

    def find(self, kid: str) -> Key | None:
        """The key, or None if the issuer has no such key. Raises KeysUnavailable."""
        if self._due(kid) and self._lock.acquire(blocking=kid not in self._keys):
            try:
                if self._due(kid):  # nobody else asked meanwhile
                    self._ask()
            finally:
                self._lock.release()
        if self._clock() - self._known_at > STALE:
            raise KeysUnavailable("its keys could not be had for an hour or more")
        return self._keys.get(kid)

    def _due(self, kid: str) -> bool:
        now = self._clock()
        return now - self._asked_at > AGAIN and (kid not in self._keys or now - self._known_at > FRESH)

    def _ask(self) -> None:
        self._asked_at = self._clock()
        try:
            self._keys = parse(self._read(), self._algorithms)
        except KeysUnavailable as error:
            log.warning("the JWK Set of an issuer of JWTs is not to be had: %s", error)
        else:
            self._known_at = self._clock()


def of(issuer: JwtIssuer) -> Keys:
    """The keys of `issuer`, the same object for as long as the process lives."""
    return known(issuer.keys, issuer.ca_file, issuer.algorithms)


@lru_cache
def known(source: str, ca_file: str, algorithms: tuple[str, ...]) -> Keys:
    """The keys at an https:// URL, whose certificate is verified by `ca_file`, or in a file."""
    return Keys((lambda: from_file(source)) if source.startswith("/") else (lambda: fetch(source, ca_file)), algorithms)


def from_file(path: str) -> bytes:
    """Raises KeysUnavailable."""
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise KeysUnavailable(f"{path}: {error.strerror}") from None


def fetch(url: str, ca_file: str, form: Mapping[str, str] | None = None) -> bytes:
    """What an issuer answers to a GET, or to a POST of `form`. Raises KeysUnavailable, at the latest some seconds after WHOLE, however
    slowly the answer drips."""
    end, body = time.monotonic() + WHOLE, b""
    try:
        trust = ssl.create_default_context(cafile=ca_file or None)
        with (
            httpx.Client(verify=trust, trust_env=False, follow_redirects=False, timeout=TIMEOUT) as client,
            client.stream("POST" if form else "GET", url, data=form, headers=_HEADERS) as answer,
        ):
            if answer.status_code != 200:
                raise KeysUnavailable(f"{url} answered {answer.status_code}")
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) > MAX_BYTES or time.monotonic() > end:
                    raise KeysUnavailable(f"{url} sends more than {MAX_BYTES} bytes, or takes longer than {WHOLE:g} s")
    except (httpx.HTTPError, OSError) as error:
        raise KeysUnavailable(f"{url}: {type(error).__name__}") from None
    return body


def parse(text: bytes, algorithms: tuple[str, ...]) -> dict[str, Key]:
    """The keys that verify, by `kid`; what else a JWK Set may hold is passed over (RFC 7517 §5), and so is a `kid` that two keys
    have. Raises KeysUnavailable for what is no JWK Set."""
    if len(text) > MAX_BYTES:
        raise KeysUnavailable(f"it has more than {MAX_BYTES} bytes")
    try:
        found = json.loads(text)["keys"]
        often = Counter(jwk["kid"] for jwk in found if isinstance(jwk.get("kid"), str))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise KeysUnavailable("it is no JWK Set") from None
    if len(found) > MAX_KEYS:
        raise KeysUnavailable(f"it has more than {MAX_KEYS} keys")
    return {jwk["kid"]: key for jwk in found if often.get(jwk.get("kid")) == 1 and (key := _key(jwk, algorithms))}


def _key(jwk: dict[str, Any], algorithms: tuple[str, ...]) -> Key | None:
    """None for a key that is not public, not for signatures, too short, or for no algorithm that the issuer may use."""
    if "d" in jwk or jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]):
        return None
    kind = jwk.get("crv") if jwk.get("kty") == "EC" else jwk.get("kty")
    fitting = (name for name in algorithms if ALGORITHMS[name] == kind and jwk.get("alg", name) == name)
    algorithm = next(fitting, None)
    if algorithm is None:
        return None
    try:
        if kind == "RSA" and _bits(jwk["n"]) < MIN_RSA:
            return None
        public = import_key({name: jwk[name] for name in ("kty", "crv", "x", "y", "n", "e") if name in jwk})
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return Key(public, algorithm)  # type: ignore[arg-type]  # only these two kinds are in ALGORITHMS


def _bits(number: str) -> int:
    """The length of a Base64urlUInt (RFC 7518 §2)."""
    return int.from_bytes(base64url(number), "big").bit_length()


def base64url(text: str) -> bytes:
    """Decode base64url without padding (RFC 7515 §2). Raises ValueError."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
