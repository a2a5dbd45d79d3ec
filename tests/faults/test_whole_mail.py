"""A mail server that never answers, below a running installation: nobody waits for it, and what it kept back is told afterwards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import pytest

from tests.dashboard.postoffice import PostOffice, dripping, opened
from tests.material import many
from tests.processes import eventually

from .installation import Answer, Client, Installation

pytestmark = pytest.mark.timeout(120)
AT_ONCE = 8


def submission(client: Client, csr: bytes, **more: str) -> Answer:
    return client.submit(csr, f"{uuid4()}", wait=10, **more)


def test_a_mail_server_that_hangs(installation: Installation) -> None:
    service, processes = f"service-{uuid4()}", installation.children()
    soon = f"{datetime.now(UTC) + timedelta(seconds=14):%Y-%m-%dT%H:%M:%SZ}"  # after a minute of life before: 80 % are over
    with installation.client(service) as client:
        assert submission(client, many(1)[0], node="forgotten", not_after=soon).status == 201
    with dripping(installation.mail) as hanging:
        installation.python("from dashboard.tasks import remind; remind.delay()")  # as beat does once a minute
        eventually(hanging.calling.is_set)
        answers = installation.at_once(service, [partial(submission, csr=csr) for csr in many(AT_ONCE)])
        assert {answer.status for answer in answers} == {201}
        with installation.client(service) as client:
            assert client.revoke(answers[0].body["certificate"]).body["status"] == "revoked"
            eventually(lambda: client.get(f"/api/v1/services/{service}/").status == 200)  # a projection, which follows
        assert hanging.calling.is_set(), "it hangs still"

    with opened(installation.mail) as office:
        eventually(lambda: installation.manage("send_reminders") and office.delivered)
        installation.manage("send_reminders")
        assert told_once(office)
    assert installation.children() == processes, "a process had to be started again"
    installation.judge()


def told_once(office: PostOffice) -> bool:
    """Once for each threshold: time passes."""
    subjects = [letter["Subject"] for letter in office.letters["ops@example.org"]]
    return len(set(subjects)) == len(subjects) == len(office.delivered)
