"""From the bytes of a body to plain values, strictly: what two readers could understand differently is refused.

Owns body limits and the JSON dialect (RFC 8259 without its latitude). Must never raise anything but Problem, whatever the bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import IO, Any, NoReturn

from rest_framework.parsers import BaseParser

from ca.errors import Problem

BODY_LIMIT = 64 * 1024  # bytes, of a body that asks for one thing
BULK_LIMIT = 4 * 1024 * 1024
MAX_DEPTH = 16
MAX_DIGITS = 19  # of an integer: enough for 63 bits


class LimitedParser(BaseParser):
    """Reads a body up to its view's `body_limit` bytes."""

    charsets = frozenset({"utf-8", "us-ascii"})

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        context = parser_context or {}
        meta = context["request"].META
        if meta.get("HTTP_CONTENT_ENCODING", "identity") != "identity":
            raise Problem("unsupportedMediaType", "send the body without a Content-Encoding", "Content-Encoding")
        if context["request"].content_params.get("charset", "utf-8").lower() not in self.charsets:
            raise Problem("unsupportedMediaType", "the charset must be utf-8", "Content-Type")
        return self.read(_limited(stream, meta, context["view"].body_limit))

    def read(self, body: bytes) -> Any:
        return body


def _limited(stream: IO[bytes], meta: Mapping[str, str], limit: int) -> bytes:
    if int(meta.get("CONTENT_LENGTH") or 0) > limit:
        raise Problem("bodyTooLarge", f"at most {limit} bytes are read here")
    return stream.read(limit)


def members(body: Any, known: Collection[str]) -> Mapping[str, Any]:
    """`body`, if it is a JSON object with no other members than those `known`. Raises Problem."""
    if not isinstance(body, Mapping):
        raise Problem("malformedJson", "send a JSON object")
    unknown = sorted(body.keys() - set(known))
    if unknown:
        names = ", ".join(ascii(name[:40]) for name in unknown[:10])
        raise Problem("unknownField", f"not known here: {names}; known: {', '.join(known)}", unknown[0][:40])
    return body


class Pkcs10Parser(LimitedParser):
    """A CSR as it is: DER, or base64 of it."""

    media_type = "application/pkcs10"


class PemParser(LimitedParser):
    """A CSR in PEM."""

    media_type = "application/x-pem-file"


class StrictJSONParser(LimitedParser):
    """JSON of which every reader makes the same: see `strict_json`."""

    media_type = "application/json"

    def read(self, body: bytes) -> Any:
        return strict_json(body)


def strict_json(body: bytes) -> Any:
    """The value of a JSON text in UTF-8. Refused besides what is not JSON: NaN and infinities, a name twice in an object,
    more than MAX_DEPTH levels, integers of more than MAX_DIGITS digits, NUL and lone surrogates in strings. Raises Problem."""
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise Problem("malformedJson", "the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise Problem("malformedJson", f"{error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise _too_deep() from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_depth(value)
    if b"\\u" in body:
        _check_text(value)
    return value


def _too_deep() -> Problem:
    return Problem("malformedJson", f"nested more than {MAX_DEPTH} levels deep")


def _check_depth(value: Any) -> None:
    """Level by level, so that no nesting can exhaust the stack here."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for parent in level for item in _children(parent)]
    if level:
        raise _too_deep()


def _children(value: Any) -> list[Any]:
    """The arrays and objects right inside of one."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, dict | list)]


def _check_text(value: Any) -> None:
    """Escapes can spell what UTF-8 cannot: half of a surrogate pair, and the NUL that PostgreSQL refuses."""
    text = json.dumps(value, ensure_ascii=False)
    if "\\u0000" in text.replace("\\\\", ""):
        raise Problem("malformedJson", "a string holds NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Problem("malformedJson", "a string holds half of a surrogate pair") from None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Problem("malformedJson", "a name appears twice in one object")
    return found


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise Problem("malformedJson", f"an integer has more than {MAX_DIGITS} digits")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Problem("malformedJson", "a number is too large")
    return number


def _refuse_constant(text: str) -> NoReturn:
    raise Problem("malformedJson", f"{text} is not a JSON number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_duplicates, parse_int=_integer, parse_float=_number, parse_constant=_refuse_constant, strict=True
)
