"""Characters that a reader cannot see, or that change how others are read, made visible.

Owns the list: control, format (bidirectional overrides and isolates, zero-width, tags), line and paragraph separators. A page
passes through it whole, so that no field can be forgotten (T17: spoofed names).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from unicodedata import category

from django.http import HttpRequest, HttpResponse

_KEPT = "\t\n\r"
_HIDDEN = re.compile(
    "["
    + "".join(
        re.escape(chr(code))
        for code in (*range(0x20000), *range(0xE0000, 0xE1000))
        if category(chr(code)) in ("Cc", "Cf", "Zl", "Zp") and chr(code) not in _KEPT
    )
    + "]"
)


def visible(text: str) -> str:
    """`text` with every hidden character as its code point in brackets: U+202E becomes "[U+202E]"."""
    return _HIDDEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


def hidden_made_visible(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: every HTML page goes out `visible`."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if response.get("Content-Type", "").startswith("text/html") and not response.streaming:
            response.content = visible(response.content.decode()).encode()
        return response

    return middleware
