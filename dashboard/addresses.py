"""What a mail address is, for settings and contacts alike.

Owns the rule: the plain form of RFC 5321 §4.1.2, dot-string @ domain, in ASCII. Quoted local parts, comments and address literals
are refused; so nothing that could end a header or begin another recipient is ever taken.
"""

from __future__ import annotations

import re

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = re.compile(rf"{_ATOM}(\.{_ATOM})*", re.ASCII)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)


def checked(text: str) -> str:
    """The address as it is kept: its domain in lower case. Raises ValueError for what is none."""
    local, _, domain = text.rpartition("@")
    labels = domain.lower().split(".")
    if len(local) > 64 or len(text) > 254 or not _LOCAL.fullmatch(local) or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError(f"{text[:80]!r} is not a mail address such as team@example.org (ASCII, no name beside it)")
    return f"{local}@{domain.lower()}"
