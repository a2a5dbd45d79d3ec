"""Signed checkpoints of the log: made, stored, then published.

Owns the rule that a log must not sign two checkpoints that disagree: they are made under the sequencer's lock, are committed
before anyone sees them, and none is made for a log that is behind one saved outside.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from . import head, notes, saved
from .bulk import insert_rows
from .merkle import Tree
from .models import Checkpoint
from .notes import CheckpointSigner

__all__ = ["CheckpointSigner", "LogBehind", "latest", "published", "sign_pending", "store"]

_COLUMNS = ("size", "root", "time", "note", "vkey")


class LogBehind(Exception):
    """The database's log does not continue a checkpoint that was published: it was restored from an older copy, or forged."""


def published() -> notes.Note | None:
    """The newest checkpoint saved outside; None when there is none. Raises LogBehind for one that cannot be read: nobody can
    say then what the log must not contradict."""
    try:
        return saved.newest()
    except notes.BadNote as error:
        raise LogBehind(f"a saved checkpoint cannot be read: {error}") from None


def latest() -> Checkpoint | None:
    """The newest committed checkpoint."""
    return Checkpoint.objects.order_by("-size").first()


def store(tree: Tree, now: datetime, sign: CheckpointSigner) -> None:
    """Sign the head under the sequencer's lock and store the checkpoint; after the commit it is saved outside."""
    _refuse_behind(tree)
    root = tree.root()
    note, vkey = notes.make(sign, tree.size, root), notes.vkey_of(sign)
    insert_rows(Checkpoint, _COLUMNS, [(tree.size, root, now, note, vkey)])

    def publish() -> None:
        saved.publish(note, vkey, now)

    # robust: the commit stands whatever becomes of the file, which is logged; the next checkpoint brings it up to date.
    transaction.on_commit(publish, robust=True)


def sign_pending(sign: CheckpointSigner, now: datetime) -> Checkpoint | None:
    """Sign the head unless its checkpoint exists, and see that the newest is saved outside. None: the log is empty.
    Raises LogBehind; RuntimeError inside a transaction, whose end could still undo what is being published."""
    published()
    with transaction.atomic(durable=True):
        tree = head.lock()
        newest = latest()
        if tree.size > (newest.size if newest else 0):
            store(tree, now, sign)
    newest = latest()
    if newest:
        saved.publish(newest.note, newest.vkey, newest.time)
    return newest


def _refuse_behind(tree: Tree) -> None:
    """The cheap half of fence.check(), so that no process signs a contradiction however long ago it started."""
    newest = published()
    if newest and (newest.size > tree.size or (newest.size == tree.size and newest.root != tree.root())):
        raise LogBehind(f"the log has {tree.size} events, but a checkpoint of {newest.size} was published: restored from an older copy?")
