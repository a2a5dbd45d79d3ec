from __future__ import annotations

from base64 import b64decode, b64encode
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from eventlog import notes

from .support import SIGNER, VKEY, TestSigner

ROOT = sha256(b"root").digest()
TEXT = notes.make(SIGNER, 42, ROOT)


def test_a_checkpoint_is_byte_for_byte_what_c2sp_says():
    lines = TEXT.split("\n")
    assert lines[:4] == ["test/log", "42", b64encode(ROOT).decode(), ""]
    dash, name, signature = lines[4].split(" ")
    assert (dash, name, lines[5:]) == ("\u2014", "test/log", [""])
    raw = b64decode(signature)
    assert raw[:4] == sha256(b"test/log\n\x01" + SIGNER.public_key).digest()[:4]
    Ed25519PublicKey.from_public_bytes(SIGNER.public_key).verify(raw[4:], "\n".join(lines[:3]).encode() + b"\n")


def test_vkey():
    name, key_id, key = VKEY.split("+", 2)
    assert (name, b64decode(key)) == ("test/log", b"\x01" + SIGNER.public_key)
    assert key_id == sha256(b"test/log\n\x01" + SIGNER.public_key).hexdigest()[:8]


def test_parse():
    note = notes.parse(TEXT)
    assert (note.origin, note.size, note.root, note.text) == ("test/log", 42, ROOT, TEXT)
    note.verify(VKEY)


def test_further_signatures_do_not_matter():
    """A witness adds its own line, C2SP tlog-witness."""
    notes.parse(TEXT + "— witness.example AAAAAAAA\n").verify(VKEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "test/log",
        TEXT[:-1],
        TEXT.replace("\n\n", "\n"),
        TEXT.replace("42", "-42"),
        TEXT.replace("42", "042"),
        TEXT.replace("42", "4²"),
        TEXT.replace("42", "9" * 30),
        TEXT.replace("test/log\n", "\n", 1),
        TEXT.replace("42\n", "42\nextension\n"),
        TEXT.replace("—", "-"),
        TEXT.replace(b64encode(ROOT).decode(), b64encode(ROOT[1:]).decode()),
        TEXT.replace(b64encode(ROOT).decode(), "!" * 44),
        TEXT + "\n",
        TEXT + "trailing\n",
        TEXT.split("—")[0],
        TEXT.replace("\n", "\r\n"),
    ],
)
def test_not_a_checkpoint(text: str):
    with pytest.raises(notes.BadNote):
        notes.parse(text)


def signed_for(origin: str) -> str:
    """By the right key, but about another log."""
    body = f"{origin}\n42\n{b64encode(ROOT).decode()}\n"
    key_id = b64decode(TEXT.split(" ")[-1])[:4]
    return f"{body}\n— test/log {b64encode(key_id + SIGNER.sign(body.encode())).decode()}\n"


def forgeries() -> list[str]:
    raw = bytearray(b64decode(TEXT.split(" ")[-1]))
    raw[20] ^= 1
    flipped = b64encode(raw).decode()
    return [
        TEXT.replace("42", "43"),
        TEXT.replace(b64encode(ROOT).decode(), b64encode(sha256(b"other").digest()).decode()),
        TEXT.split("— ")[0] + f"— test/log {flipped}\n",
        TEXT.split("— ")[0] + "— test/log AAAA\n",
        TEXT.split("— ")[0] + f"— test/log {b64encode(b64decode(TEXT.split(' ')[-1])[:40]).decode()}\n",
        notes.make(TestSigner(seed=2), 42, ROOT),
        notes.make(TestSigner(origin="other/log"), 42, ROOT),
        TEXT.replace("test/log\n", "other/log\n", 1),
        signed_for("other/log"),
    ]


@pytest.mark.parametrize("text", forgeries())
def test_forged(text: str):
    with pytest.raises(notes.BadNote):
        notes.parse(text).verify(VKEY)


@pytest.mark.parametrize(
    "vkey",
    ["", "test/log", VKEY + "A", VKEY.replace("test", "best"), "test/log+00000000+" + VKEY.split("+", 2)[2], VKEY.split("+")[0] + "++"],
)
def test_not_a_vkey(vkey: str):
    with pytest.raises(notes.BadNote):
        notes.parse(TEXT).verify(vkey)
