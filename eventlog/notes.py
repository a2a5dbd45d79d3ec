"""Signed notes and checkpoints in C2SP form: signed-note, tlog-checkpoint; Ed25519 (signature type 0x01).

Pure: makes and judges text. Holds no private key: a note is signed through the CheckpointSigner it is given.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_ED25519 = b"\x01"
_SIGNATURE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_VKEY = re.compile(r"([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})")


class BadNote(ValueError):
    """The text is no checkpoint, or the key did not sign it."""


class CheckpointSigner(Protocol):
    """The log's key. `origin` is the log's and the key's name, `public_key` 32 raw bytes, sign() Ed25519."""

    @property
    def origin(self) -> str: ...
    @property
    def public_key(self) -> bytes: ...
    def sign(self, data: bytes, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Note:
    """A checkpoint that was read but not yet believed: verify() says whether a key signed it."""

    origin: str
    size: int
    root: bytes
    body: bytes  # what is signed
    signatures: tuple[tuple[str, bytes], ...]  # (key name, key id ‖ signature)
    text: str

    def verify(self, vkey: str) -> None:
        """Raises BadNote unless the holder of `vkey` signed this note."""
        name, key_id, key = _parse_vkey(vkey)
        mine = [value for signer, value in self.signatures if signer == name and value[:4] == key_id]
        if not mine or self.origin != name:
            raise BadNote(f"the checkpoint of size {self.size} is not signed by {name}")
        for value in mine:
            try:
                Ed25519PublicKey.from_public_bytes(key).verify(value[4:], self.body)
            except InvalidSignature:
                raise BadNote(f"the signature on the checkpoint of size {self.size} is wrong") from None


def make(signer: CheckpointSigner, size: int, root: bytes) -> str:
    """The signed checkpoint over `size` events with Merkle root `root`."""
    body = f"{signer.origin}\n{size}\n{b64encode(root).decode()}\n"
    signature = _key_id(signer.origin, signer.public_key) + signer.sign(body.encode())
    return f"{body}\n— {signer.origin} {b64encode(signature).decode()}\n"


def parse(text: str) -> Note:
    """Read a checkpoint; extension lines are refused, since Quicklime writes none. Raises BadNote."""
    body, blank, signatures = text.partition("\n\n")
    lines = body.split("\n")
    if not blank or len(lines) != 3 or not signatures.endswith("\n"):
        raise BadNote("not a checkpoint: three lines, a blank line, signatures")
    origin, size, root = lines
    if not origin or not re.fullmatch(r"0|[1-9][0-9]{0,18}", size, re.ASCII):
        raise BadNote("not a checkpoint: no origin, or no size")
    return Note(origin, int(size), _decode(root, 32), (body + "\n").encode(), _signatures(signatures), text)


def vkey(name: str, public_key: bytes) -> str:
    """The verifier key "name+keyid+key" of a raw Ed25519 public key."""
    return f"{name}+{_key_id(name, public_key).hex()}+{b64encode(_ED25519 + public_key).decode()}"


def vkey_of(signer: CheckpointSigner) -> str:
    return vkey(signer.origin, signer.public_key)


@lru_cache(maxsize=16)
def _key_id(name: str, public_key: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


@lru_cache(maxsize=16)
def _parse_vkey(text: str) -> tuple[str, bytes, bytes]:
    """(name, key id, raw key) of a verifier key. Raises BadNote."""
    match = _VKEY.fullmatch(text)
    key = _decode(match[3], 33) if match else b""
    if not match or key[:1] != _ED25519 or _key_id(match[1], key[1:]).hex() != match[2]:
        raise BadNote(f"{text!r} is not an Ed25519 verifier key")
    return match[1], bytes.fromhex(match[2]), key[1:]


def _signatures(text: str) -> tuple[tuple[str, bytes], ...]:
    found = []
    for line in text[:-1].split("\n"):
        match = _SIGNATURE.fullmatch(line)
        if not match:
            raise BadNote("not a checkpoint: a signature line is malformed")
        found.append((match[1], _decode(match[2])))
    return tuple(found)


def _decode(text: str, length: int | None = None) -> bytes:
    try:
        value = b64decode(text, validate=True)
    except ValueError:
        raise BadNote("not a checkpoint: bad base64") from None
    if length is not None and len(value) != length:
        raise BadNote(f"not a checkpoint: {len(value)} bytes where {length} belong")
    return value
