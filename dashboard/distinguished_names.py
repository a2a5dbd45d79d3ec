"""Distinguished names (RFC 4514) in the one form in which they are compared here.

Owns that form. Needs python-ldap, the optional extra `ldap`.
"""

from __future__ import annotations

import ldap
from ldap.dn import escape_dn_chars, str2dn


def normal(name: str) -> str:
    """`name` with what does not count removed: case, spaces at ends and repeated, quotes and other ways to write the same character.
    Raises ValueError for what is no distinguished name."""
    try:
        parts = str2dn(name)
    except ldap.DECODING_ERROR:
        raise ValueError(f"{name!r:.200} is no distinguished name such as cn=ca-operators,ou=groups,dc=example,dc=org") from None
    return ",".join("+".join(sorted(f"{kind.lower()}={_value(value)}" for kind, value, _ in part)) for part in parts)


def is_below(name: str, base: str) -> bool:
    """Whether `name` is `base` or an entry below it; both in normal form."""
    return name == base or name.endswith(f",{base}")


def _value(text: str) -> str:
    escaped: str = escape_dn_chars(" ".join(text.lower().split()))
    return escaped
