"""The names that a certificate may carry: their exact rules and their one canonical text.

Owns syntax only. Whether a name may be had is ca.policy's. Must never repair what it reads: a name either obeys the rule or
is refused, save for ASCII upper case in a DNS name, which means the same host and becomes lower case.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

import idna

from . import der
from .der import Element
from .violations import Violation

MAX_NAMES, MAX_DNS, MAX_LABEL, MAX_URI = 100, 253, 63, 2048
# Always with fullmatch: "$" would let a trailing newline through.
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_PLAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)


class Name(NamedTuple):
    """One subject alternative name. `kind` is "dns", "ip" or "uri", `value` canonical; str() joins them: "dns:a.internal"."""

    kind: str
    value: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"

    @property
    def is_wildcard(self) -> bool:
        return self.kind == "dns" and self.value.startswith("*.")

    @classmethod
    def parse(cls, text: str) -> Name:
        """The name that str() gave. Raises Violation for anything else, also for one that is not canonical."""
        kind, _, value = text.partition(":")
        name = _READERS.get(kind, _unknown_kind)(value, "name")
        if name.value != value:
            raise Violation("nameNotCanonical", f"{shown(text)} is written {shown(str(name))}", "name")
        return name


def shown(text: str) -> str:
    """A requester's text fit for a message: ASCII, one line, quoted, not long."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")


def is_below(host: str, zone: str) -> bool:
    """Whether `host` (canonical, no wildcard label) is `zone` or a name under it, by whole labels."""
    return host == zone or host.endswith("." + zone)


def general_names(data: bytes, value: Element) -> list[Name]:
    """The names in the extnValue `value` of a subjectAltName, in order (RFC 5280 §4.2.1.6). Raises Violation for a name that
    breaks its rules or is of another kind, der.Malformed for what is no list of names."""
    found = der.element(data, value.body, value.end)
    if found.tag != der.SEQUENCE or found.end != value.end:
        raise der.Malformed("the subject alternative name is not a list of names")
    items = der.children(data, found)
    if not 1 <= len(items) <= MAX_NAMES:
        raise Violation("namesCount", f"a certificate has 1 to {MAX_NAMES} names, {len(items)} are asked for", "names")
    return [_general_name(item.tag, der.contents(data, item), f"names[{index}]") for index, item in enumerate(items)]


def _general_name(tag: int, octets: bytes, where: str) -> Name:
    if tag == 0x82:
        return dns_name(octets.decode("latin-1"), where)  # every octet a character, so that the rules see all of them
    if tag == 0x87:
        return ip_octets(octets, where)
    if tag == 0x86:
        return uri_name(octets.decode("latin-1"), where)
    kind = _OTHER_KINDS.get(tag, "this kind")
    raise Violation("nameKind", f"names are DNS names, IP addresses and URIs; {kind} is not certified", where)


_OTHER_KINDS = {
    0xA0: "otherName", 0x81: "an e-mail address", 0xA3: "x400Address", 0xA4: "directoryName", 0xA5: "ediPartyName", 0x88: "registeredID",
}  # fmt: skip


def dns_name(text: str, where: str) -> Name:
    """A host name of LDH labels (RFC 1123 §2.1), A-labels valid under IDNA 2008, at most one "*" as the whole leftmost label.

    Refused: an empty label, hence a leading or trailing dot; anything not ASCII (tested before lower-casing: U+212A KELVIN
    SIGN lower-cases to "k"); "_"; hyphens at an end; hyphens at places 3 and 4 unless the label is an A-label (RFC 5890
    §2.3.1); an all-digit last label, which is an IP address or passes for one; labels over 63 and names over 253 octets.
    """
    if not text.isascii():
        raise Violation("nameNotAscii", f"{shown(text)} is not ASCII: write international names as A-labels (xn--...)", where)
    host = text.lower()
    if len(host) > MAX_DNS:
        raise Violation("nameTooLong", f"a DNS name has at most {MAX_DNS} characters, this one {len(host)}", where)
    base = host.removeprefix("*.")
    if "--" in base or not _PLAIN.fullmatch(base):
        _check_labels(base, where)
    return Name("dns", host)


