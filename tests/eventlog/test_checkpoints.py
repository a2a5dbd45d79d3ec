"""Checkpoints in the database and outside it."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import transaction

from eventlog import checkpoints, notes, saved
from eventlog.append import append
from eventlog.models import Checkpoint, Event

from .support import NOW, SIGNER, VKEY, add, happened, naive_root, rolled_back

transactional = pytest.mark.django_db(transaction=True)


def leaves() -> list[bytes]:
    return [bytes(leaf) for leaf in Event.objects.order_by("position").values_list("leaf_hash", flat=True)]


@pytest.mark.django_db
def test_an_append_stores_its_checkpoint():
    add(1, 2, 3)
    newest = checkpoints.latest()
    assert newest is not None
    assert (newest.size, bytes(newest.root), newest.time, newest.vkey) == (3, naive_root(leaves()), NOW, VKEY)
    note = notes.parse(newest.note)
    note.verify(VKEY)
    assert (note.size, note.root) == (3, naive_root(leaves()))


@pytest.mark.django_db
def test_without_a_signer_there_is_none():
    add(1, sign=None)
    assert checkpoints.latest() is None


@transactional
def test_the_checkpoint_is_saved_outside_after_the_commit(checkpoint_dir: Path):
    with transaction.atomic():
        append([happened(1)], NOW, SIGNER)
        assert not checkpoint_dir.exists()
    assert (checkpoint_dir / "checkpoint").read_text() == Checkpoint.objects.get().note
    assert (checkpoint_dir / "vkey").read_text() == VKEY + "\n"
    assert saved.vkeys() == (VKEY,)


@transactional
def test_what_rolls_back_is_never_published(checkpoint_dir: Path):
    rolled_back(lambda: append([happened(1)], NOW, SIGNER))
    assert not checkpoint_dir.exists()


@transactional
def test_the_newest_replaces_and_each_day_keeps_its_first(checkpoint_dir: Path):
    for days in (0, 0, 1, 1, 2):
        add(1, now=NOW + timedelta(days=days))
    newest = saved.newest()
    assert newest is not None
    assert newest.size == 5
    assert [note.size for note in saved.all_notes()] == [1, 3, 5, 5]
    assert sorted(file.name for file in (checkpoint_dir / "daily").iterdir()) == ["2026-01-31", "2026-02-01", "2026-02-02"]


@transactional
def test_an_older_checkpoint_does_not_replace_a_newer(checkpoint_dir: Path):
    """Two processes commit in one order and may come to their files in the other."""
    add(1)
    first = Checkpoint.objects.get()
    add(2)
    saved.publish(first.note, first.vkey, NOW)
    newest = saved.newest()
    assert newest is not None
    assert newest.size == 2


@transactional
def test_many_publishers_leave_the_largest(checkpoint_dir: Path):
    texts = [notes.make(SIGNER, size, bytes(32)) for size in range(1, 121)]
    threads = [threading.Thread(target=lambda part=part: [saved.publish(text, VKEY, NOW) for text in texts[part::4]]) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (checkpoint_dir / "checkpoint").read_text() == texts[-1]


@transactional
def test_a_full_disk_outside_undoes_no_commit_and_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    def full(file: int, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(saved, "_overwrite", full)
        assert add(1)[0].position == 1
    assert "No space left on device" in caplog.text
    assert saved.newest() is None
    add(2)
    newest = saved.newest()
    assert newest is not None
    assert newest.size == 2


@transactional
def test_sign_pending(checkpoint_dir: Path):
    assert checkpoints.sign_pending(SIGNER, NOW) is None
    add(1, 2, sign=None)
    newest = checkpoints.sign_pending(SIGNER, NOW)
    assert newest is not None
    assert newest.size == 2
    assert checkpoints.sign_pending(SIGNER, NOW + timedelta(hours=1)) == newest
    assert Checkpoint.objects.count() == 1
    assert (checkpoint_dir / "checkpoint").read_text() == newest.note


@transactional
def test_sign_pending_saves_what_a_crash_kept_from_being_saved(checkpoint_dir: Path):
    add(1)
    (checkpoint_dir / "checkpoint").unlink()
    checkpoints.sign_pending(SIGNER, NOW)
    assert (checkpoint_dir / "checkpoint").read_text() == Checkpoint.objects.get().note


@transactional
def test_sign_pending_publishes_nothing_that_may_still_roll_back(checkpoint_dir: Path):
    add(1, sign=None)
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        checkpoints.sign_pending(SIGNER, NOW)
    assert not checkpoint_dir.exists()


@transactional
def test_no_checkpoint_is_signed_for_a_log_behind_a_saved_one():
    add(1)
    saved.publish(notes.make(SIGNER, 5, bytes(32)), VKEY, NOW)
    for attempt in (lambda: add(2), lambda: add(2, 3, 4, 5)):
        with pytest.raises(checkpoints.LogBehind):
            attempt()
    add(2, sign=None)
    with pytest.raises(checkpoints.LogBehind):
        checkpoints.sign_pending(SIGNER, NOW)
    assert Checkpoint.objects.count() == 1


PUBLISHER = """
import pathlib, sys
from django.conf import settings
settings.configure(CHECKPOINT_DIR=pathlib.Path(sys.argv[1]))
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from datetime import UTC, datetime
from eventlog import notes, saved
class Signer:
    origin, public_key, sign = "test/log", bytes.fromhex(sys.argv[2]), Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32).sign
newest = saved.newest()
size = newest.size if newest else 0
while True:
    size += 1
    saved.publish(notes.make(Signer, size, bytes(32)), notes.vkey_of(Signer), datetime(2026, 1, 31, tzinfo=UTC))
"""


def test_kill_9_while_publishing_leaves_the_old_one_or_the_new(checkpoint_dir: Path):
    """A process that does nothing but publish is killed again and again: the file is always a whole checkpoint."""
    reached = 0
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", PUBLISHER, str(checkpoint_dir), SIGNER.public_key.hex()])
        while (newest := saved.newest()) is None or newest.size <= reached:
            newest and newest.verify(VKEY)
            assert process.poll() is None
        process.kill()
        process.wait()
        newest = saved.newest()
        assert newest is not None
        newest.verify(VKEY)
        reached = newest.size


@pytest.mark.parametrize("content", [b"garbage", b"\xff\xfe", notes.make(SIGNER, 5, bytes(32)).encode()[:-20]])
def test_a_damaged_file_is_not_no_file(checkpoint_dir: Path, content: bytes):
    checkpoint_dir.mkdir()
    (checkpoint_dir / "checkpoint").write_bytes(content)
    with pytest.raises(notes.BadNote):
        saved.newest()
