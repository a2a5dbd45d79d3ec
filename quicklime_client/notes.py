"""Signed notes and checkpoints of a transparency log (c2sp.org/signed-note, c2sp.org/tlog-checkpoint), read only.

Owns verification with Ed25519 keys. Independent of the server's code on purpose: it is the second opinion.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_ED25519 = b"\x01"


class Malformed(Exception):
    """The text is not what it claims to be; the message says where it stops being it."""


@dataclass(frozen=True)
class LogKey:
    """A log's public key. Text form: name, hex key id and base64 of 0x01 ‖ key, joined by "+"."""

    name: str
    key_id: bytes
    public: bytes

    @classmethod
    def parse(cls, text: str) -> LogKey:
        """Raises Malformed, also where the key id is not that of name and key."""
        name, _, rest = text.strip().partition("+")
        hex_id, _, encoded = rest.partition("+")
        key = from_base64(encoded, "log key")
        if not name or len(key) != 33 or key[:1] != _ED25519:
            raise Malformed("the log key is not of the form name+keyid+base64 with an Ed25519 key")
        key_id = hashlib.sha256(name.encode() + b"\n" + key).digest()[:4]
        if hex_id != key_id.hex():
            raise Malformed("the log key's id does not belong to its name and key")
        return cls(name, key_id, key[1:])

    def signed(self, text: str, signature: bytes) -> bool:
        """Whether `signature` (64 bytes) over `text` is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Checkpoint:
    """A log's statement of its size and Merkle root (32 bytes)."""

    origin: str
    size: int
    root: bytes


def open_checkpoint(note: str, key: LogKey) -> Checkpoint:
    """The checkpoint in a signed note. Raises Malformed unless `key` signed it and it is of the log of that name."""
    text, separator, signatures = note.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise Malformed("the checkpoint is not a signed note")
    text += "\n"
    ours = [raw[4:] for name, raw in map(_signature, signatures[:-1].split("\n")) if name == key.name and raw[:4] == key.key_id]
    if not ours or not all(key.signed(text, signature) for signature in ours):
        raise Malformed(f"the checkpoint is not signed by the log key {key.name}+{key.key_id.hex()}")
    return _checkpoint(text, key)


def _signature(line: str) -> tuple[str, bytes]:
    """One line "— name base64(key id ‖ signature)"; unknown signers are somebody else's business."""
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    if dash != "\u2014" or not name:
        raise Malformed("a signature line of the checkpoint is malformed")
    return name, from_base64(encoded, "a signature of the checkpoint")


def _checkpoint(text: str, key: LogKey) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) < 4:
        raise Malformed("the checkpoint has fewer than three lines")
    origin, size, root = lines[0], lines[1], from_base64(lines[2], "the checkpoint's root")
    if origin != key.name:
        raise Malformed(f"the checkpoint is of the log {origin!r}, not {key.name!r}")
    return Checkpoint(origin, decimal(size, "the checkpoint's size"), hash_of_32(root, "the checkpoint's root"))


def from_base64(text: str, what: str) -> bytes:
    """Strict standard base64. Raises Malformed."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise Malformed(f"{what} is not base64") from None
    if base64.b64encode(raw).decode() != text:
        raise Malformed(f"{what} is not canonical base64")
    return raw


def hash_of_32(raw: bytes, what: str) -> bytes:
    """`raw` if it has the length of a SHA-256. Raises Malformed."""
    if len(raw) != 32:
        raise Malformed(f"{what} is not a SHA-256 hash")
    return raw


def decimal(text: str, what: str) -> int:
    """A number without sign and leading zeroes. Raises Malformed."""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and (text == "0" or text[0] != "0")):
        raise Malformed(f"{what} is not a number")
    return int(text)
