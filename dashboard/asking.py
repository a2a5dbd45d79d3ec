"""What a visitor asks of a page: its query parameters, read one by one.

Owns their form. Only the names a page declares are ever looked at, so no text of a visitor's becomes a field, an operator or an
order of a query; the others are passed over.
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import quote

from django.http import HttpRequest

from ca.api.base import MAX_PARAMETER, is_plain
from ca.errors import Problem

MOST_DIGITS = 18


def parameters(request: HttpRequest, known: Collection[str]) -> dict[str, str]:
    """Those of `known` that were given and are not empty, trimmed; the last of several. Raises Problem for what no field here
    holds: too long, or with characters that cannot be seen."""
    given = {name: request.GET.get(name, "").strip() for name in known}
    for name, text in given.items():
        if not is_plain(text):
            raise Problem("invalidParameter", f"{name} is longer than {MAX_PARAMETER} characters, or has some that cannot be printed", name)
    return {name: text for name, text in given.items() if text}


def number(text: str | None, where: str) -> int | None:
    """A whole number, zero or more. Raises Problem."""
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > MOST_DIGITS:
        raise Problem("invalidParameter", f"{where} is a whole number, zero or more", where)
    return int(text)


def choice(text: str | None, known: Collection[str], where: str) -> str | None:
    """One of `known`. Raises Problem."""
    if text is not None and text not in known:
        raise Problem("invalidParameter", f"{where} is one of {', '.join(known)}", where)
    return text


def attachment(name: str) -> str:
    """The Content-Disposition under which a file is saved (RFC 6266); `name` may come from a certificate."""
    plain = "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "_" for char in name)[:100]
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name[:100], safe='')}"
