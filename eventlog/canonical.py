"""Canonical JSON, RFC 8785: one value, one string of bytes.

Owns the encoding of what is hashed. Takes str, int, bool, None, list, tuple and dict with str keys; refuses floats, integers beyond
±(2**53 − 1) and lone surrogates, whose bytes two implementations could disagree about.
"""

from __future__ import annotations

from json.encoder import encode_basestring  # escapes exactly what RFC 8785 §3.2.2.2 wants, and nothing else
from typing import Any

SAFE = 2**53 - 1


class NotCanonical(ValueError):
    """The value has no canonical form."""


def encode(value: Any) -> bytes:
    """The canonical bytes of `value`. Raises NotCanonical."""
    try:
        return _text(value).encode()
    except UnicodeEncodeError:
        raise NotCanonical("a lone surrogate is not text") from None


def _text(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return encode_basestring(value)
    if kind is dict:
        return _object(value)
    if kind is list or kind is tuple:
        return "[" + ",".join(map(_text, value)) + "]"
    return _atom(value)


def _object(value: dict[Any, Any]) -> str:
    try:
        ascii_keys = "".join(value).isascii()
    except TypeError:
        raise NotCanonical("a key is not text") from None
    keys = sorted(value) if ascii_keys else sorted(value, key=_utf16)
    return "{" + ",".join([f"{encode_basestring(key)}:{_text(value[key])}" for key in keys]) + "}"


def _utf16(key: str) -> bytes:
    """RFC 8785 §3.2.3 sorts keys by UTF-16 code units, which differs from code points beyond U+FFFF."""
    return key.encode("utf-16-be", "surrogatepass")


def _atom(value: Any) -> str:
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if type(value) is not int:
        raise NotCanonical(f"{type(value).__name__} has no canonical form")
    if not -SAFE <= value <= SAFE:
        raise NotCanonical("an integer beyond 2**53 - 1")
    return str(value)
