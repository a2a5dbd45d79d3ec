"""Check-ins: what the holder of a certificate's key says is served in its place.

Owns who may say so, and the last word on each certificate. It is telemetry: not in the log, not rebuilt from it, and nothing that
is decided about a certificate's validity hangs on it. Must never let one node speak for another, nor an old word undo a newer one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from eventlog.bulk import insert_unless_taken

from . import renewal
from .errors import Problem
from .models import CheckIn
from .pki import proofs
from .renewal import Old

NONE = "none"  # somebody looked, and no certificate was shown
SERVED = rf"[0-9a-f]{{40}}|{NONE}"  # as a word has it, beside ""
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
SKEW = timedelta(minutes=5)  # that a node's clock may be off
INTERVAL = timedelta(seconds=30)  # between two check-ins of one certificate, at least


@dataclass(frozen=True, slots=True)
class Word:
    """`serial` 40 hex digits; `served` as CheckIn has it; `time` as it was written, which is what `signature` covers."""

    serial: str
    served: str
    time: str
    signature: bytes

    @property
    def said_at(self) -> datetime:
        return datetime.fromisoformat(self.time)


def check_in(word: Word, now: datetime) -> Old:
    """Take the node's word, whatever became of the certificate, which is returned. Raises Problem: notEntitled for a wrong proof and
    an unknown serial alike, after the same work; then checkInTime, and checkInRepeated for what is not later by INTERVAL than the
    word before."""
    old = _holder(word)
    if abs(word.said_at - now) > SKEW:
        raise Problem("checkInTime", f"it is {now:%Y-%m-%dT%H:%M:%SZ} here: set the node's clock", "time")
    if not _store(word, now):
        raise Problem("checkInRepeated", f"one of this time or later, or less than {INTERVAL.seconds} s before, was taken", "time")
    return old


def _holder(word: Word) -> Old:
    old = renewal.find({word.serial}).get(word.serial)
    key, issuer_key_id = renewal.signer(old.der) if old else (proofs.nobodys_key(), b"")
    proven = proofs.proves(key, word.signature, proofs.check_in_statement(issuer_key_id, word.serial, word.time, word.served))
    if old is None or not proven:
        raise Problem("notEntitled", "no certificate of this serial number is checked in by this proof")
    return old


def _store(word: Word, now: datetime) -> bool:
    """Whether it was news. Of two first ones at once one is; the other comes again."""
    earlier = CheckIn.objects.filter(serial=word.serial, said_at__lte=word.said_at - INTERVAL)
    if earlier.update(said_at=word.said_at, seen_at=now, served=word.served):
        return True
    (new,) = insert_unless_taken(CheckIn, ("serial", "said_at", "seen_at", "served"), [(word.serial, word.said_at, now, word.served)])
    return new