def _check_labels(host: str, where: str) -> None:
    labels = host.split(".")
    for label in labels:
        _check_label(label, where)
    if labels[-1].isdigit():
        raise Violation("nameNumeric", f"{shown(host)} ends in a number: an IP address belongs into an iPAddress name", where)


def _check_label(label: str, where: str) -> None:
    if not label:
        raise Violation("nameEmptyLabel", "a DNS name has no empty label and no dot at either end", where)
    if "*" in label:
        raise Violation("nameWildcard", f"a wildcard is the whole first label and nothing else, followed by a name: {shown(label)}", where)
    if len(label) > MAX_LABEL:
        raise Violation("nameLabel", f"a label has at most {MAX_LABEL} characters: {shown(label)}", where)
    if not _LABEL.fullmatch(label):
        raise Violation("nameLabel", f"a label is letters, digits and inner hyphens: {shown(label)}", where)
    if label[2:4] == "--":
        _check_a_label(label, where)


def _check_a_label(label: str, where: str) -> None:
    try:
        if label.startswith("xn--"):
            idna.ulabel(label)  # decodes, validates (RFC 5891 §5.4), and compares with the re-encoded form
            return
    except ValueError as error:  # IDNAError, UnicodeError, and unicodedata's refusal of an unknown character
        raise Violation("nameALabel", f"{shown(label)} is not a valid A-label", where) from error
    raise Violation("nameLabel", f"hyphens at places 3 and 4 are reserved for A-labels: {shown(label)}", where)


def ip_octets(octets: bytes, where: str) -> Name:
    """The address in an iPAddress name: 4 or 16 octets; 8 or 32 would be a network (RFC 5280 §4.2.1.6, §4.2.1.10)."""
    if len(octets) not in (4, 16):
        raise Violation("ipLength", f"an IP address has 4 or 16 octets, this one {len(octets)}", where)
    return _address(ip_address(octets), where)


def _ip_text(text: str, where: str) -> Name:
    if "%" in text:  # ip_address would keep an IPv6 zone index, which no certificate can hold
        raise Violation("ipSyntax", f"{shown(text)} names a link, not only an address", where)
    try:
        return _address(ip_address(text), where)
    except ValueError as error:
        raise Violation("ipSyntax", f"{shown(text)} is not an IP address", where) from error


def _address(address: IPv4Address | IPv6Address, where: str) -> Name:
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        raise Violation("ipMapped", "write an IPv4 address as IPv4, not mapped into IPv6", where)
    if address.is_unspecified or address.is_multicast:
        raise Violation("ipNoHost", f"{address} is no host's address", where)
    return Name("ip", str(address))


def uri_name(text: str, where: str) -> Name:
    """A SPIFFE ID of a workload (SPIFFE-ID §2): spiffe://trust-domain/path, lower-case trust domain, a path of non-empty
    segments none of which is "." or "..", nothing percent-encoded, no user, port, query or fragment; ≤ 2048 octets."""
    if not text.startswith("spiffe://"):
        raise Violation("uriScheme", f"only spiffe:// URIs are certified, not {shown(text)}", where)
    if len(text) > MAX_URI:
        raise Violation("uriSyntax", f"a SPIFFE ID has at most {MAX_URI} octets", where)
    trust_domain, *segments = text.removeprefix("spiffe://").split("/")
    if not _TRUST_DOMAIN.fullmatch(trust_domain):
        raise Violation("uriSyntax", f"a trust domain is lower-case letters, digits, '.', '-' and '_': {shown(trust_domain)}", where)
    if not segments or not all(_SEGMENT.fullmatch(segment) and segment not in (".", "..") for segment in segments):
        raise Violation("uriSyntax", f"a SPIFFE ID needs a path of plain, non-empty segments: {shown(text)}", where)
    return Name("uri", text)


def _unknown_kind(text: str, where: str) -> Name:
    raise Violation("nameKind", "a name is dns:, ip: or uri:", where)


_READERS = {"dns": dns_name, "ip": _ip_text, "uri": uri_name}
