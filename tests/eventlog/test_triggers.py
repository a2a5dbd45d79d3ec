"""Event, Checkpoint and TileHash only grow, whoever asks the database for something else."""

from __future__ import annotations

import sqlite3

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction

from eventlog.models import Checkpoint, Event

from .support import NOW, add, execute, rows

pytestmark = pytest.mark.django_db
postgresql = pytest.mark.skipif("postgresql" not in settings.DATABASES["default"]["ENGINE"], reason="PostgreSQL's statement")
sqlite = pytest.mark.skipif("sqlite" not in settings.DATABASES["default"]["ENGINE"], reason="SQLite's statement")

COPY = "position + {by}, time, type, subject, body, leaf_hash FROM eventlog_event WHERE position = 2"
EVENT_COLUMNS = "(position, time, type, subject, body, leaf_hash)"

EVERYWHERE = [
    "UPDATE eventlog_event SET subject = 'mallory' WHERE position = 1",
    "UPDATE eventlog_event SET position = 4 WHERE position = 3",
    "DELETE FROM eventlog_event WHERE position = 3",
    "DELETE FROM eventlog_event",
    f"INSERT INTO eventlog_event {EVENT_COLUMNS} SELECT {COPY.format(by=1)}",
    f"INSERT INTO eventlog_event {EVENT_COLUMNS} SELECT {COPY.format(by=3)}",
    f"INSERT INTO eventlog_event {EVENT_COLUMNS} SELECT {COPY.format(by=-2)}",
    f"INSERT INTO eventlog_event {EVENT_COLUMNS} SELECT {COPY.format(by=-9)}",
    f"INSERT INTO eventlog_event {EVENT_COLUMNS} SELECT {COPY.format(by=-1)} ON CONFLICT (position) DO UPDATE SET subject = 'mallory'",
    "UPDATE eventlog_checkpoint SET note = ''",
    "DELETE FROM eventlog_checkpoint",
    "INSERT INTO eventlog_checkpoint (size, root, time, note, vkey) SELECT size, root, time, note, vkey FROM eventlog_checkpoint",
    "INSERT INTO eventlog_checkpoint (size, root, time, note, vkey) SELECT size - 1, root, time, note, vkey FROM eventlog_checkpoint",
    "UPDATE eventlog_tilehash SET hash = root FROM eventlog_checkpoint",
    "DELETE FROM eventlog_tilehash",
]
ON_POSTGRESQL = [
    "TRUNCATE eventlog_event",
    "TRUNCATE eventlog_checkpoint",
    "TRUNCATE eventlog_tilehash",
    "TRUNCATE eventlog_head, eventlog_event CASCADE",
    f"INSERT INTO eventlog_event {EVENT_COLUMNS} SELECT 4 + 2 * n, time, type, subject, body, leaf_hash"
    " FROM eventlog_event, generate_series(0, 1) n WHERE position = 2",
    "MERGE INTO eventlog_event USING (SELECT 1 AS p) s ON position = p WHEN MATCHED THEN DELETE",
]
ON_SQLITE = [
    f"REPLACE INTO eventlog_event {EVENT_COLUMNS} SELECT {COPY.format(by=-1)}",
    f"INSERT OR REPLACE INTO eventlog_event {EVENT_COLUMNS} SELECT {COPY.format(by=0)}",
    "UPDATE OR REPLACE eventlog_event SET position = 1 WHERE position = 2",
    "UPDATE eventlog_event SET rowid = 9 WHERE position = 3",
    "REPLACE INTO eventlog_checkpoint (size, root, time, note, vkey) SELECT size, root, time, '', vkey FROM eventlog_checkpoint",
    'REPLACE INTO eventlog_tilehash (level, "index", hash) SELECT level, "index", x\'00\' FROM eventlog_tilehash',
    "REPLACE INTO eventlog_tilehash (rowid, level, \"index\", hash) SELECT rowid, 9, 9, x'00' FROM eventlog_tilehash",
]


def everything() -> list[list[tuple[object, ...]]]:
    order = {"eventlog_event": "position", "eventlog_checkpoint": "size", "eventlog_tilehash": "level"}
    return [rows(f"SELECT * FROM {table} ORDER BY {column}") for table, column in order.items()]


@pytest.fixture
def log() -> None:
    add(*range(256))


@pytest.fixture
def three() -> None:
    add(1, 2, 3)


def refused(statement: str) -> None:
    before = everything()
    with pytest.raises(IntegrityError), transaction.atomic():
        execute(statement)
    assert everything() == before


@pytest.mark.parametrize("statement", EVERYWHERE)
def test_refused(statement: str, request: pytest.FixtureRequest):
    request.getfixturevalue("log" if "tilehash" in statement else "three")
    refused(statement)


@postgresql
@pytest.mark.parametrize("statement", ON_POSTGRESQL)
def test_refused_on_postgresql(statement: str, three: None):
    refused(statement)


@sqlite
@pytest.mark.parametrize("statement", ON_SQLITE)
def test_refused_on_sqlite(statement: str, request: pytest.FixtureRequest):
    request.getfixturevalue("log" if "tilehash" in statement else "three")
    refused(statement)


@sqlite
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("statement", EVERYWHERE + ON_SQLITE)
def test_refused_to_a_foreign_connection(statement: str, request: pytest.FixtureRequest):
    """Another program's connection has SQLite's defaults: no recursive_triggers."""
    request.getfixturevalue("log" if "tilehash" in statement else "three")
    before = everything()
    foreign = sqlite3.connect(str(connection.settings_dict["NAME"]), uri=True)
    try:
        assert foreign.execute("PRAGMA recursive_triggers").fetchone() == (0,)
        with pytest.raises(sqlite3.IntegrityError):
            foreign.execute(statement)
        foreign.rollback()
    finally:
        foreign.close()
    assert everything() == before


@sqlite
def test_naming_the_rowid_displaces_no_row(three: None):
    """Were position not the rowid itself, REPLACE could delete row 1 while it appends position 4."""
    before = rows("SELECT * FROM eventlog_event ORDER BY position")
    execute(f"REPLACE INTO eventlog_event (rowid, position, time, type, subject, body, leaf_hash) SELECT 1, {COPY.format(by=2)}")
    assert rows("SELECT * FROM eventlog_event ORDER BY position")[:3] == before


def test_the_orm_is_refused_too(three: None):
    for change in (
        lambda: Event.objects.filter(position=1).update(subject="mallory"),
        lambda: Event.objects.filter(position=3).delete(),
        lambda: Event.objects.get(position=2).delete(),
        lambda: Event(position=2, time=NOW, type="x", subject="x", body=b"", leaf_hash=b"").save(),
        lambda: Checkpoint.objects.all().delete(),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            change()
    assert Event.objects.count() == 3


def test_the_next_position_is_taken(three: None):
    """The statements above are refused for what they do, not because every INSERT is."""
    execute(f"INSERT INTO eventlog_event {EVENT_COLUMNS} SELECT {COPY.format(by=2)}")
    assert Event.objects.count() == 4


@pytest.mark.django_db(transaction=True)
def test_the_migration_can_be_undone_and_redone():
    call_command("migrate", "eventlog", "0001", verbosity=0)
    try:
        execute("UPDATE eventlog_event SET subject = 'mallory'")
    finally:
        call_command("migrate", "eventlog", verbosity=0)
    add(1)
    with pytest.raises(IntegrityError):
        execute("UPDATE eventlog_event SET subject = 'mallory'")
