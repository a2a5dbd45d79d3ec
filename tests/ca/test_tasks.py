"""The periodic tasks, run in this process: what they do beside waking others."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from ca import tasks
from eventlog import checkpoints, saved


@pytest.mark.django_db(transaction=True)
def test_a_checkpoint_is_committed_before_it_is_published(hierarchy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[str] = []

    def publish(text: str, *_: Any) -> None:
        assert not connection.in_atomic_block, "a crash now would have published what no database remembers"
        published.append(text)

    monkeypatch.setattr(saved, "publish", publish)
    tasks.checkpoint()
    newest = checkpoints.latest()
    assert newest is not None
    assert set(published) == {newest.note}
