"""The log's tables.

Event and Checkpoint only ever grow: triggers made by the first migration refuse UPDATE, DELETE, TRUNCATE and REPLACE
on them, whoever asks. Head, TileHash and Cursor are derived: `verify` checks the first two against the events, `rebuild` makes
the third anew. Backup is what somebody said. Nothing outside this app may write here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

if TYPE_CHECKING:
    _BigInteger = models.BigIntegerField[int, int]
else:
    _BigInteger = models.BigIntegerField


class PositionField(_BigInteger):
    """A 64-bit position or size as primary key. On SQLite it is the rowid itself: beside a hidden rowid, REPLACE could
    displace an old row by naming the rowid while the position looked new."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        return "integer" if connection.vendor == "sqlite" else super().db_type(connection)


class Event(models.Model):
    """One fact. `body` is what was hashed: RFC 8785 JSON {"data", "schema", "subject", "time"}; the other columns
    repeat what is searched for. `leaf_hash` = SHA-256(0x00 ‖ body), RFC 6962 §2.1."""

    position = PositionField(primary_key=True)
    time = models.DateTimeField()
    type = models.CharField(max_length=64)
    subject = models.CharField(max_length=200)
    body = models.BinaryField()
    leaf_hash = models.BinaryField(max_length=32)

    class Meta:
        indexes = [models.Index(fields=["subject", "position"], name="eventlog_event_subject")]

    def __str__(self) -> str:
        return f"{self.position}: {self.type}"


class Head(models.Model):
    """The single row (id 1) that an append locks: how many events there are, and the roots of the perfect subtrees
    they form, largest first, 32 bytes each."""

    id = models.SmallIntegerField(primary_key=True)
    size = models.BigIntegerField()
    nodes = models.BinaryField()


class Checkpoint(models.Model):
    """A signed statement that the first `size` events have the Merkle root `root`. Never two of one size."""

    size = PositionField(primary_key=True)
    root = models.BinaryField(max_length=32)
    time = models.DateTimeField()
    note = models.TextField()  # C2SP tlog-checkpoint, as published
    vkey = models.CharField(max_length=300)  # the key that signed it, C2SP signed-note verifier key


class TileHash(models.Model):
    """Root of the complete subtree over events index·256^level + 1 … (index + 1)·256^level; level 0 is Event.leaf_hash."""

    pk = models.CompositePrimaryKey("level", "index")
    level = models.SmallIntegerField()
    index = models.BigIntegerField()
    hash = models.BinaryField(max_length=32)


class Backup(models.Model):
    """The single row (id 1) that says when the first `size` events were last copied to elsewhere, and by what."""

    id = models.SmallIntegerField(primary_key=True)
    taken_at = models.DateTimeField()
    size = models.BigIntegerField()
    by = models.CharField(max_length=100)


class Cursor(models.Model):
    """How far a projection has read. `error` is why it stopped, empty while it runs."""

    name = models.CharField(max_length=64, primary_key=True)
    position = models.BigIntegerField(default=0)
    error = models.TextField(default="", blank=True)
