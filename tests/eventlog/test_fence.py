from __future__ import annotations

import json
import shutil
from io import StringIO
from pathlib import Path

import jsonschema
import pytest
from django.core.management import CommandError, call_command

from eventlog import checkpoints, fence, saved, schemas
from eventlog.models import Checkpoint, Event

from .support import NOW, SIGNER, add, execute, happened, unguarded

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("publish_at_once")]


def restore_to(size: int) -> None:
    """What restoring a dump of that moment does: the later rows are not there."""
    from eventlog.merkle import Tree

    tree = Tree()
    for leaf in Event.objects.filter(position__lte=size).order_by("position").values_list("leaf_hash", flat=True):
        tree.add(bytes(leaf))
    with unguarded():
        execute("DELETE FROM eventlog_event WHERE position > %s", [size])
        execute("DELETE FROM eventlog_checkpoint WHERE size > %s", [size])
        execute("UPDATE eventlog_head SET size = %s, nodes = %s", [size, tree.to_bytes()])


def test_a_new_system_may_issue():
    fence.check()


def test_a_log_at_or_ahead_of_its_checkpoint_may_issue():
    add(1, 2)
    fence.check()
    add(3, sign=None)
    fence.check()


def test_a_restored_older_database_may_not():
    add(1, 2)
    add(3)
    restore_to(2)
    with pytest.raises(fence.LogBehind, match="has 2 events and does not continue the published checkpoint of 3"):
        fence.check()


def test_an_emptied_database_may_not():
    add(1)
    restore_to(0)
    with pytest.raises(fence.LogBehind):
        fence.check()


def test_one_that_has_since_grown_past_it_may_not():
    add(1, 2)
    add(3)
    restore_to(2)
    add(7, 8, 9, sign=None)
    with pytest.raises(fence.LogBehind):
        fence.check()


def test_the_same_events_again_are_the_same_log():
    """Whoever replays the very same events has lost nothing, although the checkpoint's row is gone."""
    add(1, 2)
    add(3)
    restore_to(2)
    add(3, sign=None)
    fence.check()


def test_a_damaged_saved_checkpoint_shuts_the_fence(checkpoint_dir: Path):
    add(1)
    (checkpoint_dir / "checkpoint").write_text("half a checkp")
    for attempt in (fence.check, lambda: add(2), lambda: checkpoints.sign_pending(SIGNER, NOW)):
        with pytest.raises(fence.LogBehind, match="cannot be read"):
            attempt()
    assert Event.objects.count() == 1


def test_accepting_the_loss_is_logged_and_opens_the_fence(checkpoint_dir: Path):
    add(1, 2)
    add(3)
    lost = Checkpoint.objects.get(size=3).note
    restore_to(2)
    assert fence.accept_loss("the disk burnt", "bob", NOW) == 3
    fence.check()
    event = Event.objects.get(position=3)
    body = json.loads(bytes(event.body))
    assert event.type == "log.loss_accepted"
    assert body["data"] == {"lost_checkpoint": lost, "size": 3, "reason": "the disk burnt", "by": "bob"}
    jsonschema.validate(body["data"], schemas.document(body["schema"]))
    assert lost in [file.read_text() for file in (checkpoint_dir / "lost").iterdir()]
    newest = checkpoints.sign_pending(SIGNER, NOW)
    assert newest is not None
    assert newest.size == 3
    add(4)
    fence.check()


def test_checkpoints_before_the_loss_stay(checkpoint_dir: Path):
    add(1)
    add(2, now=NOW.replace(month=2, day=1))
    add(3, now=NOW.replace(month=2, day=2))
    restore_to(2)
    fence.accept_loss("-", "bob", NOW)
    assert [note.size for note in saved.all_notes()] == [1, 2]
    assert len(list((checkpoint_dir / "lost").iterdir())) == 2


def test_a_crash_between_event_and_files_leaves_the_fence_shut(monkeypatch: pytest.MonkeyPatch):
    add(1, 2)
    restore_to(1)

    def crash(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(saved, "file_away", crash)
        with pytest.raises(KeyboardInterrupt):
            fence.accept_loss("-", "bob", NOW)
    with pytest.raises(fence.LogBehind):
        fence.check()
    assert fence.accept_loss("-", "bob", NOW) == 3
    fence.check()


def test_without_a_loss_there_is_nothing_to_accept():
    add(1)
    with pytest.raises(fence.NothingLost):
        fence.accept_loss("-", "bob", NOW)
    assert Event.objects.count() == 1


def test_the_command(checkpoint_dir: Path):
    add(1, 2)
    with pytest.raises(CommandError, match="continues every saved checkpoint"):
        call_command("accept_log_loss", reason="-")
    restore_to(1)
    out = StringIO()
    call_command("accept_log_loss", reason="gone", by="bob", stdout=out)
    assert "position 2" in out.getvalue()
    fence.check()


def test_a_directory_lost_is_a_fence_lost(checkpoint_dir: Path):
    """What no one remembers cannot be missed: why the directory belongs on another disk."""
    add(1, 2)
    restore_to(1)
    shutil.rmtree(checkpoint_dir)
    fence.check()
    assert happened(1)
