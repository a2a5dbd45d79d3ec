"""Kill -9 at each named point while somebody is reminded: the mail comes once at most, and once where nothing says it may have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connections

from ca import pipeline, tokens
from ca.models import Certificate, Token
from dashboard import expiry, reminders
from dashboard.models import Reminder, State
from eventlog.models import Event
from tests import oracle, processes
from tests.dashboard.postoffice import PostOffice, opened
from tests.material import csr

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("other_time")]
# point → (state that it leaves, letters delivered then, letters in the end)
POINTS = {
    "mail.claimed": (State.CLAIMED, 0, 1),
    "mail.handed": (State.HANDED, 0, 0),
    "mail.sent_before_mark": (State.HANDED, 1, 1),
}
RUN = """
from datetime import datetime
from dashboard import expiry, reminders
from eventlog import clock
clock.check = lambda now: None
now = datetime.fromisoformat({now!r})
expiry.flag_due(now)
reminders.send_due(now)
"""


@pytest.fixture
def office(settings: Any) -> Iterator[PostOffice]:
    with opened() as found:
        settings.EMAIL, settings.MAIL_TO = found.server, ("ops@example.org",)
        yield found


@pytest.fixture
def missed(hierarchy: None, now: datetime, run_pipeline: Callable[[], None]) -> datetime:
    """A certificate was issued; when its renewal is missed."""
    token = Token.objects.get(id=tokens.create("test", "alice", tokens.Scope(), now, by="test")[0])
    pipeline.submit(token, [pipeline.Submission(csr=csr("a.internal"))], now)
    run_pipeline()
    return Certificate.objects.get().not_before + timedelta(days=75)


def die(office: PostOffice, moment: datetime, point: str) -> None:
    environment = {"EMAIL_URL": office.url, "QUICKLIME_MAIL_TO": "ops@example.org", "QUICKLIME_CRASH": point}
    done = processes.run(RUN.format(now=moment.isoformat()), **environment)
    assert done.returncode == -9, done.stderr
    connections.close_all()


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(point: str, office: PostOffice, missed: datetime) -> None:
    state, delivered, in_the_end = POINTS[point]
    die(office, missed, point)
    assert Reminder.objects.get().state == state
    assert len(office.delivered) == delivered
    for minutes in (1, 11, 24 * 60):
        expiry.flag_due(missed + timedelta(minutes=minutes))
        reminders.send_due(missed + timedelta(minutes=minutes))
    assert len(office.delivered) == in_the_end
    assert Event.objects.filter(type="certificate.flagged").count() == 1
    oracle.check()

    # the next threshold is told in any case
    later = Certificate.objects.get().not_after - timedelta(days=1)
    expiry.flag_due(later)
    assert reminders.send_due(later) == 1
    assert len(office.delivered) == in_the_end + 1


def test_killed_between_the_flag_and_its_reminder(office: PostOffice, missed: datetime) -> None:
    """There is nothing between: both are one commit."""
    die(office, missed, "expiry.before_commit")
    assert not Event.objects.filter(type="certificate.flagged").exists()
    assert not Reminder.objects.exists()
    die(office, missed, "expiry.committed")
    assert Reminder.objects.get().state == State.DUE
    assert reminders.send_due(missed) == 1
    assert expiry.flag_due(missed) == 0
    assert len(office.delivered) == 1
