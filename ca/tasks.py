"""The Celery tasks: one chain per batch, `validate | sign | challenge | record`, and the periodic `resume` and `checkpoint`.

Owns how steps are started. Messages carry a batch id and nothing else; a lost, repeated, reordered or forged one is a
wake-up too few or too many, never a fact. Must hold no rule of its own: each task calls one function of issuance.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from celery import Task, chain, shared_task
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from eventlog import checkpoints

from . import issuance, keys, wakeups
from .crash import point
from .models import Request, State

log = logging.getLogger(__name__)
STUCK_AFTER = timedelta(seconds=5)
GATHER, _PAUSE, _BUSY = 0.04, 0.005, 0.25  # seconds


def _now() -> datetime:
    return datetime.now(UTC)


def wake() -> None:
    """Have the waiting requests looked at, unless that is already under way. Never raises for want of Redis: the rows
    are stored, and `resume` finds them."""
    try:
        if wakeups.claim_wake_up():
            _start(uuid4(), ("validate", "sign", "challenge", "record"))
    except (OperationalError, RedisError, OSError) as error:
        log.warning("no wake-up could be sent (%s): the pipeline resumes by itself when Redis is back", error)


def _start(batch: UUID, steps: tuple[str, ...]) -> None:
    chain(*(TASKS[step].si(str(batch)) for step in steps)).apply_async(retry=False)


@shared_task(name="ca.validate", bind=True)
def validate(self: Task[Any, Any], batch: str) -> None:
    """Claim what waits; a full batch means that more may wait."""
    _gather()
    wakeups.wake_up_arrived()
    claimed = issuance.validate(UUID(batch), _now())
    _remember(claimed)
    point("validate.done")
    if claimed == issuance.BATCH:
        wake()
    if not claimed:
        self.request.chain = None  # another worker took them: the steps that would follow have nothing to do


_busy_until = 0.0  # on the monotonic clock: a batch of several was claimed a moment ago


def _gather() -> None:
    """Under load, wait until the queue stops growing, at most GATHER: a batch costs the same for three requests as for
    thirty, and those who were just answered are about to ask again. A single request on an idle system is not kept."""
    before, deadline = 0 if time.monotonic() < _busy_until else 1, time.monotonic() + GATHER
    while before < (waiting := issuance.waiting()) < issuance.BATCH and time.monotonic() < deadline:
        before = waiting
        time.sleep(_PAUSE)


def _remember(claimed: int) -> None:
    global _busy_until
    if claimed > 1:
        _busy_until = time.monotonic() + _BUSY


@shared_task(name="ca.sign")
def sign(batch: str) -> None:
    issuance.sign(UUID(batch), _now())


@shared_task(name="ca.challenge")
def challenge(batch: str) -> None:
    issuance.challenge(UUID(batch), _now())


@shared_task(name="ca.record")
def record(batch: str) -> None:
    issuance.record(UUID(batch), _now())


TASKS = {"validate": validate, "sign": sign, "challenge": challenge, "record": record}
_NEXT = {State.VALIDATED: ("sign", "challenge", "record"), State.SIGNED: ("challenge", "record"), State.CHALLENGED: ("record",)}


@shared_task(name="ca.resume")
def resume() -> None:
    """Start the pipeline for whatever is unfinished for too long: the safety net under every lost message and crash."""
    stuck = Request.objects.stuck(_now() - STUCK_AFTER)
    if stuck.filter(state=State.RECEIVED).exists():
        wake()
    for state, steps in _NEXT.items():
        for batch in {row.batch for row in stuck.filter(state=state).only("batch") if row.batch}:
            _start(batch, steps)


@shared_task(name="ca.checkpoint")
def checkpoint() -> None:
    """Sign a checkpoint if events were appended by processes that hold no log key."""
    checkpoints.sign_pending(keys.log_signer(), _now())
