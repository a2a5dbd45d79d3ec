"""Whether a receipt proves that a certificate is in the log.

Owns the whole of that judgement, without the server and without its code: canonical leaf (RFC 8785), Merkle inclusion
(RFC 6962 §2.1.1), the log's signature. Needs no network.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from . import keys
from .notes import LogKey, Malformed, decimal, from_base64, hash_of_32, open_checkpoint

_ISSUED = re.compile(r"quicklime/certificate\.issued/[0-9]+-[0-9]+-[0-9]+", re.ASCII)


class NotProven(Exception):
    """The receipt does not prove it; the message names the first thing that does not fit."""


@dataclass(frozen=True)
class Receipt:
    """`event`: the log's leaf as text; `position` counts from 1; `proof`: a c2sp.org/tlog-proof@v1; `log_key` as in LogKey."""

    event: str
    position: int
    proof: str
    log_key: str

    @classmethod
    def parse(cls, text: str) -> Receipt:
        """From the JSON that the API hands out. Raises Malformed."""
        try:
            found = json.loads(text)
            receipt = cls(found["event"], found["position"], found["tlog_proof"], found["log_key"])
            for member in (receipt.event, receipt.proof, receipt.log_key):
                member.encode()  # half a surrogate pair is valid JSON and no text
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise Malformed("the receipt is not JSON with the texts event, tlog_proof and log_key and the number position") from None
        return receipt


@dataclass(frozen=True)
class Proven:
    """What a receipt proves: this certificate is entry `position` of the log `origin`, which had `size` entries then."""

    serial: str
    position: int
    origin: str
    size: int


def verify(receipt: Receipt, certificate: x509.Certificate, key: LogKey) -> Proven:
    """Raises NotProven or Malformed."""
    serial = _same_certificate(_canonical(receipt.event), certificate)
    index, path, note = _proof(receipt.proof)
    if index + 1 != receipt.position:
        raise NotProven(f"the proof is for position {index + 1}, the receipt says {receipt.position}")
    checkpoint = open_checkpoint(note, key)
    leaf = hashlib.sha256(b"\x00" + receipt.event.encode()).digest()
    if root_of(leaf, index, checkpoint.size, path) != checkpoint.root:
        raise NotProven("the event is not in the tree that the log signed")
    return Proven(serial, receipt.position, checkpoint.origin, checkpoint.size)


def root_of(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root of the tree of `size` leaves whose leaf `index` has the hash `leaf` and this inclusion path (RFC 9162
    §2.1.3.2); None if the path has the wrong length for it."""
    if not 0 <= index < size:
        return None
    node, last, steps = index, size - 1, list(path)
    result = leaf
    while last:
        if node % 2 or node < last:
            if not steps:
                return None
            sibling = steps.pop(0)
            pair = sibling + result if node % 2 else result + sibling
            result = hashlib.sha256(b"\x01" + pair).digest()
        node, last = node // 2, last // 2
    return None if steps else result


def _canonical(event: str) -> dict[str, Any]:
    """The event, whose text must be its one canonical form, so that no two texts can claim to be one event."""
    try:
        value = json.loads(event, parse_float=_refuse, parse_constant=_refuse)
        text = json.dumps(_sorted(value), ensure_ascii=False, separators=(",", ":"))
    except (ValueError, RecursionError):
        raise Malformed("the event is not JSON without fractions") from None
    if text != event or not isinstance(value, dict):
        raise NotProven("the event's text is not its canonical form")
    return value


def _refuse(text: str) -> None:
    raise ValueError(text)


def _sorted(value: Any) -> Any:
    """Members in the order of RFC 8785 §3.2.3: by UTF-16 code units."""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value, key=lambda name: name.encode("utf-16-be"))}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _same_certificate(event: dict[str, Any], certificate: x509.Certificate) -> str:
    """The serial, once the event is found to be the issuance of exactly this certificate."""
    schema, data = event.get("schema"), event.get("data")
    if not isinstance(schema, str) or not _ISSUED.fullmatch(schema) or not isinstance(data, dict):
        raise NotProven("the event is not the issuance of a certificate")
    logged = from_base64(str(data.get("certificate")), "the event's certificate")
    if logged != certificate.public_bytes(Encoding.DER):
        raise NotProven("the event is the issuance of another certificate")
    return keys.serial(certificate)


def _proof(text: str) -> tuple[int, list[bytes], str]:
    """(index from 0, inclusion path, signed checkpoint) of a c2sp.org/tlog-proof@v1."""
    head, _, note = text.partition("\n\n")
    lines = head.split("\n")
    if lines.pop(0) != "c2sp.org/tlog-proof@v1":
        raise Malformed("the proof is not a c2sp.org/tlog-proof@v1")
    if lines and lines[0].startswith("extra "):
        lines.pop(0)
    if not lines or not lines[0].startswith("index "):
        raise Malformed("the proof has no index")
    index = decimal(lines.pop(0).removeprefix("index "), "the proof's index")
    return index, [hash_of_32(from_base64(line, "a hash of the proof"), "a hash of the proof") for line in lines], note
