"""Verification: is the log what was appended and signed?

Reads every event once, in order, with memory that does not grow, and holds it against its hash, its columns, the tile hashes,
the head, and the signed checkpoints inside and outside the database. Must never repair anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import merge
from operator import attrgetter
from pathlib import Path

from django.db import transaction
from django.db.models import Max, TextField
from django.db.models.functions import Cast

from . import events, head, notes, saved
from .merkle import Tree, leaf_hash
from .models import Checkpoint, Event, TileHash

Progress = Callable[[int, int], None]  # (position reached, size of the log)


@dataclass(frozen=True)
class Report:
    """`size` events were read, `checkpoints` compared. `problem` is "" when the log is whole; else `first_bad` is the first
    position that nothing vouches for: the bad one itself, or the first behind the last checkpoint that holds."""

    size: int
    root: bytes
    checkpoints: int
    first_bad: int | None = None
    problem: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem


_Row = tuple[int, str, str, str, bytes, bytes]
_CHECKED = Event.objects.order_by("position").values_list(
    "position", Cast("time", TextField()), "type", "subject", "body", "leaf_hash"
)  # a time as text is compared without being parsed


class _Bad(Exception):
    def __init__(self, position: int, problem: str) -> None:
        super().__init__(problem)
        self.position, self.problem = position, problem


@dataclass(frozen=True)
class _Snapshot:
    """The log at one moment; what is appended later is not looked at."""

    tree: Tree
    last: int  # the largest position
    signed: int  # the largest checkpoint


def verify(checkpoint_dir: Path | None = None, progress: Progress | None = None, keys: tuple[str, ...] = ()) -> Report:
    """Check the whole log against itself and the checkpoints in `checkpoint_dir` (default: the setting's).

    `keys` are the verifier keys to believe; default: those saved with the checkpoints, and only if there are none, those
    in the database, which then vouches for itself.
    """
    try:
        outside = saved.all_notes(checkpoint_dir)
    except notes.BadNote as error:
        return Report(0, b"", 0, None, f"a saved checkpoint cannot be read: {error}")
    scan = _Scan(outside, keys or saved.vkeys(checkpoint_dir), _snapshot())
    try:
        scan.run(progress)
    except _Bad as bad:
        return Report(scan.tree.size, scan.tree.root(), scan.compared, bad.position, bad.problem)
    return Report(scan.tree.size, scan.tree.root(), scan.compared)


def _snapshot() -> _Snapshot:
    """Under the sequencer's lock, held for three queries, so that head, events and checkpoints are of one moment."""
    with transaction.atomic():
        tree = head.lock()
        last = Event.objects.aggregate(last=Max("position"))["last"] or 0
        signed = Checkpoint.objects.aggregate(size=Max("size"))["size"] or 0
    return _Snapshot(tree, last, signed)


class _Scan:
    """One pass over the log. `good` is the size of the last checkpoint that was signed and matched."""

    def __init__(self, outside: list[notes.Note], keys: tuple[str, ...], snapshot: _Snapshot) -> None:
        self.tree, self.compared, self._good = Tree(), 0, 0
        self._keys, self._snapshot = keys, snapshot
        self._notes = merge(outside, self._stored_notes(), key=attrgetter("size"))
        self._note = next(self._notes, None)

    def run(self, progress: Progress | None) -> None:
        """Raises _Bad at the first position that does not hold."""
        for row in _rows(self._snapshot.last):
            self._event(row)
            if progress and not self.tree.size % events.CHUNK:
                progress(self.tree.size, self._snapshot.last)
        self._end()

    def _event(self, row: _Row) -> None:
        expected = self.tree.size + 1
        if row[0] != expected:
            raise _Bad(expected, f"event {expected} is missing")
        _check_row(row)
        self.tree.add(row[5])
        if self.tree.complete:
            self._tile_hashes()
        while self._note and self._note.size == expected:
            self._checkpoint(self._note)
            self._note = next(self._notes, None)

    def _tile_hashes(self) -> None:
        for level, index, value in self.tree.complete:
            kept = TileHash.objects.filter(level=level, index=index).values_list("hash", flat=True).first()
            if kept is None or bytes(kept) != value:
                raise self._since_good(f"the stored hash of tile level {level}, entry {index} is not that of the events")
        self.tree.complete.clear()

    def _checkpoint(self, note: notes.Note) -> None:
        try:
            _verify_signature(note, self._keys)
        except notes.BadNote as error:
            raise self._since_good(str(error)) from None
        if note.root != self.tree.root():
            raise self._since_good(f"the events are not those over which the checkpoint of size {note.size} was signed")
        self._good = note.size
        self.compared += 1

    def _end(self) -> None:
        size, expected = self.tree.size, self._snapshot.tree
        if self._note:
            raise _Bad(size + 1, f"a checkpoint of {self._note.size} events was signed; those after {size} are missing")
        if size < expected.size:
            raise _Bad(size + 1, f"the head counts {expected.size} events; those after {size} are missing")
        if size > expected.size:
            raise _Bad(expected.size + 1, f"the head counts {expected.size} events; those after it were not appended by Quicklime")
        if self.tree.nodes != expected.nodes:
            raise self._since_good("the events are not those that the head was computed over")

    def _since_good(self, problem: str) -> _Bad:
        first = self._good + 1
        return _Bad(first, f"{problem}: the fault lies at {first} or behind, at most at {max(self.tree.size, first)}")

    def _stored_notes(self) -> Iterator[notes.Note]:
        """The database's own checkpoints, oldest first."""
        after = 0
        while rows := Checkpoint.objects.filter(size__gt=after, size__lte=self._snapshot.signed).order_by("size")[: events.CHUNK]:
            for row in rows:
                after = row.size
                yield self._stored_note(row)

    def _stored_note(self, row: Checkpoint) -> notes.Note:
        try:
            note = notes.parse(row.note)
        except notes.BadNote as error:
            raise self._since_good(f"checkpoint {row.size}: {error}") from None
        if (note.size, note.root) != (row.size, bytes(row.root)):
            raise self._since_good(f"checkpoint {row.size} contradicts its own note")
        self._keys = self._keys or (row.vkey,)
        return note


def _verify_signature(note: notes.Note, keys: tuple[str, ...]) -> None:
    """Raises BadNote unless the holder of one of `keys` signed the note."""
    *others, last = keys or ("",)
    for key in others:
        try:
            return note.verify(key)
        except notes.BadNote:
            continue
    note.verify(last)


def _rows(upto: int) -> Iterator[_Row]:
    position = 0
    while chunk := list(_CHECKED.filter(position__gt=position, position__lte=upto)[: events.CHUNK]):
        yield from chunk
        position = chunk[-1][0]


def _check_row(row: _Row) -> None:
    """The event's own columns: its hash, and that time, type and subject repeat what was hashed."""
    position, time, kind, subject, body, leaf = row
    if leaf_hash(body) != leaf:
        raise _Bad(position, f"event {position} was changed: its bytes do not have its hash")
    try:  # canonical JSON ends in schema, subject and time, and inside a text the key's quotes would be escaped
        parsed = json.loads(b"{" + body[body.rfind(b',"schema":') + 1 :])
        same = (parsed["time"], parsed["schema"].split("/")[1], parsed["subject"]) == (_rfc3339(time), kind, subject)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        same = False
    if not same:
        raise _Bad(position, f"event {position} was changed: its columns are not what its bytes say")


def _rfc3339(text: str) -> str:
    """As rfc3339() writes it, from a database's own text: "2026-01-31 08:00:00", ".5" for a half, "+00" on PostgreSQL."""
    day, _, time = text.removesuffix("+00").partition(" ")
    seconds, _, fraction = time.partition(".")
    return f"{day}T{seconds}.{fraction:0<6}Z"
