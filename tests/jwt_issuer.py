"""An issuer of JWTs with rotating keys, as a cluster or a CI system is one, and everything that a liar could send in its place."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

ISSUER, AUDIENCE = "https://kubernetes.default.svc", "https://ca.internal"
Signer = ECKey | RSAKey
RULE: dict[str, Any] = {
    "when": {"/kubernetes.io/namespace": ["payments", "mail"]},
    "actions": ["issue", "read", "revoke"],
    "profiles": ["server"],
    "services": ["{/kubernetes.io/serviceaccount/name}"],
    "names": ["{/kubernetes.io/serviceaccount/name}.{/kubernetes.io/namespace}.svc.internal"],
    "uris": ["spiffe://fleet.example/ns/{/kubernetes.io/namespace}/sa/{/kubernetes.io/serviceaccount/name}"],
}


def part(value: Any) -> str:
    """One part of a JWT: JSON in URL-safe base64 without padding."""
    text = value if isinstance(value, str) else json.dumps(value)
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def signed(header: dict[str, Any], claims: Any, key: Signer) -> str:
    """A JWT with exactly this header and these claims."""
    words = f"{part(header)}.{part(claims)}"
    model = jws.JWSRegistry(algorithms=[header["alg"]]).get_alg(header["alg"])
    return f"{words}.{urlsafe_b64encode(model.sign(words.encode(), key)).rstrip(b'=').decode()}"


@cache
def rsa_key() -> RSAKey:
    return RSAKey.import_key(rsa.generate_private_key(65537, 2048))


@dataclass
class Issuer:
    """Publishes its keys in a file. `keys`: kid → key, the last of which signs."""

    path: Path
    keys: dict[str, Signer] = field(default_factory=dict)

    def rotate(self, kid: str, *, keep: bool = True, key: Signer | None = None, **members: str) -> None:
        """A new signing key, published beside the old ones, or in place of them."""
        self.keys = {**(self.keys if keep else {}), kid: key or ECKey.generate_key("P-256")}
        self.path.write_text(
            json.dumps({"keys": [{**key.as_dict(private=False), "kid": kid, **members} for kid, key in self.keys.items()]})
        )

    def table(self, **changes: Any) -> list[dict[str, Any]]:
        """What the operator's file says of it."""
        same = {
            "name": "k8s",
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "keys": str(self.path),
            "algorithms": ["ES256", "RS256"],
            "rules": [RULE],
        }
        return [{**same, **changes}]

    def claims(self, namespace: str = "payments", account: str = "api", **changes: Any) -> dict[str, Any]:
        """Those of a projected service account token."""
        now = int(time.time())
        return {
            "iss": ISSUER, "aud": [AUDIENCE], "sub": f"system:serviceaccount:{namespace}:{account}",
            "iat": now, "nbf": now, "exp": now + 3600, "jti": token_hex(8),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": account, "uid": "1"}},
        } | changes  # fmt: skip

    def jwt(self, claims: Any = None, **header: Any) -> str:
        kid, key = list(self.keys.items())[-1]
        header = {"alg": "RS256" if isinstance(key, RSAKey) else "ES256", "kid": kid, "typ": "JWT", **header}
        return signed(header, self.claims() if claims is None else claims, key)
