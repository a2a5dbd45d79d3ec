"""What the pages ask of rooms that they may not enter: the health of the installation, and certificate status as it is served or to
be served anew.

Owns the shapes of the answers. Who answers is wired by settings.DASHBOARD, dotted names of functions, as a room knows only
the rooms below it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from django.conf import settings
from django.utils.module_loading import import_string


class ServedCrl(NamedTuple):
    """A CRL as it is served now; `shard` None for the issuer's full one, `size` in bytes."""

    issuer: str
    shard: int | None
    number: int
    this_update: datetime
    next_update: datetime
    size: int


class Delegate(NamedTuple):
    """A certificate whose key signs OCSP responses for `issuer`."""

    issuer: str
    serial: str
    not_before: datetime
    not_after: datetime


def health() -> Mapping[str, Mapping[str, Any]]:
    """{check: {"ok": bool, numbers…}}, as /readyz says."""
    found: Mapping[str, Mapping[str, Any]] = _wired("health")()
    return found


def ocsp(request: bytes) -> bytes:
    """The DER OCSPResponse that relying parties get to this DER OCSPRequest."""
    found: bytes = _wired("ocsp")(request)
    return found


def crl(issuer: str, shard: int | None) -> bytes | None:
    """The DER of a CRL as it is served; None if there is none."""
    found: bytes | None = _wired("crl")(issuer, shard)
    return found


def crl_facts(issuer: str, shard: int | None) -> ServedCrl | None:
    """The same CRL without its bytes, which may be many."""
    found: ServedCrl | None = _wired("crl_facts")(issuer, shard)
    return found


def crls() -> Sequence[ServedCrl]:
    """Every CRL, the full one of an issuer before its shards."""
    found: Sequence[ServedCrl] = _wired("crls")()
    return found


def delegates() -> Sequence[Delegate]:
    """The delegated OCSP signers, newest first."""
    found: Sequence[Delegate] = _wired("delegates")()
    return found


def sign_again(serials: Collection[str], now: datetime) -> int:
    """Have the OCSP responses of these serials made anew before they are due; how many that are."""
    found: int = _wired("sign_again")(serials, now)
    return found


def _wired(name: str) -> Any:
    return _function(settings.DASHBOARD[name])


_function = cache(import_string)
