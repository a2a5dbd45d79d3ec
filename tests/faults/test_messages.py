"""Messages that come twice, in the wrong order, for nobody, or from an attacker: none is a fact."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError, connection
from structlog.contextvars import bound_contextvars

from ca import issuance, pipeline, tokens, wakeups
from ca.models import Request, Token
from eventlog.models import Event
from quicklime_site.celery import app
from tests import oracle, processes
from tests.material import many

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def token(hierarchy: None, now: datetime) -> Token:
    wakeups.client().flushall()
    return Token.objects.get(id=tokens.create("test", "alice", tokens.Scope(), now, by="test")[0])


def test_eight_workers_duplicate_and_reordered(token: Token, now: datetime) -> None:
    """Eight threads run the steps of shared batches in random order, each often, until every request has ended."""
    for _ in range(4):
        pipeline.submit(token, [pipeline.Submission(csr=der) for der in many(50)], now)
    batches = [uuid4() for _ in range(3)]

    def work(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(400):
                step = chance.choice([issuance.validate, *issuance.STEPS.values()])
                with suppress(OperationalError):  # SQLite's writers may wait too long for each other: like any lost commit
                    step(chance.choice(batches), datetime.now(UTC))
                if not Request.objects.exclude(state="issued").exists():
                    return
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert Request.objects.filter(state="issued").count() == 200
    oracle.check()


FORGED = {
    "an unknown batch": ("ca.sign", [str(uuid4())], {}),
    "an unknown task": ("ca.append_event", [{"schema": "quicklime/certificate.issued/1-0-0"}], {}),
    "a CSR in the arguments": ("ca.validate", [str(uuid4()), many(1)[0].hex()], {}),
    "unknown keywords": ("ca.record", [str(uuid4())], {"state": "issued"}),
    "no identifier": ("ca.record", ["'; DROP TABLE eventlog_event; --"], {}),
    "a huge argument": ("ca.sign", ["x" * 1_000_000], {}),
}


@pytest.mark.parametrize("forgery", FORGED)
def test_a_forged_message_does_nothing_and_the_worker_lives_on(forgery: str, token: Token, now: datetime, tmp_path: Path) -> None:
    name, args, kwargs = FORGED[forgery]
    before = Event.objects.count()
    with processes.worker(tmp_path / "worker.log", QUICKLIME_LOG_LEVEL="INFO"):
        app.send_task(name, args=args, kwargs=kwargs, queue="sign")
        app.send_task("ca.challenge", args=[str(UUID(int=0))], queue="challenge")
        processes.eventually(lambda: not wakeups.client().llen("sign"))
        assert Event.objects.count() == before
        with bound_contextvars(request_id="r-1"):
            pipeline.submit(token, [pipeline.Submission(csr=many(1)[0])], now)
        (line,) = processes.eventually(lambda: [said for said in lines(tmp_path / "worker.log") if said["message"] == "finished"])
    row = Request.objects.get()
    assert (line["request_id"], line["task"], line["batch"]) == ("r-1", "ca.record", str(row.batch))
    assert line["issued"] == {str(row.id): row.serial}
    oracle.check()


def lines(log: Path) -> list[dict[str, Any]]:
    """What a worker says, below Celery's banner."""
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


PICKLED = {
    "body": "gAN9cQAu",
    "content-type": "application/x-python-serialize",
    "content-encoding": "base64",
    "headers": {"task": "ca.sign", "id": "1"},
    "properties": {"delivery_tag": "1", "body_encoding": "base64", "delivery_info": {"exchange": "", "routing_key": "sign"}},
}


def test_bytes_that_are_no_message_do_not_stop_the_worker(token: Token, now: datetime, tmp_path: Path) -> None:
    wakeups.client().lpush("sign", json.dumps(PICKLED))
    with processes.worker(tmp_path / "worker.log"):
        processes.eventually(lambda: not wakeups.client().llen("sign"))
        pipeline.submit(token, [pipeline.Submission(csr=many(1)[0])], now)
        processes.eventually(lambda: Request.objects.filter(state="issued").exists())
    oracle.check()
