"""The fence between a log that lost events and whoever would go on issuing on it.

Owns the comparison of the database with the checkpoints saved outside it. A database restored from an older copy is whole in
itself; on it, serials would be given out again and revocations would be forgotten.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from . import head, notes, proofs, saved
from .append import append
from .bulk import read_rows
from .checkpoints import LogBehind, published
from .events import NewEvent
from .models import Checkpoint

__all__ = ["LogBehind", "NothingLost", "accept_loss", "check"]


class NothingLost(Exception):
    """Every saved checkpoint is continued by today's log: there is no loss to accept."""


def check() -> None:
    """Raises LogBehind unless today's log continues the newest saved checkpoint. As a rule, one look-up by key."""
    newest = published()
    if newest and not _continues(newest):
        raise LogBehind(
            f"the log has {head.size()} events and does not continue the published checkpoint of {newest.size}: the database "
            "was restored from an older copy. Restore a newer one, or give up what is lost: manage.py accept_log_loss"
        )


def accept_loss(reason: str, by: str, now: datetime) -> int:
    """Record that `by` gives up the events the log lost, and file the checkpoints that cover them away; the event's
    position. A crash between the two leaves the fence shut: the operator runs it again. Raises NothingLost."""
    lost = [note for note in saved.all_notes() if not _continues(note)]
    if not lost:
        raise NothingLost("the log continues every saved checkpoint")
    data = {"lost_checkpoint": lost[-1].text, "size": lost[-1].size, "reason": reason, "by": by}
    with transaction.atomic():
        (event,) = append([NewEvent("quicklime/log.loss_accepted/1-0-0", "log", data)], now)
    saved.file_away(lost, now)
    return event.position


def _continues(note: notes.Note) -> bool:
    """The log holds that very checkpoint, or else (made by another signature, or its row lost) has that root at that size."""
    if read_rows(Checkpoint, ("size",), "WHERE size = %s AND note = %s", [note.size, note.text]):
        return True
    return head.size() >= note.size and proofs.root_at(note.size) == note.root
