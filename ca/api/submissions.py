"""From a request's body to pipeline.Submission: every spelling that is accepted, and nothing else.

Owns the fields of a signing request and their forms. Must hold no rule of policy: whether a name, profile or lifetime may be
had is decided behind the pipeline's door.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from typing import Any

from ca.errors import Problem
from ca.pipeline import Submission
from ca.pki import csr as csr_rules
from ca.policy import lifetime_end
from ca.profiles import PROFILES

from .parsers import members

PARAMETERS = frozenset({"profile", "service", "node", "validity_days", "not_after"})
FIELDS = PARAMETERS | {"csr", "certificate_request", "hosts"}
MAX_DAYS = 10_000
NAME_KINDS = ("dns", "ip", "uri")
_DAYS = re.compile(r"[0-9]{1,5}", re.ASCII)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})", re.ASCII)


def from_json(body: Any, key: str | None, now: datetime) -> Submission:
    """The submission that a JSON body means, in our spelling or in that of CFSSL. `key` is its idempotency key. Raises
    Problem or Violation."""
    body = members(body, sorted(FIELDS))
    der = csr_rules.to_der(_csr_text(body))
    if "hosts" in body:
        _check_hosts(body["hosts"], der)
    return _submission(der, {name: body[name] for name in PARAMETERS & body.keys()}, key, now)


def from_csr(body: bytes, parameters: Mapping[str, str], key: str | None, now: datetime) -> Submission:
    """The submission that a bare CSR means, with the rest as query parameters. Raises Problem or Violation."""
    values: dict[str, Any] = dict(parameters)
    if "validity_days" in values:
        if not _DAYS.fullmatch(values["validity_days"]):
            raise _bad_days()
        values["validity_days"] = int(values["validity_days"])
    return _submission(csr_rules.to_der(body), values, key, now)


def _csr_text(body: Mapping[str, Any]) -> str:
    given = [name for name in ("csr", "certificate_request") if name in body]
    if not given:
        raise Problem("missingField", "csr: the certification request, as PEM or as base64 of its DER", "csr")
    if len(given) == 2:
        raise Problem("invalidField", "csr and certificate_request are two spellings of one field: send one", "csr")
    return _text(body, given[0])


def _text(values: Mapping[str, Any], name: str, default: str = "") -> str:
    value = values.get(name, default)
    if not isinstance(value, str):
        raise Problem("invalidField", f"{name} is a string", name)
    return value


def _submission(der: bytes, values: Mapping[str, Any], key: str | None, now: datetime) -> Submission:
    profile = _text(values, "profile", "server")
    return Submission(
        csr=der,
        profile=profile,
        service=_text(values, "service"),
        node=_text(values, "node"),
        not_after=_not_after(values, profile, now),
        idempotency_key=key,
        body_hash=_hash(der, values) if key is not None else b"",
    )


def _hash(der: bytes, values: Mapping[str, Any]) -> bytes:
    """Of what was asked, not of how it was written: the same asked again in another order or spelling is the same body."""
    return sha256(der + b"\0" + json.dumps(values, sort_keys=True).encode()).digest()


def _not_after(values: Mapping[str, Any], profile: str, now: datetime) -> datetime | None:
    if "validity_days" in values and "not_after" in values:
        raise Problem("invalidField", "validity_days and not_after say the same: send one", "validity_days")
    if "not_after" in values:
        return instant(_text(values, "not_after"), "not_after", "invalidField")
    if "validity_days" in values:
        return _after_days(values["validity_days"], profile, now)
    return None


def _after_days(days: Any, profile: str, now: datetime) -> datetime:
    if type(days) is not int or not 1 <= days <= MAX_DAYS:
        raise _bad_days()
    known = PROFILES.get(profile, PROFILES["server"])  # an unknown one is refused behind the door
    return lifetime_end(timedelta(days=days), known, now)


def _bad_days() -> Problem:
    return Problem("invalidField", f"validity_days is a whole number from 1 to {MAX_DAYS}", "validity_days")


def instant(text: str, where: str, code: str) -> datetime:
    """An RFC 3339 time in UTC, cut to the second. Raises Problem(code) about `where`."""
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        return datetime.fromisoformat(text.upper()).astimezone(UTC).replace(microsecond=0)
    except (ValueError, OverflowError):
        raise Problem(code, f"{where} is a time as in 2030-01-31T12:00:00Z", where) from None


def _check_hosts(hosts: Any, der: bytes) -> None:
    """CFSSL's `hosts` replaces the names of the CSR; here only what the key's holder signed counts, so it may repeat those
    names, in any order, and not change them."""
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise Problem("invalidField", "hosts is a list of strings", "hosts")
    names = csr_rules.parse(der, verify=False).names
    if {_host(text) for text in hosts} != {name.value for name in names}:
        raise Problem("hostsDiffer", "hosts has to name what the CSR's subject alternative names do, or be left out", "hosts")


def _host(text: str) -> str:
    """A host of CFSSL as Name.value has it, as far as it is one; anything else stays as it is and equals no name."""
    try:
        return str(ip_address(text))
    except ValueError:
        return text.lower() if text.isascii() and "://" not in text else text


def name_value(text: str) -> str:
    """What a person writes for a name, as Name.value has it: a host in any case, an IP address in any form, a URI; with or
    without the kind in front, as in certificate objects."""
    kind, _, value = text.partition(":")
    return _host(value if kind in NAME_KINDS else text)
