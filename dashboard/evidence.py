"""Proofs checked before the reader's eyes: that the log holds an event, that an older checkpoint is a part of it.

Owns the steps and their words. Each step is computed from the log's own bytes when the page is made; nothing is taken from a column
that merely says so.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Sequence
from typing import NamedTuple

from eventlog import checkpoints, head, merkle, notes, proofs, receipts, saved
from eventlog.models import Checkpoint


class Step(NamedTuple):
    """One thing that was computed and compared: whether it held, what it was, and the values."""

    ok: bool
    text: str
    values: Sequence[str] = ()


def of_event(position: int, certificate: bytes | None = None) -> list[Step]:
    """The receipt of an event, checked: its bytes → leaf → Merkle root → signed checkpoint. `certificate`: DER that the event
    must be about. Raises receipts.NotLogged."""
    try:
        receipt = receipts.receipt(position)
    except receipts.NotYetSigned:
        return [Step(False, "No checkpoint covers this event yet. One follows within seconds: load the page again.")]
    body = receipt["event"].encode()
    proof, _, note_text = receipt["tlog_proof"].partition("\n\n")
    note, path = notes.parse(note_text), [b64decode(line) for line in proof.split("\n")[2:]]
    leaf = merkle.leaf_hash(body)
    holds = merkle.verify_inclusion(leaf, position - 1, note.size, path, note.root)
    return [
        *(_certificate_step(body, certificate) if certificate is not None else ()),
        Step(True, f"The {len(body):,} bytes of event {position} hash to this leaf", [leaf.hex()]),
        Step(holds, f"{len(path)} hashes lead from the leaf to the root over {note.size:,} events", [note.root.hex()]),
        _signature(note, receipt["log_key"]),
    ]


def _certificate_step(body: bytes, der: bytes) -> list[Step]:
    logged = b64decode(json.loads(body)["data"].get("certificate", ""))
    return [Step(logged == der, f"The event holds exactly the {len(der):,} bytes of this certificate")]


def _signature(note: notes.Note, vkey: str) -> Step:
    try:
        note.verify(vkey)
    except notes.BadNote as error:
        return Step(False, f"The checkpoint's signature does not hold: {error}")
    return Step(True, "The log's key signed the checkpoint with that root", [vkey])


class Judgement(NamedTuple):
    """Whether the log is still the one that somebody knew, None where nothing could be compared; and what that rests on."""

    holds: bool | None
    steps: list[Step]


def nothing(text: str) -> Judgement:
    """`text` says why nothing could be compared."""
    return Judgement(None, [Step(False, text)])


def of_checkpoint(text: str) -> Judgement:
    """Whether the log today continues the checkpoint `text`, which somebody kept: who signed it, and the consistency proof from
    it to the newest one. What no key of this log signed says nothing about its history, and is not compared."""
    try:
        older = notes.parse(_normal(text))
    except notes.BadNote as error:
        return nothing(f"This is no checkpoint that could be read: {error}")
    newest = checkpoints.latest()
    if newest is None:
        return nothing("The log has no checkpoint yet to compare with.")
    signed = _signed_by_one_of(older, _known_keys(newest))
    if not signed.ok:
        return Judgement(None, [signed])
    today = notes.parse(newest.note)
    steps = [signed, _consistency(older, today), _signature(today, newest.vkey)]
    return Judgement(all(step.ok for step in steps), steps)


def _normal(text: str) -> str:
    """As it was published: a browser sends CRLF, an editor may begin a file with a byte order mark, copying loses the last newline."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").strip("\n") + "\n"


def _known_keys(newest: Checkpoint) -> list[str]:
    return list(dict.fromkeys((newest.vkey, *saved.vkeys())))


def _signed_by_one_of(note: notes.Note, vkeys: Sequence[str]) -> Step:
    for vkey in vkeys:
        step = _signature(note, vkey)
        if step.ok:
            return Step(True, f"The log's key signed your checkpoint of {note.size:,} events", [vkey])
    return Step(
        False, "No key of this log signed your checkpoint: it is another log's, or forged. If you saved it here, this is not the log it was"
    )


def _consistency(older: notes.Note, newest: notes.Note) -> Step:
    if older.size == 0:
        return Step(True, "Your checkpoint is of the empty log, which every log continues")
    if older.size > head.size() or older.size > newest.size:
        told = f"Your checkpoint is of {older.size:,} events, the newest one here of {newest.size:,}: the log lost some, or went on"
        return Step(False, told)
    path = proofs.consistency_proof(older.size, newest.size)
    holds = merkle.verify_consistency(older.size, newest.size, path, older.root, newest.root)
    if not holds:
        return Step(False, f"The first {older.size:,} events are not those of your checkpoint: history was changed", [older.root.hex()])
    told = f"{len(path)} hashes show its {older.size:,} events to be the first of today's {newest.size:,}"
    return Step(True, told, [newest.root.hex()])
