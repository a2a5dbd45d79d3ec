"""Name constraints: what a CA certificate may name at all, in the one form that OpenSSL, GnuTLS and pyca all enforce.

Owns the encoding and the reading of the extension (RFC 5280 §4.2.1.10). Must never leave a kind of name unmentioned: what
an extension does not mention, it permits. The kinds are spoken for like this:

- DNS: the zones are permitted, so nothing else is.
- IP: the ranges are permitted; a family without a range is excluded whole.
- e-mail and URI: the empty name is excluded, which is every name (OpenSSL overlooks that), and besides only the name
  `invalid` is permitted, that nobody can have (RFC 6761 §6.4; GnuTLS overlooks permitted URIs).
- URI, where SPIFFE trust domains are configured: exactly these hosts are permitted. pyca's verifier then refuses every
  URI, and GnuTLS none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from cryptography import x509

from . import der
from .violations import Violation

IPRange = IPv4Network | IPv6Network
OID = x509.ObjectIdentifier("2.5.29.30")
_MAIL, _DNS, _URI, _IP = 0x81, 0x82, 0x86, 0x87  # context tags of GeneralName, RFC 5280 §4.2.1.6
_PERMITTED, _EXCLUDED = 0xA0, 0xA1
NOBODY = "invalid"
_FAMILIES = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.ASCII)
_WHERE = "certificate.nameConstraints"


@dataclass(frozen=True)
class Constraints:
    """The names an issuer may certify: those at or below `zones`, addresses in `ip_ranges`, and spiffe:// URIs of exactly
    the `trust_domains`. Raises Violation for no zone and for what is not a lower-case domain name."""

    zones: tuple[str, ...]
    ip_ranges: tuple[IPRange, ...] = ()
    trust_domains: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.zones:
            raise Violation("constraintsIncomplete", "no DNS zone is permitted: name at least one", _WHERE)
        for domain in (*self.zones, *self.trust_domains):
            if len(domain) > 253 or not _DOMAIN.fullmatch(domain):
                raise Violation("constraintsMalformed", f"{domain!r} is not a lower-case domain name without a leading dot", _WHERE)

    def encode(self) -> bytes:
        """The extension's value, DER. Raw, as pyca's builder refuses the empty e-mail name."""
        permitted = [
            *_subtrees(_DNS, self.zones),
            *(_subtree(_IP, range_.network_address.packed + range_.netmask.packed) for range_ in self.ip_ranges),
            _subtree(_MAIL, NOBODY.encode()),
            *_subtrees(_URI, self.trust_domains or (NOBODY,)),
        ]
        closed = [family for family in _FAMILIES if not any(range_.version == family.version for range_ in self.ip_ranges)]
        excluded = [
            *(_subtree(_IP, family.network_address.packed + family.netmask.packed) for family in closed),
            _subtree(_MAIL, b""),
            *([] if self.trust_domains else [_subtree(_URI, b"")]),
        ]
        return der.tlv(der.SEQUENCE, der.tlv(_PERMITTED, *permitted), der.tlv(_EXCLUDED, *excluded))

    def extension(self) -> x509.UnrecognizedExtension:
        """The same for a pyca builder; add it as critical."""
        return x509.UnrecognizedExtension(OID, self.encode())

    def outside(self, wanted: Constraints) -> list[str]:
        """What of `wanted` these constraints do not permit, each as words: "zone fleet.internal", "IP range 10.0.0.0/8",
        "trust domain fleet.internal"."""
        return [
            *(f"zone {zone}" for zone in wanted.zones if not any(_at_or_below(zone, own) for own in self.zones)),
            *(f"IP range {range_}" for range_ in wanted.ip_ranges if not any(_within(range_, own) for own in self.ip_ranges)),
            *(f"trust domain {domain}" for domain in wanted.trust_domains if domain not in self.trust_domains),
        ]

    def __str__(self) -> str:
        parts = [("zones", self.zones), ("IP ranges", self.ip_ranges), ("trust domains", self.trust_domains)]
        return "; ".join(f"{what} {', '.join(map(str, values)) or 'none'}" for what, values in parts)


def read(certificate: x509.Certificate) -> Constraints:
    """The constraints in a CA certificate. Raises Violation if it has none, if they leave a kind of name open in one of
    the three verifiers, or if they hold a form that this module does not reckon with."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound:
        raise Violation("constraintsMissing", "the certificate has no name constraints", _WHERE) from None
    except ValueError as error:
        raise Violation("constraintsMalformed", f"its extensions cannot be read: {error}", _WHERE) from None
    if not extension.critical:
        raise Violation("constraintsIncomplete", "its name constraints are not critical: clients may overlook them", _WHERE)
    permitted, excluded = extension.value.permitted_subtrees or [], extension.value.excluded_subtrees or []
    faults = _faults(permitted, [(type(name), name.value) for name in excluded])
    if faults:
        raise Violation("constraintsIncomplete", "; ".join(faults), _WHERE)
    every_uri_excluded = any(isinstance(name, x509.UniformResourceIdentifier) for name in excluded)
    trust_domains = () if every_uri_excluded else tuple(_values(permitted, x509.UniformResourceIdentifier))
    return Constraints(tuple(_values(permitted, x509.DNSName)), _networks(_values(permitted, x509.IPAddress)), trust_domains)


_KINDS = (x509.DNSName, x509.IPAddress, x509.RFC822Name, x509.UniformResourceIdentifier)
_EVERY_MAIL, _EVERY_URI = (x509.RFC822Name, ""), (x509.UniformResourceIdentifier, "")
_EVERY_IP = {family: (x509.IPAddress, family) for family in _FAMILIES}


def _faults(permitted: Sequence[x509.GeneralName], excluded: Sequence[tuple[type, Any]]) -> list[str]:
    """What is open or strange; `excluded` as (kind, value), since pyca makes no empty names to compare with."""
    usual = (_EVERY_MAIL, _EVERY_URI, *_EVERY_IP.values())
    return [
        *(f"{name} is a form Quicklime does not use" for name in permitted if not isinstance(name, _KINDS)),
        *(f"excluding {value!r} is a form Quicklime does not use" for kind, value in excluded if (kind, value) not in usual),
        *(f"it leaves {what} names open" for what, closed in _closed(permitted, excluded) if not closed),
    ]


def _closed(permitted: Sequence[x509.GeneralName], excluded: Sequence[tuple[type, Any]]) -> Iterable[tuple[str, bool]]:
    kinds = {type(name) for name in permitted}
    versions = {range_.version for range_ in _networks(_values(permitted, x509.IPAddress))}
    yield "e-mail", x509.RFC822Name in kinds and _EVERY_MAIL in excluded
    yield "URI", x509.UniformResourceIdentifier in kinds
    for family in _FAMILIES:
        yield f"IPv{family.version}", family.version in versions or _EVERY_IP[family] in excluded


def _values(names: Iterable[x509.GeneralName], kind: type[x509.GeneralName]) -> Iterable[Any]:
    return (name.value for name in names if isinstance(name, kind))


def _networks(values: Iterable[object]) -> tuple[IPRange, ...]:
    return tuple(value for value in values if isinstance(value, IPv4Network | IPv6Network))


def _at_or_below(domain: str, zone: str) -> bool:
    return domain == zone or domain.endswith("." + zone)


def _within(inner: IPRange, outer: IPRange) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def _subtrees(tag: int, names: Iterable[str]) -> Iterable[bytes]:
    return (_subtree(tag, name.encode("ascii")) for name in names)


def _subtree(tag: int, base: bytes) -> bytes:
    return der.tlv(der.SEQUENCE, der.tlv(tag, base))
