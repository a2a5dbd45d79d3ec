from __future__ import annotations

from base64 import b64decode
from hashlib import sha256

import pytest

from eventlog import merkle, notes, receipts

from .support import VKEY, add

pytestmark = pytest.mark.django_db


def holds(receipt: dict[str, str], vkey: str) -> bool:
    """An offline verifier that shares only the hash and signature primitives with the log."""
    proof, note_text = receipt["tlog_proof"].split("\n\n", 1)
    version, index, *path = proof.split("\n")
    assert version == "c2sp.org/tlog-proof@v1"
    note = notes.parse(note_text)
    note.verify(vkey)
    leaf = sha256(b"\x00" + receipt["event"].encode()).digest()
    return merkle.verify_inclusion(leaf, int(index.removeprefix("index ")), note.size, [b64decode(line) for line in path], note.root)


@pytest.mark.parametrize("size", [1, 2, 7, 300])
def test_a_receipt_verifies_offline(size: int):
    events = add(*range(size))
    for position in {1, size // 2 or 1, size}:
        receipt = receipts.receipt(position)
        assert receipt["position"] == position
        assert receipt["log_key"] == VKEY
        assert receipt["event"].encode() == events[position - 1].body
        assert holds(receipt, VKEY)


def test_an_altered_receipt_does_not():
    add(*range(9))
    receipt = receipts.receipt(4)
    assert not holds({**receipt, "event": receipt["event"].replace("alice", "mally")}, VKEY)
    assert not holds({**receipt, "tlog_proof": receipt["tlog_proof"].replace("index 3", "index 4")}, VKEY)


def test_no_such_event():
    add(1)
    for position in (0, 2, -1):
        with pytest.raises(receipts.NotLogged):
            receipts.receipt(position)


def test_not_yet_signed():
    add(1, sign=None)
    with pytest.raises(receipts.NotYetSigned):
        receipts.receipt(1)
    add(2)
    add(3, sign=None)
    assert holds(receipts.receipt(1), VKEY)
    with pytest.raises(receipts.NotYetSigned):
        receipts.receipt(3)
