"""A full disk below a running installation: nothing is accepted that cannot be kept, and work goes on once there is room."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.material import many
from tests.processes import eventually

from .installation import BEAT, WEB, WORKER, Client, Installation, SmallDisk

pytestmark = pytest.mark.timeout(120)
MANY, KEYS = 300, [f"single-{number}" for number in range(6)]
FULL = 3.0  # seconds: long enough for beat, worker and Redis to run into it as well


@pytest.fixture
def client(installation: Installation) -> Iterator[Client]:
    with installation.client("disk") as client:
        yield client


def test_disk_full(installation: Installation, disk: SmallDisk, client: Client) -> None:
    if not disk.small:
        refused = "only root may mount the small file system that this test fills"
        assert not os.environ.get("CI"), refused
        pytest.skip(refused)
    csrs = many(MANY)
    first = client.submit(csrs[0], "before", wait=10).body
    before, certificate = first["id"], first["certificate"]
    eventually(lambda: installation.status(certificate) == "good")
    processes = installation.pids_of(WEB) | installation.pids_of(WORKER)
    if installation.postgresql:
        # A write-ahead log that cannot grow ends PostgreSQL, as its documentation says: see that it need not.
        installation.postgresql.execute("SELECT pg_switch_wal()")
        installation.postgresql.execute("CHECKPOINT")

    accepted: dict[str, str] = {}
    with disk.full():
        began = time.monotonic()
        while time.monotonic() < began + FULL:
            assert client.submit_many(csrs, "many").status == 503
            accepted |= _accepted_singly(client)
            for path in (f"/api/v1/requests/{before}/", "/api/v1/certificates/", "/log/checkpoint"):
                assert client.get(path).status == 200, "reading needs no room"
            assert installation.status(certificate) == "good"
        killed = installation.kill(BEAT)  # the supervisor says so, perhaps to a file on this disk, and starts it again
        eventually(lambda: installation.pids_of(BEAT) - killed)

    answer = client.submit_many(csrs, "many", wait=20)
    assert [result["status"] for result in answer.body["results"]] == [201] * MANY
    again = {key: client.submit(csrs[0], key, wait=20) for key in KEYS}
    assert {answer.status for answer in again.values()} == {201}
    assert {key: again[key].body["id"] for key in accepted} == accepted, "accepted on the full disk, and lost"
    assert client.issued() == 1 + MANY + len(KEYS), "a part of a refused submission was kept"
    assert installation.pids_of(WEB) | installation.pids_of(WORKER) == processes, "a process had to be started again"
    installation.judge()


def _accepted_singly(client: Client) -> dict[str, str]:
    """Key → request id of those for which there was room in some page."""
    answers = {key: client.submit(many(MANY)[0], key) for key in KEYS}
    assert {answer.status for answer in answers.values()} <= {201, 202, 503}
    assert max(answer.seconds for answer in answers.values()) < 3
    return {key: answer.body["id"] for key, answer in answers.items() if answer.status != 503}
