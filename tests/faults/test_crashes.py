"""Kill -9 at each named point of the pipeline, start again, and ask the oracle."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from django.db import connections

from ca import pipeline, tasks, tokens, wakeups
from ca.models import Request, Token
from tests import oracle, processes
from tests.material import many

pytestmark = pytest.mark.django_db(transaction=True)
WORKER_POINTS = (
    "intent.before_commit", "intent.committed", "validate.done", "sign.before", "sign.after_before_store", "challenge.made",
    "issued.before_commit", "issued.committed_before_ack",
)  # fmt: skip
WEB_POINTS = {"web.before_commit": 0, "web.after_commit_before_enqueue": 1, "web.after_enqueue_before_reply": 1}


@pytest.fixture
def token(hierarchy: None, now: datetime) -> Token:
    wakeups.client().flushall()
    return Token.objects.get(id=tokens.create("test", "alice", tokens.Scope(), now, by="test")[0])


def finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: int) -> None:
    """A healthy worker, and `resume` as beat would start it, until nothing is unfinished; then the oracle."""
    monkeypatch.setattr(tasks, "STUCK_AFTER", tasks.timedelta(0))
    with processes.worker(tmp_path / "worker.log"):

        def done() -> bool:
            tasks.resume()
            return not Request.objects.exclude(state__in=("issued", "rejected")).exists()

        processes.eventually(done)
    assert Request.objects.filter(state="issued").count() == expected
    oracle.check()


@pytest.mark.parametrize("point", WORKER_POINTS)
def test_a_worker_killed_at(point: str, token: Token, now: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with processes.worker(tmp_path / "worker.log", QUICKLIME_CRASH=point) as worker:
        pipeline.submit(token, [pipeline.Submission(csr=der) for der in many(5)], now)
        assert worker.wait(30) == -9, (tmp_path / "worker.log").read_text()
    finish(tmp_path, monkeypatch, 5)


@pytest.mark.parametrize("point", WEB_POINTS)
def test_a_web_process_killed_at(point: str, token: Token, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"""
from datetime import UTC, datetime
from ca import pipeline
from ca.models import Token
pipeline.submit(Token.objects.get(id={token.id!r}), [pipeline.Submission(csr=bytes.fromhex({many(1)[0].hex()!r}))], datetime.now(UTC))
"""
    assert processes.run(code, QUICKLIME_CRASH=point).returncode == -9
    connections.close_all()
    finish(tmp_path, monkeypatch, WEB_POINTS[point])


def test_redis_forgets_everything(token: Token, now: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.submit(token, [pipeline.Submission(csr=der) for der in many(5)], now)
    wakeups.client().flushall()
    finish(tmp_path, monkeypatch, 5)


def test_a_load_survives_repeated_kills(token: Token, now: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 requests; whatever process works on them is killed three times in the middle."""
    for _ in range(10):
        pipeline.submit(token, [pipeline.Submission(csr=der) for der in many(100)], now)
    for share in (50, 300, 600):
        with processes.worker(tmp_path / "worker.log"):
            tasks.wake()

            def enough(share: int = share) -> bool:
                tasks.wake()
                return Request.objects.exclude(state="received").count() >= share

            processes.eventually(enough)
    finish(tmp_path, monkeypatch, 1000)
