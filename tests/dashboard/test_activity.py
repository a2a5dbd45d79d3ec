"""Events are counted by hour, and the days on which certificates end, as the log is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dashboard import activity, tasks
from dashboard.models import Ending
from eventlog import projections
from eventlog.models import Cursor

from .support import Issue, Renew, revoked

pytestmark = pytest.mark.django_db


def endings() -> dict[str, int]:
    projections.catch_up("expiry")
    return {str(row.day): row.count for row in Ending.objects.all() if row.count}


def test_by_hour_and_type(issue: Issue, now: datetime) -> None:
    one, _ = issue(), issue("b.internal")
    projections.catch_up(activity.NAME)
    issue("c.internal")
    revoked(one, now + timedelta(hours=3))
    projections.catch_up(activity.NAME)
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    assert activity.since(hour) == {(hour, activity.ISSUED): 3, (hour + timedelta(hours=3), activity.REVOKED): 1}
    assert activity.since(hour + timedelta(hours=1)) == {(hour + timedelta(hours=3), activity.REVOKED): 1}


def test_ends_are_counted_while_they_are_to_come(issue: Issue, renew: Renew, now: datetime) -> None:
    one = issue(not_after=now + timedelta(days=5))
    issue("b.internal", not_after=now + timedelta(days=5))
    day = f"{one.not_after:%Y-%m-%d}"
    assert endings() == {day: 2}
    two = renew(one)
    assert endings() == {day: 2}, "its successor lives as long"
    revoked(two, datetime.now(UTC))
    assert endings() == {day: 1}
    three = issue("b.internal", not_after=now + timedelta(days=50))
    assert endings() == {f"{three.not_after:%Y-%m-%d}": 1}


def test_the_task_reads_on_and_survives_a_stopped_projection(issue: Issue, monkeypatch: pytest.MonkeyPatch) -> None:
    issue()
    real = projections.catch_up

    def catch_up(name: str, **how: object) -> int:
        if name == activity.NAME:
            raise RuntimeError("stopped")
        return real(name, **how)

    monkeypatch.setattr(projections, "catch_up", catch_up)
    tasks.follow()
    assert endings()
    monkeypatch.undo()
    tasks.follow()
    assert Cursor.objects.get(name=activity.NAME).position == Cursor.objects.get(name="expiry").position
