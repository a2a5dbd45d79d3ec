"""DER, read strictly and written small (ITU-T X.690).

Owns tags, lengths and the few types that certificates need. The reader takes definite, minimal lengths and exact ends
only; it never guesses. Must not know what the bytes mean: that is csr.py's, leaf.py's and lint.py's.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import NamedTuple

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
UTF8_STRING, PRINTABLE_STRING, IA5_STRING, UTC_TIME, GENERALIZED_TIME = 0x0C, 0x13, 0x16, 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31


class Malformed(ValueError):
    """The bytes are not the DER that was expected here."""


class Element(NamedTuple):
    """Where one element lies in its buffer: its header begins at `start`, its contents are [`body`, `end`)."""

    tag: int
    start: int
    body: int
    end: int


_element = partial(tuple.__new__, Element)  # a third of the time of Element(...), and requests are full of them


def element(data: bytes, at: int, limit: int) -> Element:
    """The element whose header is at `at` and which ends at or before `limit` ≤ len(data). Raises Malformed."""
    body = at + 2
    if body > limit:
        raise Malformed(f"cut off at byte {at}")
    tag, length = data[at], data[at + 1]
    if tag & 0x1F == 0x1F:
        raise Malformed(f"multi-byte tag at byte {at}")
    if length >= 0x80:
        body, length = _long_length(data, body, limit)
    end = body + length
    if end > limit:
        raise Malformed(f"element at byte {at} is longer than what holds it")
    return _element((tag, at, body, end))


def _long_length(data: bytes, at: int, limit: int) -> tuple[int, int]:
    """(where the contents begin, their length) of a length in the long form whose first octet is just before `at`."""
    size = data[at - 1] & 0x7F
    body = at + size
    if not 1 <= size <= 3 or body > limit:
        raise Malformed(f"indefinite, oversized or cut-off length at byte {at - 1}")
    length = int.from_bytes(data[at:body], "big")
    if length < 0x80 or length >> 8 * (size - 1) == 0:
        raise Malformed(f"length not minimal at byte {at - 1}")
    return body, length


def whole(data: bytes, tag: int = SEQUENCE) -> Element:
    """`data` as exactly one element with this tag and nothing after it. Raises Malformed."""
    found = element(data, 0, len(data))
    if found.tag != tag or found.end != len(data):
        raise Malformed("not exactly one object of the expected type" if found.tag != tag else f"trailing bytes after byte {found.end}")
    return found


def children(data: bytes, parent: Element) -> list[Element]:
    """The elements that `parent` consists of. Raises Malformed."""
    found = []
    _, _, at, limit = parent
    while at < limit:
        body = at + 2
        # The common case, one octet each of tag and length, without the price of a call; `element` says what else may be.
        if body <= limit and (length := data[at + 1]) < 0x80 and (tag := data[at]) & 0x1F != 0x1F and body + length <= limit:
            child = _element((tag, at, body, body + length))
        else:
            child = element(data, at, limit)
        found.append(child)
        at = child[3]
    return found


def fields(data: bytes, parent: Element, *tags: int) -> list[Element]:
    """The children of `parent`, which must bear exactly these tags in this order. Raises Malformed."""
    found = children(data, parent)
    if tuple([child.tag for child in found]) != tags:
        raise Malformed(f"unexpected fields at byte {parent.body}")
    return found


def contents(data: bytes, item: Element) -> bytes:
    """The element's contents, without its header."""
    return data[item.body : item.end]


def encoded(data: bytes, item: Element) -> bytes:
    """The element with its header."""
    return data[item.start : item.end]


def tlv(tag: int, *parts: bytes) -> bytes:
    """One element with the joined `parts` as contents."""
    body = b"".join(parts)
    length = len(body)
    if length < 0x80:
        return bytes((tag, length)) + body
    size = (length.bit_length() + 7) // 8
    return bytes((tag, 0x80 | size)) + length.to_bytes(size, "big") + body


def integer(value: int) -> bytes:
    """A non-negative INTEGER."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(dotted: str) -> bytes:
    """An OBJECT IDENTIFIER from its dotted form."""
    first, second, *rest = map(int, dotted.split("."))
    return tlv(OID, *map(_base128, (40 * first + second, *rest)))


def _base128(arc: int) -> bytes:
    digits = [arc & 0x7F]
    while arc := arc >> 7:
        digits.append(0x80 | arc & 0x7F)
    return bytes(reversed(digits))


def bits(content: bytes, unused: int = 0) -> bytes:
    """A BIT STRING of whole octets, less the last octet's `unused` bits."""
    return tlv(BIT_STRING, bytes((unused,)), content)


def named_bits(*numbers: int) -> bytes:
    """A BIT STRING of named bits, trailing zeros cut off as DER demands (X.690 §11.2.2). At most eight bits."""
    octet = sum(0x80 >> number for number in numbers)
    return bits(bytes((octet,)), unused=7 - max(numbers))


def time(moment: datetime) -> bytes:
    """`moment` (aware, UTC, whole seconds) as UTCTime to 2049, as GeneralizedTime after (RFC 5280 §4.1.2.5)."""
    rest = f"{moment.month:02}{moment.day:02}{moment.hour:02}{moment.minute:02}{moment.second:02}Z"
    if moment.year <= 2049:
        return tlv(UTC_TIME, f"{moment.year % 100:02}{rest}".encode())
    return tlv(GENERALIZED_TIME, f"{moment.year:04}{rest}".encode())
