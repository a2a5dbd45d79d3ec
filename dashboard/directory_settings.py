"""The directory (LDAP) by whose passwords people may sign in: how it is written down.

Owns the form of that file. Pure: it is read when a process starts, and what is wrong with it stops the start. There is no way to write down
that a password travels in the clear over a network: what is neither ldaps:// nor on this host is spoken to after StartTLS.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from ca.setting_files import NAME, OPTIONAL_FILE, Rule

from . import identity_settings as read

_NEEDED = ("name", "title", "url", "base", "roles")
_OPTIONAL = ("ca_file", "bind_dn", "bind_password_file", "filter", "login", "identifier", "group_base", "group_member", "owners")
_DEFAULTS = {"filter": "(objectClass=person)", "login": "uid", "identifier": "entryUUID", "group_member": "member"}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PORTS = {"ldap": 389, "ldaps": 636}
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}", re.ASCII)
_MEMBER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}(:[0-9]+(\.[0-9]+)+:)?", re.ASCII)  # with a matching rule: RFC 4515 §3, extensible
DN = "dn"


@dataclass(frozen=True, slots=True)
class Server:
    """Where the directory is: a host and port, or the `path` of a socket; `tls` "tls" at once, "starttls", or "" on this host."""

    host: str
    port: int
    path: str
    tls: str


@dataclass(frozen=True, slots=True)
class Directory:
    """`bind_dn` and `bind_password`: who asks, "" for nobody in particular. Below `base` a person is an entry that meets `filter` and whose
    attribute `login` is the name that was typed, known for good by the attribute `identifier`, or by its name if that is DN. The groups are
    the entries below `group_base` whose `group_member` is the person, or, if that is "", what the person's memberOf says. `roles` and
    `owners`: group, as distinguished_names.normal has it → what its members are, and for whom they speak."""

    name: str
    title: str
    server: Server
    ca_file: str
    bind_dn: str
    bind_password: str = field(repr=False)
    base: str
    filter: str
    login: str
    identifier: str
    group_base: str
    group_member: str
    roles: Mapping[str, tuple[str, ...]]
    owners: Mapping[str, tuple[str, ...]]


def parse(text: str) -> Directory:
    """The directory that JSON says: an object of the members _NEEDED and if need be _OPTIONAL. Raises ValueError that says where."""
    try:
        from .distinguished_names import normal
    except ImportError:
        raise ValueError("python-ldap is not installed, by which directories are asked: pip install 'quicklime[ldap]'") from None
    found = read.members(text, _NEEDED, _OPTIONAL)
    texts = read.texts(found, _TEXTS, _DEFAULTS)
    _check_roots(texts["ca_file"])
    for name in ("base", "bind_dn", "group_base"):
        normal(texts[name])
    server, file = _server(texts.pop("url")), texts.pop("bind_password_file")
    if bool(texts["bind_dn"]) != bool(file):
        raise ValueError("give both bind_dn and bind_password_file, or neither")
    password = read.secret(file, "bind_password_file") if file else ""
    roles, owners = _by_group(read.roles(found), normal), _by_group(read.owners(found), normal)
    return Directory(**texts, server=server, bind_password=password, roles=roles, owners=owners)


def _check_roots(file: str) -> None:
    try:
        ssl.create_default_context(cafile=file or None)
    except OSError as error:
        raise ValueError(f"ca_file: it cannot be read as certificates in PEM: {error.strerror or error}") from None


def _by_group(given: Mapping[str, tuple[str, ...]], normal: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
    """Raises ValueError for a group that is no distinguished name, or is there twice."""
    by_name: dict[str, tuple[str, ...]] = {}
    for group, what in given.items():
        if by_name.setdefault(normal(group), what) is not what:
            raise ValueError(f"{group!r:.200} is there twice")
    return by_name


def _split(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        return parts if parts.port != 0 else None
    except ValueError:
        return None


def _is_url(text: str) -> bool:
    parts = _split(text)
    if not parts or parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
        return False
    return unquote(parts.netloc).startswith("/") if parts.scheme == "ldapi" else bool(parts.scheme in _PORTS and parts.hostname)


def _server(url: str) -> Server:
    parts = urlsplit(url)
    if parts.scheme == "ldapi":
        return Server("", 0, unquote(parts.netloc), "")
    host = parts.hostname or ""
    tls = "tls" if parts.scheme == "ldaps" else "" if host in _LOOPBACK else "starttls"
    return Server(host, parts.port or _PORTS[parts.scheme], "", tls)


def _is_filter(text: str) -> bool:
    return bool(re.fullmatch(r"\(.+\)", text) and text.count("(") == text.count(")"))


_TEXTS: Mapping[str, Rule] = {
    "name": NAME,
    "title": read.TITLE,
    "url": (
        _is_url,
        "ldaps://ldap.example.org, ldap://ldap.example.org (then with StartTLS), or ldapi://%2Frun%2Fslapd%2Fldapi on this host",
    ),
    "ca_file": OPTIONAL_FILE,
    "bind_dn": (lambda text: True, ""),
    "bind_password_file": OPTIONAL_FILE,
    "base": (bool, "the distinguished name below which people are"),
    "filter": (_is_filter, "a filter in parentheses, for example (objectClass=person)"),
    "login": (_ATTRIBUTE.fullmatch, "the name of an attribute"),
    "identifier": (_ATTRIBUTE.fullmatch, f"the name of an attribute, or {DN}"),
    "group_base": (lambda text: True, ""),
    "group_member": (_MEMBER.fullmatch, "the name of an attribute, with a matching rule if need be"),
}
