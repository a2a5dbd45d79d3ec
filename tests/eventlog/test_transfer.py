from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import transaction

from eventlog import backups, checkpoints, events, fence, head, projections, saved, transfer
from eventlog.append import NewEvent, append
from eventlog.models import Checkpoint, Cursor, Event, Head, TileHash
from eventlog.projections import Projection
from eventlog.verify import verify

from .support import HAPPENED, NOW, SIGNER, add, execute, rows, unguarded
from .test_projections import names, write

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("publish_at_once")]
TABLES = {"eventlog_event": "position", "eventlog_head": "id", "eventlog_tilehash": "level"}


@pytest.fixture
def log() -> None:
    projections.register(Projection("follower", {"test.happened": write}, (Group,)))
    add(*range(300))
    with transaction.atomic():
        append([NewEvent(HAPPENED, 'ü\n"\\\U0001f511', {"number": 5, "\ufb33": "\x00", "\U0001f600": [None, -1, True, {}]})], NOW, SIGNER)
    projections.catch_up("follower")


def contents() -> list[list[tuple[object, ...]]]:
    return [
        [tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in rows(f"SELECT * FROM {t} ORDER BY {c}")]
        for t, c in TABLES.items()
    ]


def empty() -> None:
    """A new system: nothing in the database, the checkpoint directory still there."""
    with unguarded():
        for model in (Event, Checkpoint, TileHash, Head, Cursor, Group):
            execute(f"DELETE FROM {model._meta.db_table}")


def exported() -> list[bytes]:
    return list(transfer.export())


def test_a_line_is_one_event_as_json(log: None):
    lines = exported()
    assert len(lines) == 301
    assert all(line.count(b"\n") == 1 and line.endswith(b"}\n") for line in lines)
    parsed = json.loads(lines[-1])
    row = Event.objects.get(position=301)
    assert list(parsed) == ["event", "hash", "position", "subject", "time", "type"]
    assert (parsed["position"], parsed["type"], parsed["hash"]) == (301, "test.happened", bytes(row.leaf_hash).hex())
    assert parsed["subject"] == parsed["event"]["subject"] == row.subject


def test_import_gives_back_the_same_log_byte_for_byte(log: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(events, "CHUNK", 64)
    before, lines, groups = contents(), exported(), names()
    empty()
    assert transfer.load(iter(lines)) == 301
    assert contents() == before
    assert exported() == lines
    assert projections.rebuild("follower") == 301
    assert names() == groups


def test_the_log_goes_on_after_an_import(log: None):
    lines = exported()
    empty()
    transfer.load(lines)
    assert checkpoints.sign_pending(SIGNER, NOW) is not None
    add(7)
    fence.check()
    assert verify().ok


def test_the_commands(log: None, tmp_path: Path):
    before, groups = contents(), names()
    call_command("export_log", tmp_path / "log.ndjson")
    printed = StringIO()
    call_command("export_log", stdout=printed)
    assert printed.getvalue().encode() == (tmp_path / "log.ndjson").read_bytes() == b"".join(exported())
    with pytest.raises(CommandError, match="already holds events"):
        call_command("import_log", tmp_path / "log.ndjson")
    empty()
    out = StringIO()
    call_command("import_log", tmp_path / "log.ndjson", stdout=out)
    assert out.getvalue() == "301 events\n"
    assert contents() == before
    assert names() == groups
    with pytest.raises(CommandError):
        call_command("import_log", tmp_path / "missing")


def test_an_existing_file_is_not_overwritten(log: None, tmp_path: Path):
    (tmp_path / "log").write_text("precious")
    with pytest.raises(FileExistsError):
        call_command("export_log", tmp_path / "log")
    assert backups.standing(NOW).taken_at is None


def test_a_file_is_noted_as_a_backup_and_what_is_printed_is_not(log: None, tmp_path: Path):
    call_command("export_log", stdout=StringIO())
    assert (backups.standing(NOW).taken_at, backups.standing(NOW).since) == (None, 301)
    call_command("export_log", tmp_path / "log")
    add(2)
    found = backups.standing(datetime.now(UTC))
    assert (found.by, found.since) == ("export_log", 1)
    assert found.age < timedelta(minutes=5)


def test_a_command_that_fails_is_no_backup(log: None):
    for command in (["false"], ["/nowhere/to/be/found"], []):
        with pytest.raises(CommandError):
            call_command("note_backup", *command)
    assert backups.standing(NOW).taken_at is None
    out = StringIO()
    call_command("note_backup", "test", "-n", "x", stdout=out)
    assert out.getvalue() == "noted: 301 events\n"
    assert backups.standing(NOW).by == "test"


def altered(lines: list[bytes]) -> dict[str, list[bytes]]:
    middle = lines[149]
    return {
        "a changed value": [*lines[:149], middle.replace(b'"number":149', b'"number":150'), *lines[150:]],
        "a changed hash": [*lines[:149], middle.replace(b'"hash":"', b'"hash":"0', 1), *lines[150:]],
        "a changed subject beside the event": [
            *lines[:149],
            middle.replace(b'"subject":"alice","time"', b'"subject":"mally","time"', 2),
            *lines[150:],
        ],
        "a missing line": lines[:149] + lines[150:],
        "swapped lines": [*lines[:149], lines[150], lines[149], *lines[151:]],
        "a doubled line": [*lines[:149], lines[149], *lines[149:]],
        "spaces": [*lines[:149], middle.replace(b":", b": ", 1), *lines[150:]],
        "no end of line": [*lines[:300], lines[300][:-1]],
        "a float": [*lines[:149], middle.replace(b'"number":149', b'"number":149.0'), *lines[150:]],
        "a doubled key": [*lines[:149], middle.replace(b'"number":149', b'"number":149,"number":149'), *lines[150:]],
        "no JSON": [*lines[:149], b"\x00\n", *lines[150:]],
        "another JSON": [*lines[:149], b"[]\n", *lines[150:]],
        "an empty object": [*lines[:149], b"{}\n", *lines[150:]],
        "an empty line": [*lines[:149], b"\n", *lines[149:]],
    }


@pytest.mark.parametrize("what", list(altered([b""] * 301)))
def test_an_altered_export_is_refused_whole(log: None, what: str):
    lines = altered(exported())[what]
    empty()
    with pytest.raises(transfer.BadExport, match=r"^line 1(49|50|51):|^line 301:"):
        transfer.load(lines)
    assert Event.objects.count() == head.size() == 0


def test_an_export_that_lacks_its_end_contradicts_the_saved_checkpoint(log: None):
    lines = exported()
    empty()
    with pytest.raises(fence.LogBehind):
        transfer.load(lines[:300])
    assert Event.objects.count() == 0


def test_another_log_contradicts_the_saved_checkpoint(log: None, checkpoint_dir: Path):
    kept = (checkpoint_dir / "checkpoint").read_bytes()
    empty()
    saved.file_away(saved.all_notes(), NOW)
    add(*range(400))
    lines = exported()
    empty()
    (checkpoint_dir / "checkpoint").write_bytes(kept)
    with pytest.raises(fence.LogBehind):
        transfer.load(lines)
