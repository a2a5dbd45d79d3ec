"""The issuers whose JWTs are taken as API tokens: how a table of them is written, and what one of their JWTs grants.

Owns the table's form, and the step from claims to a scope. Pure: no settings, no clock, no network, and no signature, which is
ca.federation's. What no rule permits is permitted to nobody. A claim is another system's word: it may fill a place in a name, and must
never be able to move that name elsewhere, nor to mean "*".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from . import setting_files
from .errors import Problem
from .policy import ACTIONS
from .profiles import LEAF
from .setting_files import FILLED, NAME, OPTIONAL_FILE, list_at, members, parsed, text_at, typed

ALGORITHMS: Mapping[str, str] = {  # RFC 7518 §3.1 → the keys it is for; none that one secret both makes and checks
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"), "ES256": "P-256", "ES384": "P-384",
}  # fmt: skip
ALGORITHM: setting_files.Rule = (ALGORITHMS.__contains__, f"of {', '.join(ALGORITHMS)}")
MAX_OWNER = 200
_PLACE = re.compile(r"\{(/[^{}]+)\}")
_CLAIM = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?", re.ASCII)  # one label: neither a dot nor a slash, and no "*"
_ZONE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.ASCII)
_SERVICE = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)
_URI = re.compile(r"spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+", re.ASCII)
_OWNER = re.compile(r"[!-~]+", re.ASCII)
_FILLED = {"names": _ZONE, "services": _SERVICE, "uris": _URI}  # what may hold claims, and how it has to look with them


@dataclass(frozen=True, slots=True)
class Rule:
    """`when`: claim → values of which it has to have one, for every claim named. `owner`: the claim that says whose the certificates
    are. `scope`: the fields of ca.tokens.Scope; in names, services and uris {/claim} stands for a claim's value."""

    when: Mapping[str, tuple[str, ...]]
    owner: str
    scope: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class JwtIssuer:
    """Whose JWTs are taken: `issuer` and `audience` are its claims iss and aud, `keys` the https:// URL or file of its JWK Set,
    `ca_file` what that URL's certificate is verified by, "" for the system's. The first rule that meets decides."""

    name: str
    issuer: str
    audience: str
    keys: str
    ca_file: str
    algorithms: tuple[str, ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Granted:
    """What a JWT grants: `scope` as in Rule, with the claims filled in."""

    owner: str
    scope: Mapping[str, tuple[str, ...]]


def granted(issuer: JwtIssuer, claims: Mapping[str, Any]) -> Granted:
    """What `claims`, whose signature was verified, are permitted. Raises Problem(forbidden)."""
    rule = next((rule for rule in issuer.rules if _meets(rule, claims)), None)
    if rule is None:
        raise _forbidden(issuer, "no rule is for this identity")
    scope = {
        name: tuple(_filled(issuer, name, text, claims) for text in texts) if name in _FILLED else texts
        for name, texts in rule.scope.items()
    }
    return Granted(_owner(issuer, rule.owner, claims), scope)


def _meets(rule: Rule, claims: Mapping[str, Any]) -> bool:
    return all(_claim(claims, pointer) in values for pointer, values in rule.when.items())


def _claim(claims: Mapping[str, Any], pointer: str) -> str | None:
    """The string at a JSON pointer (RFC 6901), None for anything else."""
    found: Any = claims
    for step in pointer.split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def _owner(issuer: JwtIssuer, pointer: str, claims: Mapping[str, Any]) -> str:
    """Prefixed, so that two issuers never speak for one owner."""
    owner = f"{issuer.name}:{_claim(claims, pointer) or ''}"
    if owner.endswith(":") or not _OWNER.fullmatch(owner) or len(owner) > MAX_OWNER:
        raise _forbidden(issuer, f"the claim {pointer}, whose the certificates are, is missing, too long, or not printable ASCII")
    return owner


def _filled(issuer: JwtIssuer, field: str, template: str, claims: Mapping[str, Any]) -> str:
    def value(place: re.Match[str]) -> str:
        claim = _claim(claims, place[1])
        if claim is None or not _CLAIM.fullmatch(claim):
            raise _forbidden(issuer, f"the claim {place[1]} is missing, or is not 1 to 63 letters, digits, '-' and '_'")
        return claim

    text = _PLACE.sub(value, template)
    if text != template and not _FILLED[field].fullmatch(text):
        raise _forbidden(issuer, f"the claims make nothing of {template} that {field} may hold")
    return text


def _forbidden(issuer: JwtIssuer, why: str) -> Problem:
    return Problem("forbidden", f"a JWT of {issuer.name} permits nothing here: {why}")


# --- the table


def parse(text: str) -> tuple[JwtIssuer, ...]:
    """The table in JSON: [{"name", "issuer", "audience", "keys", "ca_file", "algorithms", "rules": [{"when", "owner", "actions",
    "profiles", "services", "names", "uris", "ips"}]}]; ca_file, owner, uris and ips may be left out. Raises ValueError that says where."""
    table = typed(parsed(text), list, "", "a list of issuers")
    issuers = tuple(_issuer(each, f"[{index}]") for index, each in enumerate(table))
    for field in ("name", "issuer"):
        values = [getattr(each, field) for each in issuers]
        if len(set(values)) < len(values):
            raise ValueError(f"two issuers have the same {field}")
    return issuers


def _issuer(each: Any, where: str) -> JwtIssuer:
    members(each, where, (*_TEXTS, "algorithms", "rules"), ("ca_file",))
    algorithms = list_at(each["algorithms"], f"{where}.algorithms", ALGORITHM)
    rules = typed(each["rules"], list, f"{where}.rules", "a list of rules")
    if not algorithms or not rules:
        raise ValueError(f"{where}: give at least one algorithm and one rule")
    return JwtIssuer(
        **{name: text_at(each[name], f"{where}.{name}", rule) for name, rule in _TEXTS.items()},
        ca_file=text_at(each.get("ca_file", ""), f"{where}.ca_file", OPTIONAL_FILE),
        algorithms=algorithms,
        rules=tuple(_rule(rule, f"{where}.rules[{index}]") for index, rule in enumerate(rules)),
    )


def _is_source(text: str) -> bool:
    parts = urlsplit(text)
    return text.startswith("/") or bool(parts.scheme == "https" and parts.hostname and "@" not in parts.netloc and not parts.fragment)


_TEXTS: Mapping[str, setting_files.Rule] = {
    "name": NAME,
    "issuer": (bool, "what the claim iss is"),
    "audience": (bool, "what the claim aud has to hold, best the public URL of this CA"),
    "keys": (_is_source, "the https:// URL of a JWK Set, or a file's absolute path"),
}


def _rule(rule: Any, where: str) -> Rule:
    members(rule, where, ("when", "actions", "profiles", "services", "names"), ("owner", "uris", "ips"))
    when = typed(rule["when"], dict, f"{where}.when", "an object of claims; {} is everybody whom the issuer knows")
    for pointer in [*when, rule.get("owner", "/sub")]:
        text_at(pointer, where, _POINTER)
    values = {
        pointer: list_at(value if isinstance(value, list) else [value], f"{where}.when.{pointer}", FILLED)
        for pointer, value in when.items()
    }
    return Rule(
        values, rule.get("owner", "/sub"), {field: list_at(rule.get(field, []), f"{where}.{field}", fits) for field, fits in _SCOPE.items()}
    )


_SCOPE: Mapping[str, setting_files.Rule] = {  # each field of a scope: what it may hold, in code and in words
    "actions": (ACTIONS.__contains__, f"of {', '.join(ACTIONS)}"),
    "profiles": (lambda text: text == "*" or text in LEAF, f"'*' or of {', '.join(LEAF)}"),
    "services": (lambda text: text == "*" or _fits(_SERVICE, text), "'*' or services, for example {/kubernetes.io/namespace}"),
    "names": (lambda text: text == "*" or _fits(_ZONE, text), "'*' or DNS zones, for example {/kubernetes.io/namespace}.svc.internal"),
    "uris": (lambda text: _fits(_URI, text), "for example spiffe://internal/ns/{/kubernetes.io/namespace}"),
    "ips": (lambda text: text == "*" or bool(ip_network(text)), "'*' or IP ranges, for example 10.1.0.0/16"),
}


def _fits(pattern: re.Pattern[str], template: str) -> bool:
    """Whether what is made of `template` can be what `pattern` wants."""
    return bool(pattern.fullmatch(_PLACE.sub("x", template))) and all(map(_is_pointer, _PLACE.findall(template)))


def _is_pointer(text: str) -> bool:
    return bool(re.fullmatch(r"(/([^~/]|~[01])+)+", text))


_POINTER: setting_files.Rule = (_is_pointer, "claims by JSON pointer, for example /sub or /kubernetes.io/namespace")
