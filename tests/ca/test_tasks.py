"""The periodic tasks, run in this process: what they do beside waking others."""

from __future__ import annotations

import unittest.mock
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery.app.trace import build_tracer
from celery.signals import task_postrun
from django.db import connection

from ca import gathering, tasks
from eventlog import checkpoints, saved
from quicklime_site.celery import app


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


class Clock:
    """Time that passes only by sleeping; `arrivals`: how many wait after each look."""

    def __init__(self, arrivals: list[int]) -> None:
        self.now, self.slept, self._arrivals = 100.0, 0.0, arrivals

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += seconds

    def waiting(self) -> int:
        return self._arrivals.pop(0) if len(self._arrivals) > 1 else self._arrivals[0]


@pytest.mark.parametrize(
    ("peak", "fresh", "arrivals", "waits"),
    [
        (1, True, [1], "not at all"),
        (64, False, [1, 64], "not at all"),
        (16, True, [1, 5, 9, 16], "until all are back"),
        (16, True, [1, 5, 5], "until no more come"),
        (16, True, [40], "not at all"),
    ],
)
def test_gathering(peak: int, fresh: bool, arrivals: list[int], waits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(arrivals)
    monkeypatch.setattr(tasks, "time", clock)
    monkeypatch.setattr(tasks.issuance, "waiting", clock.waiting)
    monkeypatch.setattr(tasks, "_expected", expected := gathering.Expectation(tasks._TELLING))
    expected.came(peak, clock.now - (0 if fresh else tasks._TELLING))
    tasks._gather()
    if waits == "not at all":
        assert clock.slept == 0
    elif waits == "until all are back":
        assert clock.slept == pytest.approx(3 * gathering.PAUSE)
    else:
        assert peak * gathering.EACH <= clock.slept < peak * gathering.EACH + 3 * gathering.PAUSE


BATCH = "0190163d-8694-739b-aea5-966c26f8ad91"
FOLLOWING = ["record", "challenge", "sign"]  # as Celery has a chain: the next one last


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that ran in this process, each over BATCH."""
    ran: list[str] = []
    for step in ("validate", "sign", "challenge", "record"):
        monkeypatch.setattr(tasks.issuance, step, partial(_run, ran, step))
    return ran


def _run(ran: list[str], step: str, batch: UUID, _: datetime) -> int:
    assert batch == UUID(BATCH)
    ran.append(step)
    return 1


@contextmanager
def takes(*queues: str) -> Iterator[None]:
    """What `celery worker -Q` does."""
    known = app.amqp.queues
    before = known._consume_from
    known.select(queues)
    try:
        yield
    finally:
        known._consume_from = before


def left(following: list[Any]) -> list[Any] | None:
    """What of a chain Celery has to send after validate ran here."""
    sent: list[Any] = []

    def look(task: Any, **_: Any) -> None:
        if task.name == "ca.validate":
            sent.append(task.request.chain)

    task_postrun.connect(look)
    with unittest.mock.patch("celery.canvas.Signature.apply_async"):
        trace = build_tracer("ca.validate", tasks.validate, app=app)
        trace(str(uuid4()), (BATCH,), {}, {"chain": following, "delivery_info": {}})
    found: list[Any] | None = sent[0]
    return found


def messages(*steps: str) -> list[dict[str, Any]]:
    return [dict(tasks.TASKS[step].si(BATCH)) for step in steps]


def names(chain: list[dict[str, Any]] | None) -> list[str]:
    return [each["task"] for each in chain or []]


def test_a_worker_goes_on_with_a_chain_by_itself(ran: list[str]) -> None:
    with takes("validate", "sign", "challenge", "record"):
        assert left(messages(*FOLLOWING)) == []
    assert ran == ["validate", "sign", "challenge", "record"]


def test_it_leaves_to_others_what_it_does_not_take(ran: list[str]) -> None:
    with takes("validate", "challenge", "record"):
        assert names(left(messages(*FOLLOWING))) == ["ca.record", "ca.challenge", "ca.sign"]
    assert ran == ["validate"]
    with takes("validate", "sign"):
        assert names(left(messages(*FOLLOWING))) == ["ca.record", "ca.challenge"]
    assert ran == ["validate", "validate", "sign"]


@pytest.mark.parametrize(("slow", "others"), [("validate", FOLLOWING), ("sign", FOLLOWING[:2])])
def test_a_long_chain_lets_other_messages_have_their_turn(
    slow: str, others: list[str], ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock([1])

    def take_long(*_: Any) -> int:
        clock.sleep(tasks._ALONE)
        return 1

    monkeypatch.setattr(tasks, "time", clock)
    monkeypatch.setattr(tasks.issuance, slow, take_long)
    with takes("validate", "sign", "challenge", "record"):
        assert names(left(messages(*FOLLOWING))) == [f"ca.{step}" for step in others]


def test_a_step_that_fails_ends_the_chain(ran: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: Any) -> None:
        raise LookupError("no such thing")

    monkeypatch.setattr(tasks.issuance, "sign", fail)
    with takes("validate", "sign", "challenge", "record"):
        assert left(messages(*FOLLOWING)) is None
    assert ran == ["validate"]
    assert "no such thing" in caplog.text


@pytest.mark.parametrize("forged", [{"task": "ca.resume"}, {"task": "no.such"}, {"task": ["ca.sign"]}, {}, "ca.sign", None, 7])
def test_what_is_no_step_is_not_run_here(forged: Any, ran: list[str]) -> None:
    request = SimpleNamespace(chain=[forged])
    with takes("validate", "sign", "challenge", "record", "upkeep"):
        tasks._go_on(SimpleNamespace(request=request, app=app), BATCH, tasks.time.monotonic())  # type: ignore[arg-type]
    assert (ran, request.chain) == ([], [forged])
