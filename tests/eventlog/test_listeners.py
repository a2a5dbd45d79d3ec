from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pytest
from django.db import transaction

from eventlog import head, listeners
from eventlog.append import NewEvent, StoredEvent, append
from eventlog.models import Event

from .support import ENDED, NOW, add, happened, rolled_back

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "_before", {})
    monkeypatch.setattr(listeners, "_after", {})


def ended(number: int) -> NewEvent:
    return NewEvent(ENDED, "alice", {"number": number})


def test_who_listens_to_a_type_is_given_its_events_before_they_are_there() -> None:
    calls: list[object] = []

    def listener(events: Sequence[NewEvent], now: datetime) -> None:
        calls.append(([event.data["number"] for event in events], now, Event.objects.count()))

    listeners.before_append("test.happened", listener)
    with transaction.atomic():
        append([happened(1), ended(2), happened(3)], NOW)
        append([ended(4)], NOW)
    assert calls == [([1, 3], NOW, 0)]


def test_a_listener_runs_before_the_head_is_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    lock = head.lock
    monkeypatch.setattr(head, "lock", lambda: (order.append("lock"), lock())[1])
    listeners.before_append("test.happened", lambda events, now: order.append("listener"))
    add(1)
    assert order == ["listener", "lock"]


def test_what_a_listener_raises_stops_the_append() -> None:
    def refuse(events: Sequence[NewEvent], now: datetime) -> None:
        raise ValueError("no")

    listeners.before_append("test.happened", refuse)
    with pytest.raises(ValueError, match="no"):
        add(1)
    assert not Event.objects.exists()


def test_after_the_commit_listeners_get_what_was_stored(django_capture_on_commit_callbacks: object) -> None:
    told: list[int] = []
    listeners.after_commit("test.happened", lambda stored: told.extend(event.position for event in stored))
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        with transaction.atomic():
            append([ended(1), happened(2)], NOW)
        assert told == []
    assert told == [2]


def test_nothing_is_told_of_what_was_rolled_back(django_capture_on_commit_callbacks: object) -> None:
    told: list[StoredEvent] = []
    listeners.after_commit("test.happened", told.extend)
    with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
        rolled_back(lambda: append([happened(1)], NOW))
    assert told == []


@pytest.mark.django_db(transaction=True)
def test_a_fault_after_the_commit_is_logged_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    told: list[StoredEvent] = []

    def fail(stored: Sequence[StoredEvent]) -> None:
        raise RuntimeError("broken listener")

    listeners.after_commit("test.happened", fail)
    listeners.after_commit("test.happened", told.extend)
    add(1)
    assert len(told) == 1
    assert "broken listener" in caplog.text


def test_where_nobody_listens_nothing_is_done(django_capture_on_commit_callbacks: object) -> None:
    listeners.after_commit("test.ended", lambda stored: None)
    with django_capture_on_commit_callbacks() as callbacks:  # type: ignore[operator]
        add(1, sign=None)
    assert callbacks == []
