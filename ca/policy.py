"""Who may have which certificate: the rules between a well-formed request and a decision.

Owns the rules about tokens, profiles, names, services and validity. Pure: what it judges and the time come as arguments. Must
never widen a request or cut one down to what would be allowed: it is granted as asked or refused with the rule's code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from .errors import Problem
from .pki.csr import MAX_COMMON_NAME, ParsedCSR
from .pki.names import Name, is_below, shown
from .profiles import LEAF, OCSP_SIGNER, PROFILES, Profile

ACTIONS = ("issue", "read", "revoke", "renew", "audit", "log")  # audit: sees the certificates of all owners
AS_PROFILE, ALWAYS, NEVER = APPROVALS = ("as-profile", "always", "never")  # whether a token's requests wait for an approver
_ANY = "*"
_SECOND = timedelta(seconds=1)
_LABEL = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token may do, see ca.models.Token. "*" in `names`, `profiles`, `services` or `ips` means all that the CA permits;
    `uris` are prefixes that end at a "/" of the URI."""

    token: str
    owner: str
    actions: Sequence[str]
    names: Sequence[str]
    profiles: Sequence[str]
    services: Sequence[str]
    wildcards: bool
    uris: Sequence[str]
    ips: Sequence[str]
    expires_at: datetime | None
    revoked_at: datetime | None
    approval: str = AS_PROFILE


@dataclass(frozen=True, slots=True)
class Site:
    """What this CA issues for at all: DNS zones, IP ranges, SPIFFE trust domains; and of which profiles a person must approve."""

    zones: Sequence[str]
    ip_ranges: Sequence[IPv4Network | IPv6Network]
    trust_domains: Sequence[str]
    approved_profiles: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for beside the request itself. `not_after`: the last second of validity, or None for the default."""

    profile: str
    service: str
    node: str
    not_after: datetime | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What will be certified. The times are UTC, whole seconds, both included in the validity."""

    profile: Profile
    names: tuple[Name, ...]
    common_name: str | None
    not_before: datetime
    not_after: datetime


def require(grant: Grant, action: str, now: datetime) -> None:
    """Raise Problem unless the token lives (tokenRevoked, tokenExpired) and may do `action` (forbidden)."""
    if grant.revoked_at is not None:
        raise Problem("tokenRevoked", "the token was revoked")
    if grant.expires_at is not None and grant.expires_at <= now:
        raise Problem("tokenExpired", "the token has expired")
    if action not in grant.actions or action not in ACTIONS:
        raise Problem("forbidden", f"the token does not permit {action}")


def require_renewal(grant: Grant, now: datetime) -> None:
    """Raise Problem unless the token lives and may renew, or may issue, which is more."""
    require(grant, "issue" if "issue" in grant.actions else "renew", now)


def approval_cause(profile: str, approval: str, site: Site) -> str:
    """Which rule has an approver look at a request of `profile` under a token of this `approval`: "token", "profile", or "" for none.
    Only tokens of the CA's own are NEVER asked about."""
    if approval == ALWAYS:
        return "token"
    return "profile" if approval != NEVER and profile in site.approved_profiles else ""


def decide(csr: ParsedCSR, wanted: Wanted, grant: Grant, site: Site, now: datetime) -> Decision:
    """What `csr` gets under `grant`, every rule passed. Raises Problem with the code of the first rule that it breaks. That
    the token lives and may issue is `require`'s; that the issuer lives as long, the caller's, who knows the issuer."""
    profile = _profile(wanted.profile, grant)
    _check_place(wanted, grant)
    if csr.key_type not in profile.key_kinds:
        raise Problem("keyKindForbidden", f"the profile {profile.name} does not permit {csr.key_type} keys", "csr.key")
    _check_names(csr.names, profile, grant, site)
    not_before, not_after = _validity(wanted.not_after, profile, now)
    return Decision(profile, csr.names, _common_name(csr), not_before, not_after)


def decide_ocsp_signer(issuer: str, not_after: datetime | None, now: datetime) -> Decision:
    """What the CA's own request for a delegated responder of `issuer` gets (RFC 6960 §4.2.2.2). No grant permits this and no
    client may ask for it: whoever has such a certificate signs the status of all others. Raises Problem."""
    profile = PROFILES[OCSP_SIGNER]
    return Decision(profile, (), f"OCSP responder of {issuer}"[:MAX_COMMON_NAME], *_validity(not_after, profile, now))


def lifetime_end(lifetime: timedelta, profile: Profile, now: datetime) -> datetime:
    """The `not_after` to ask for to have a certificate of this whole lifetime: N days hold their first and last second, so
    they end at notBefore + N d - 1 s (RFC 5280 §4.1.2.5)."""
    return not_before_at(profile, now) + lifetime - _SECOND


def not_before_at(profile: Profile, now: datetime) -> datetime:
    """The first second of a certificate decided at `now`."""
    return now.astimezone(UTC).replace(microsecond=0) - profile.backdate


