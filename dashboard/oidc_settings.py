"""The identity provider by which people may sign in: how it is written down.

Owns the form of that file. Pure: it is read when a process starts, and what is wrong with it stops the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ca.jwt_issuers import ALGORITHM
from ca.setting_files import FILE, FILLED, NAME, OPTIONAL_FILE, Rule, list_at

from . import identity_settings as read

_NEEDED = ("name", "title", "issuer", "client_id", "client_secret_file", "algorithms", "groups", "roles")


@dataclass(frozen=True, slots=True)
class Provider:
    """`issuer`: its identifier, below which its configuration is found; `client_secret` what the token endpoint is asked with. `groups`
    the claim that lists somebody's groups; `roles` and `owners` group → what its members are, and for whom they speak."""

    name: str
    title: str
    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    ca_file: str
    algorithms: tuple[str, ...]
    groups: str
    roles: Mapping[str, tuple[str, ...]]
    owners: Mapping[str, tuple[str, ...]]


def parse(text: str) -> Provider:
    """The provider that JSON says: {"name", "title", "issuer", "client_id", "client_secret_file", "ca_file", "algorithms", "groups",
    "roles": {group: [role]}, "owners": {group: [owner]}}; ca_file and owners may be left out. Raises ValueError that says where."""
    found = read.members(text, _NEEDED, ("ca_file", "owners"))
    texts = read.texts(found, _TEXTS, {})
    secret = read.secret(texts.pop("client_secret_file"), "client_secret_file")
    algorithms = list_at(found["algorithms"], "algorithms", ALGORITHM)
    if not algorithms:
        raise ValueError("algorithms: give at least one")
    return Provider(**texts, client_secret=secret, algorithms=algorithms, roles=read.roles(found), owners=read.owners(found))


def _is_issuer(text: str) -> bool:
    parts = urlsplit(text)
    return bool(parts.scheme == "https" and parts.hostname and "@" not in parts.netloc and not parts.query and not parts.fragment)


_TEXTS: Mapping[str, Rule] = {
    "name": NAME,
    "title": read.TITLE,
    "issuer": (_is_issuer, "its https:// URL, exactly as it names itself"),
    "client_id": FILLED,
    "client_secret_file": FILE,
    "ca_file": OPTIONAL_FILE,
    "groups": (bool, "the name of the claim that lists somebody's groups"),
}
