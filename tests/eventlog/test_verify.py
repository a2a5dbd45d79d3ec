"""Vandalism of the tables, by one who may switch the triggers off, is found and placed."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from eventlog import merkle, notes, saved, tiles
from eventlog.append import NewEvent, append
from eventlog.models import Checkpoint, Event, TileHash
from eventlog.verify import Report, verify

from .support import HAPPENED, NOW, SIGNER, VKEY, TestSigner, add, execute, unguarded

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("publish_at_once")]
BATCHES = (1, 2, 3, 4, 270, 5, 6)  # sizes 1, 3, 6, 10, 280, 285, 291
LAST = 291


@pytest.fixture
def log() -> None:
    for size in BATCHES:
        add(*range(size))


def changed(body: bytes, number: int = 99) -> bytes:
    parsed = json.loads(body)
    parsed["data"]["number"] = number
    return json.dumps(parsed, separators=(",", ":"), sort_keys=True).encode()


def body_of(position: int) -> bytes:
    return bytes(Event.objects.get(position=position).body)


def set_body(position: int, body: bytes, rehash: bool = True) -> None:
    execute("UPDATE eventlog_event SET body = %s WHERE position = %s", [body, position])
    if rehash:
        execute("UPDATE eventlog_event SET leaf_hash = %s WHERE position = %s", [merkle.leaf_hash(body), position])


def rehash_everything() -> None:
    """What one does who knows the format: tile hashes and head anew over whatever the rows now hold."""
    tree = merkle.Tree()
    for leaf in Event.objects.order_by("position").values_list("leaf_hash", flat=True):
        tree.add(bytes(leaf))
    execute("DELETE FROM eventlog_tilehash")
    for level, index, value in tree.complete:
        execute('INSERT INTO eventlog_tilehash (level, "index", hash) VALUES (%s, %s, %s)', [level, index, value])
    execute("UPDATE eventlog_head SET size = %s, nodes = %s", [tree.size, tree.to_bytes()])


def bad(report: Report) -> tuple[int | None, str]:
    assert not report.ok
    return report.first_bad, report.problem


def test_a_whole_log(log: None):
    seen: list[tuple[int, int]] = []
    report = verify(progress=lambda *progress: seen.append(progress))
    assert report == Report(LAST, bytes(Checkpoint.objects.get(size=LAST).root), 9)
    assert report.ok


def test_texts_that_look_like_the_envelope():
    text = ',"schema":"quicklime/test.ended/1-0-0","subject":"mallory"}'
    with transaction.atomic():
        append([NewEvent(HAPPENED, text, {"schema": text, "z": {"schema": "x", "subject": "y"}})], NOW, SIGNER)
    assert verify().ok


def test_an_empty_log():
    assert verify() == Report(0, merkle.EMPTY_ROOT, 0)


def test_a_log_without_saved_checkpoints(log: None, tmp_path: Path):
    assert verify(tmp_path / "nothing").ok


@pytest.mark.parametrize("position", [1, 5, 256, 257, LAST])
def test_a_changed_byte(log: None, position: int):
    with unguarded():
        set_body(position, changed(body_of(position)), rehash=False)
    assert bad(verify())[0] == position


@pytest.mark.parametrize(("column", "value"), [("subject", "mallory"), ("type", "test.ended"), ("time", "2026-01-31 08:00:01+00:00")])
def test_a_changed_column(log: None, column: str, value: str):
    with unguarded():
        execute(f"UPDATE eventlog_event SET {column} = %s WHERE position = 7", [value.removesuffix("+00:00")])
    first, problem = bad(verify())
    assert first == 7
    assert "columns" in problem


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff", b"null"])
def test_bytes_that_are_no_event(log: None, body: bytes):
    with unguarded():
        set_body(7, body)
    assert bad(verify())[0] == 7


@pytest.mark.parametrize(("position", "first"), [(1, 1), (2, 2), (5, 4), (100, 11), (LAST, 286)])
def test_a_changed_and_re_hashed_event_is_placed_behind_the_last_checkpoint_that_holds(log: None, position: int, first: int):
    with unguarded():
        set_body(position, changed(body_of(position)))
    assert bad(verify())[0] == first


def test_a_single_event_under_its_own_checkpoint_is_placed_exactly():
    for number in range(6):
        add(number)
    with unguarded():
        set_body(4, changed(body_of(4)))
    assert bad(verify())[0] == 4


@pytest.mark.parametrize("rehash", [False, True])
def test_swapped_rows(log: None, rehash: bool):
    with unguarded():
        one, other = body_of(3), body_of(9)
        set_body(3, other)
        set_body(9, one)
        if rehash:
            rehash_everything()
    first, problem = bad(verify())
    assert first == 2
    assert "size 3 was signed" in problem


def test_swapped_bodies_without_their_hashes(log: None):
    with unguarded():
        one, other = body_of(4), body_of(9)
        set_body(4, other, rehash=False)
        set_body(9, one, rehash=False)
    assert bad(verify())[0] == 4


@pytest.mark.parametrize("position", [1, 100, LAST])
def test_a_deleted_row(log: None, position: int):
    with unguarded():
        execute("DELETE FROM eventlog_event WHERE position = %s", [position])
    assert bad(verify())[0] == position


def drop_tail(size: int) -> None:
    execute("DELETE FROM eventlog_event WHERE position > %s", [size])


@pytest.mark.parametrize("size", [290, 285, 256, 1])
def test_a_dropped_tail(log: None, size: int):
    with unguarded():
        drop_tail(size)
    assert bad(verify())[0] == size + 1


@pytest.mark.parametrize("size", [290, 285, 256, 1, 0])
def test_a_dropped_tail_with_the_head_set_back(log: None, size: int):
    with unguarded():
        drop_tail(size)
        rehash_everything()
    first, problem = bad(verify())
    assert first == size + 1
    assert "was signed" in problem


@pytest.mark.parametrize("size", [290, 285, 256, 1, 0])
def test_a_dropped_tail_with_the_databases_checkpoints_too(log: None, size: int):
    """Only what is saved outside remembers."""
    with unguarded():
        drop_tail(size)
        rehash_everything()
        execute("DELETE FROM eventlog_checkpoint WHERE size > %s", [size])
    first, problem = bad(verify())
    assert first == size + 1
    assert "events was signed" in problem


@pytest.mark.parametrize(("position", "first"), [(2, 2), (8, 7), (100, 11), (287, 286)])
def test_a_re_hashed_suffix(log: None, position: int, first: int):
    """Everything in the database is made anew behind the change, and checkpoints that no longer fit are deleted."""
    with unguarded():
        set_body(position, changed(body_of(position)))
        rehash_everything()
        execute("DELETE FROM eventlog_checkpoint WHERE size >= %s", [position])
    assert bad(verify())[0] == first


def test_a_re_hashed_suffix_with_checkpoints_signed_by_another_key(log: None):
    with unguarded():
        set_body(8, changed(body_of(8)))
        rehash_everything()
        mallory = TestSigner(seed=9)
        tree = merkle.Tree()
        for leaf in Event.objects.order_by("position").values_list("leaf_hash", flat=True):
            tree.add(bytes(leaf))
            if tree.size >= 8:
                forged = [notes.make(mallory, tree.size, tree.root()), tree.root(), notes.vkey_of(mallory), tree.size]
                execute("UPDATE eventlog_checkpoint SET note = %s, root = %s, vkey = %s WHERE size = %s", forged)
    first, problem = bad(verify())
    assert first == 7
    assert "not signed by" in problem


def test_the_whole_log_rewritten(log: None, checkpoint_dir: Path, tmp_path: Path):
    """With every trace inside replaced consistently the database is whole in itself; the outside contradicts it."""
    kept = tmp_path / "kept"
    checkpoint_dir.rename(kept)
    with unguarded():
        for table in ("event", "checkpoint", "tilehash", "head"):
            execute(f"DELETE FROM eventlog_{table}")
    mallory = TestSigner(seed=9)
    for size in BATCHES:
        add(*range(50, 50 + size), sign=mallory)
    saved.file_away(saved.all_notes(), NOW)
    (checkpoint_dir / "vkey").unlink()
    assert verify().ok
    assert bad(verify(kept))[0] == 1
    assert bad(verify(keys=(VKEY,)))[0] == 1


def test_an_event_added_past_append(log: None):
    with unguarded():
        execute(
            "INSERT INTO eventlog_event (position, time, type, subject, body, leaf_hash)"
            f" SELECT {LAST + 1}, time, type, subject, body, leaf_hash FROM eventlog_event WHERE position = 5"
        )
    assert bad(verify())[0] == LAST + 1


@pytest.mark.parametrize(
    "damage", ["UPDATE eventlog_tilehash SET hash = leaf_hash FROM eventlog_event WHERE position = 1", "DELETE FROM eventlog_tilehash"]
)
def test_a_damaged_tile_hash(log: None, damage: str):
    with unguarded():
        execute(damage)
    first, problem = bad(verify())
    assert first == 11
    assert "tile level 1" in problem


def test_a_damaged_head(log: None):
    add(1, sign=None)
    nodes = merkle.Tree.from_bytes(LAST + 1, bytes(32 * (LAST + 1).bit_count())).to_bytes()
    execute("UPDATE eventlog_head SET nodes = %s", [nodes])
    assert bad(verify())[0] == LAST + 1


def test_a_checkpoint_that_contradicts_its_note(log: None):
    with unguarded():
        execute("UPDATE eventlog_checkpoint SET root = %s WHERE size = 10", [bytes(32)])
    assert bad(verify())[0] == 7


def test_a_forged_file_outside(log: None, checkpoint_dir: Path):
    (checkpoint_dir / "checkpoint").write_text(notes.make(TestSigner(seed=9), LAST, merkle.EMPTY_ROOT))
    assert "not signed by" in bad(verify())[1]


def test_an_unreadable_file_outside(log: None, checkpoint_dir: Path):
    (checkpoint_dir / "daily" / "2026-01-31").write_text("garbage")
    first, problem = bad(verify())
    assert first is None
    assert "cannot be read" in problem


def test_a_split_view(log: None, checkpoint_dir: Path):
    """Two checkpoints of one size by the log's own key, and different roots: what a log must never sign."""
    (checkpoint_dir / "checkpoint").write_text(notes.make(SIGNER, LAST, merkle.EMPTY_ROOT))
    first, problem = bad(verify())
    assert first in (286, LAST + 1)
    assert f"size {LAST} was signed" in problem


def test_the_tiles_of_a_whole_log_are_its_hashes(log: None):
    assert TileHash.objects.count() == 1
    assert len(tiles.hashes(0, 0)) == 256


def test_the_command(log: None, checkpoint_dir: Path):
    out = StringIO()
    call_command("verify_log", stdout=out)
    assert out.getvalue().startswith("The log is whole: 291 events, 9 checkpoints hold, root ")
    call_command("verify_log", checkpoints=checkpoint_dir, key=[VKEY], stdout=out)
    with unguarded():
        drop_tail(280)
    with pytest.raises(CommandError, match="first bad position 281"):
        call_command("verify_log", stdout=out)


def test_appends_during_verification_do_not_disturb_it(log: None, monkeypatch: pytest.MonkeyPatch):
    real = merkle.Tree.add
    appended = False

    def add_during(tree: merkle.Tree, leaf: bytes) -> None:
        nonlocal appended
        if not appended:
            appended = True
            add(1, 2, 3)
        real(tree, leaf)

    monkeypatch.setattr(merkle.Tree, "add", add_during)
    assert verify().ok
    assert Event.objects.count() == LAST + 3
