"""The table of profiles: what each kind of certificate contains, how long it lives, which keys and names it may have.

Owns the table, and when a renewal is late. Must never decide about a request, which is ca.policy's, nor encode anything, which is
ca.pki.leaf's. A change to what a profile puts into certificates raises its version, which is part of the shape that pkilint judges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from .pki.keycheck import KINDS

CHANNELS = ("ocsp", "crl")  # the ways in which a certificate's status is published
RENEWED_BY, RENEWED_LEFT = 80, timedelta(days=30)  # percent of life, and what is left at the most, when a successor is overdue
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of certificate. `default` and `maximum` are whole lifetimes, first and last second included. `key_usage` holds
    for every key; `rsa_key_usage` is added for RSA (RFC 8813 §3 forbids it for elliptic curves)."""

    name: str
    version: int
    extended_key_usage: tuple[str, ...]
    default: timedelta
    maximum: timedelta
    key_usage: tuple[str, ...] = ("digitalSignature",)
    rsa_key_usage: tuple[str, ...] = ()
    key_kinds: tuple[str, ...] = KINDS
    name_kinds: tuple[str, ...] = ("dns", "ip", "uri")
    backdate: timedelta = timedelta(minutes=1)  # so that a host whose clock is a little behind can use it at once
    wildcards: bool = True
    requires_name: bool = True
    no_rev_avail: bool = False  # RFC 9608: no status is ever published, so no pointer to one either
    ocsp_no_check: bool = False  # RFC 6960 §4.2.2.2.1: the responder's certificate has no status of its own
    ca: bool = False
    requestable: bool = True  # False: only the CA itself asks for it
    channels: tuple[str, ...] = CHANNELS  # which of them certificates point to, unless the settings say otherwise
    renewal_grace: timedelta = timedelta(days=30)  # how long after its end a certificate may still be renewed
    may_reuse_key: bool = True  # whether a renewed certificate may have its predecessor's key

    @property
    def status_pointers(self) -> bool:
        """Whether certificates may say where their status is to be had."""
        return not (self.no_rev_avail or self.ocsp_no_check)


_SERVER = Profile(
    name="server", version=1, extended_key_usage=("serverAuth",), rsa_key_usage=("keyEncipherment",),
    default=timedelta(days=90), maximum=timedelta(days=397),
)  # fmt: skip
_CLIENT = replace(_SERVER, name="client", extended_key_usage=("clientAuth",), rsa_key_usage=(), wildcards=False)
_PEER = replace(_SERVER, name="peer", extended_key_usage=("serverAuth", "clientAuth"))
_SHORT_LIVED = replace(  # its end stands in for revocation: so it ends for good, and takes its key with it
    _PEER, name="short-lived", default=timedelta(days=1), maximum=timedelta(days=7), no_rev_avail=True, channels=(),
    renewal_grace=timedelta(0), may_reuse_key=False,
)  # fmt: skip
_OCSP_SIGNER = Profile(
    name="ocsp-signer", version=1, extended_key_usage=("OCSPSigning",), default=timedelta(days=30), maximum=timedelta(days=90),
    name_kinds=(), requires_name=False, ocsp_no_check=True, requestable=False, channels=(),
)  # fmt: skip
_INTERMEDIATE = Profile(
    name="intermediate", version=1, extended_key_usage=(), key_usage=("keyCertSign", "cRLSign"), name_kinds=(), requires_name=False,
    default=timedelta(days=5 * 365), maximum=timedelta(days=10 * 365), ca=True, requestable=False, channels=(),
)  # fmt: skip

PROFILES: Mapping[str, Profile] = MappingProxyType(
    {profile.name: profile for profile in (_SERVER, _CLIENT, _PEER, _SHORT_LIVED, _OCSP_SIGNER, _INTERMEDIATE)}
)
OCSP_SIGNER = _OCSP_SIGNER.name
LEAF = tuple(name for name, profile in PROFILES.items() if profile.requestable)


def late(not_before: datetime, not_after: datetime, percent: int, left: timedelta) -> datetime:
    """When `percent` of a certificate's whole life are over, and no more than `left` of it is left. Its last second belongs to
    its life (RFC 5280 §4.1.2.5)."""
    end = not_after + _SECOND
    return max(not_before + (end - not_before) * percent / 100, end - left)


def renew_by(not_before: datetime, not_after: datetime) -> datetime:
    """When at the latest the successor of a certificate is to be expected. Agents renew between 62 and 72 % of life
    (quicklime_client.schedule), so that who renews is never late, however short its certificates live."""
    return late(not_before, not_after, RENEWED_BY, RENEWED_LEFT)