# --- profile, service, node


def _profile(name: str, grant: Grant) -> Profile:
    if name not in LEAF:
        known = f"there is no profile {shown(name)}; there are {', '.join(LEAF)}"
        raise Problem("profileUnknown", known, "profile")
    if not _permits(grant.profiles, name):
        raise Problem("profileForbidden", f"the token does not permit the profile {name}", "profile")
    return PROFILES[name]


def _check_place(wanted: Wanted, grant: Grant) -> None:
    for field, text in (("service", wanted.service), ("node", wanted.node)):
        if text and not _LABEL.fullmatch(text):
            raise Problem(f"{field}Invalid", f"a {field} is 1 to 100 letters, digits, '.', '_' and '-'", field)
    if not _permits(grant.services, wanted.service):
        raise Problem("serviceForbidden", f"the token does not permit the service {shown(wanted.service)}", "service")


def _permits(scope: Sequence[str], value: str) -> bool:
    return _ANY in scope or value in scope


# --- names


def _check_names(names: Sequence[Name], profile: Profile, grant: Grant, site: Site) -> None:
    if profile.requires_name and not names:
        raise Problem("namesMissing", "the request has no subject alternative name; a common name alone names nothing", "names")
    if sum(name.kind == "uri" for name in names) > 1:
        raise Problem("urisTooMany", "a certificate has at most one SPIFFE ID (X509-SVID section 2)", "names")
    for index, name in enumerate(names):
        where = f"names[{index}]"
        if name.kind not in profile.name_kinds:
            raise Problem("nameKindForbidden", f"the profile {profile.name} does not permit {name.kind} names", where)
        _RULES[name.kind](name, profile, grant, site, where)


def _check_dns(name: Name, profile: Profile, grant: Grant, site: Site, where: str) -> None:
    if name.is_wildcard and not (profile.wildcards and grant.wildcards):
        raise Problem("wildcardForbidden", f"the token or the profile {profile.name} does not permit wildcards", where)
    host = name.value.removeprefix("*.")
    if not _below_any(host, site.zones):
        raise Problem("nameOutsideZones", f"{name.value} is not below a zone of this CA: {', '.join(site.zones)}", where)
    if _ANY not in grant.names and not _below_any(host, grant.names):
        raise Problem("nameForbidden", f"the token does not permit {name.value}", where)


def _below_any(host: str, zones: Sequence[str]) -> bool:
    return any(is_below(host, zone) for zone in zones)


def _check_ip(name: Name, profile: Profile, grant: Grant, site: Site, where: str) -> None:
    if not _in_any(name.value, site.ip_ranges):
        raise Problem("ipOutsideRanges", f"{name.value} is in no IP range of this CA", where)
    if _ANY not in grant.ips and not _in_any(name.value, [ip_network(text) for text in grant.ips]):
        raise Problem("ipForbidden", f"the token does not permit {name.value}", where)


def _in_any(address: str, ranges: Sequence[IPv4Network | IPv6Network]) -> bool:
    found = ip_address(address)
    return any(found in network for network in ranges)


def _check_uri(name: Name, profile: Profile, grant: Grant, site: Site, where: str) -> None:
    trust_domain = name.value.split("/")[2]
    if trust_domain not in site.trust_domains:
        raise Problem("uriOutsideTrustDomains", f"{shown(trust_domain)} is no trust domain of this CA", where)
    if not any(name.value == prefix or name.value.startswith(prefix.rstrip("/") + "/") for prefix in grant.uris):
        raise Problem("uriForbidden", f"the token does not permit {shown(name.value)}", where)


_RULES: Mapping[str, Callable[[Name, Profile, Grant, Site, str], None]] = {"dns": _check_dns, "ip": _check_ip, "uri": _check_uri}


def _common_name(csr: ParsedCSR) -> str | None:
    """The common name in canonical form, which must repeat a name that passed the rules above: nothing else checks it."""
    text = csr.common_name
    if text is None:
        return None
    spellings = (text, text.lower() if text.isascii() else text)
    for name in csr.names:
        if name.value in spellings:
            return name.value
    raise Problem("commonNameNotInNames", f"the common name {shown(text)} is not among the subject alternative names", "csr.subject")


# --- validity


def _validity(asked: datetime | None, profile: Profile, now: datetime) -> tuple[datetime, datetime]:
    not_before = not_before_at(profile, now)
    if asked is None:
        return not_before, lifetime_end(profile.default, profile, now)
    if asked.tzinfo is None or asked.microsecond:
        raise Problem("validityInvalid", "not_after is a time with zone in whole seconds", "not_after")
    if asked <= now:
        raise Problem("validityPast", "not_after has passed", "not_after")
    if asked - not_before + _SECOND > profile.maximum:
        raise Problem("validityTooLong", f"a {profile.name} certificate lives at most {profile.maximum}", "not_after")
    return not_before, asked.astimezone(UTC)
