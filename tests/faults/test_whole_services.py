"""Redis or PostgreSQL away from a running installation: quick answers meanwhile, and afterwards all is as if nothing had been."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from uuid import uuid4

import pytest
from django.db import connection

from tests.material import many
from tests.processes import eventually

from .installation import Answer, Client, Installation

pytestmark = pytest.mark.timeout(120)
AT_ONCE = 8
Ask = Callable[[Client], Answer]
only_postgresql = pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite cannot be away")


@pytest.fixture
def client(installation: Installation) -> Iterator[Client]:
    with installation.client(f"service-{uuid4()}") as client:
        yield client


def submissions(count: int) -> list[Ask]:
    """Every second of them waits for its certificate."""
    return [partial(Client.submit, csr=csr, key=f"{uuid4()}", wait=number % 2) for number, csr in enumerate(many(count))]


@pytest.mark.parametrize("fault", [Installation.redis_killed, Installation.redis_paused])
def test_redis_away(fault: Callable[[Installation], AbstractContextManager[None]], installation: Installation, client: Client) -> None:
    processes = installation.children()
    with fault(installation):
        answers = [answer for _ in range(2) for answer in installation.at_once(client.service, submissions(AT_ONCE))]
        scraped = client.scrape()
    assert (scraped.status, scraped.seconds < 5) == (200, True)
    if installation.redis or fault is Installation.redis_paused:  # a private one that was killed may be back by now
        assert b'quicklime_check_ok{check="redis"} 0.0' in scraped.body
    assert b"quicklime_log_size" in scraped.body
    assert {answer.status for answer in answers} <= {201, 202, 503}
    assert max(answer.seconds for answer in answers) < 2

    # what was accepted ends by itself, and nothing else was stored
    accepted = {answer.body["id"] for answer in answers if answer.status != 503}
    for each in accepted:
        eventually(lambda path=f"/api/v1/requests/{each}/": client.get(path).body["status"] == "issued")
    assert client.issued() == len(accepted)
    assert client.submit(many(1)[0], "afterwards", wait=10).status == 201
    if installation.redis:
        assert installation.children() == processes, "a process had to be started again"


@only_postgresql
def test_database_away(installation: Installation, client: Client) -> None:
    assert installation.postgresql
    before = client.submit(many(1)[0], "before", wait=10).body
    reads = [
        f"/api/v1/requests/{before['id']}/", f"/api/v1/certificates/{before['certificate']['serial']}/", "/api/v1/certificates/",
        "/api/v1/issuers/", "/log/checkpoint",
    ]  # fmt: skip
    asks = [*submissions(3), *(partial(Client.get, path=path) for path in reads)]
    eventually(lambda: installation.status(before["certificate"]) == "good")
    processes, began = installation.children(), time.monotonic()
    with installation.postgresql.away():
        while time.monotonic() < began + 8:  # whoever tries again ever more seldom is late after that
            for answer in installation.at_once(client.service, asks):
                assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
                assert answer.body["code"] == "unavailable"
                assert int(answer.headers["Retry-After"]) > 0
                assert answer.seconds < 3
            assert installation.status(before["certificate"]) == "good"

    back = time.monotonic()
    eventually(lambda: client.get(reads[0]).status == 200)
    assert time.monotonic() < back + 3
    assert {answer.status for answer in installation.at_once(client.service, [partial(ask, wait=10) for ask in asks[:3]])} == {201}
    assert client.issued() == 1 + 3
    assert client.revoke(before["certificate"]).status == 200
    eventually(lambda: installation.status(before["certificate"]) == "revoked")
    assert installation.children() == processes, "a process had to be started again"
    installation.judge()


@only_postgresql
def test_every_database_connection_is_cut(installation: Installation, client: Client) -> None:
    assert installation.postgresql
    request = client.submit(many(1)[0], "before", wait=10).body["id"]
    reads = [partial(Client.get, path=f"/api/v1/requests/{request}/")] * AT_ONCE
    asks = submissions(AT_ONCE)
    processes = installation.children()
    assert {answer.status for answer in installation.at_once(client.service, reads)} == {200}

    others = "usename = 'quicklime' AND pid <> pg_backend_pid()"
    installation.postgresql.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
    answers = installation.at_once(client.service, [*reads, *asks])
    assert {answer.status for answer in answers} <= {200, 201, 202, 503}
    assert max(answer.seconds for answer in answers) < 3

    for _ in range(3):
        assert {answer.status for answer in installation.at_once(client.service, reads)} == {200}
    assert {answer.status for answer in installation.at_once(client.service, [partial(ask, wait=10) for ask in asks])} == {201}
    assert client.issued() == 1 + AT_ONCE
    assert installation.children() == processes, "a process had to be started again"


@only_postgresql
def test_a_database_that_hangs(installation: Installation, client: Client) -> None:
    assert installation.postgresql
    before = client.submit(many(1)[0], "before", wait=10).body
    read, processes = f"/api/v1/requests/{before['id']}/", installation.children()
    eventually(lambda: installation.status(before["certificate"]) == "good")
    with installation.postgresql.paused():
        answers = installation.at_once(client.service, [*submissions(2), *[partial(Client.get, path=read)] * 2])
        assert {(answer.status, answer.body["code"]) for answer in answers} == {(503, "unavailable")}
        assert not client.get("/readyz").body["ready"]
        assert client.get("/livez").status == 200
        scraped, by_token = client.scrape(), client.get("/metrics")
        assert (scraped.status, by_token.status) == (200, 503)
        assert scraped.seconds < 10 > by_token.seconds
        assert b"quicklime_ready 0.0" in scraped.body
        assert b"quicklime_task_seconds_count" in scraped.body, "what processes counted is in Redis"
        assert installation.status(before["certificate"]) == "good"

    eventually(lambda: client.get(read).status == 200)
    assert client.submit(many(1)[0], "after", wait=10).status == 201
    assert client.issued() == 2
    assert installation.children() == processes, "a process had to be started again"
    installation.judge()
