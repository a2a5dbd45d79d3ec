"""The Celery tasks: one chain per batch, `validate | sign | challenge | record`, and the periodic `resume` and `checkpoint`.

Owns how steps are started, and that a worker goes on with a chain by itself as far as it would take the messages as well.
Messages carry a batch id and nothing else; a lost, repeated, reordered or forged one is a wake-up too few or too many, never
a fact. Must hold no rule of its own: each task calls one function of issuance.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from celery import Task, chain, shared_task
from django.db.models import QuerySet
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from eventlog import checkpoints

from . import approvals, gathering, issuance, keys, mass_replacement, wakeups
from .crash import point
from .models import Request, State

log = logging.getLogger(__name__)
STUCK_AFTER = timedelta(seconds=5)
_MOST, _TELLING = 0.06, 2.0  # seconds
_ALONE = 0.1  # seconds after which a chain's worker begins no other step before it looks for messages, a revocation's among them


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
    begun = time.monotonic()
    _gather()
    wakeups.wake_up_arrived()
    claimed = issuance.validate(UUID(batch), _now())
    if claimed:
        _expected.came(claimed, time.monotonic())
    point("validate.done")
    if claimed == issuance.BATCH:
        wake()
    if not claimed:
        self.request.chain = None  # another worker took them: the steps that would follow have nothing to do
    _go_on(self, batch, begun)


_expected = gathering.Expectation(_TELLING)


def _gather() -> None:
    """Under load, wait until all are back who were just answered, or no more come: a batch costs the same for three
    requests as for thirty. A single request on an idle system is not kept."""
    now = time.monotonic()
    expected = _expected.number(now)
    if expected == 1:
        return
    seen, patience = 0, gathering.patience(expected, _MOST)
    growing_until = now + patience
    while (waiting := issuance.waiting()) < expected and time.monotonic() < growing_until:
        if waiting > seen:
            seen, growing_until = waiting, time.monotonic() + patience
        time.sleep(gathering.PAUSE)


@shared_task(name="ca.sign", bind=True)
def sign(self: Task[Any, Any], batch: str) -> None:
    begun = time.monotonic()
    issuance.sign(UUID(batch), _now())
    _go_on(self, batch, begun)


@shared_task(name="ca.challenge", bind=True)
def challenge(self: Task[Any, Any], batch: str) -> None:
    begun = time.monotonic()
    issuance.challenge(UUID(batch), _now())
    _go_on(self, batch, begun)


@shared_task(name="ca.record")
def record(batch: str) -> None:
    issuance.record(UUID(batch), _now())


TASKS = {"validate": validate, "sign": sign, "challenge": challenge, "record": record}


def _go_on(task: Task[Any, Any], batch: str, begun: float) -> None:
    """Run the steps that follow in `task`'s chain, for a message costs as much as a small batch's step; once _ALONE has passed since
    `begun`, on the monotonic clock, Celery sends what is left. A crash here loses the wake-up for the steps that had not begun, as
    the loss of a message would: `resume` has them."""
    while task.request.chain and time.monotonic() < begun + _ALONE:
        following = _taken_here(task, task.request.chain[-1])
        if following is None:
            return
        ended = following.apply((batch,))
        task.request.chain = task.request.chain[:-1] if ended.successful() else None


def _taken_here(task: Task[Any, Any], message: Any) -> Task[Any, Any] | None:
    """The step that `message` would start, if this worker takes it from its queue; a host that may not sign does not. Whoever reaches
    Redis may have written it."""
    name = message.get("task") if isinstance(message, dict) else None
    step = next((step for step in TASKS.values() if step.name == name), None)
    if step is None:
        return None
    queue = task.app.amqp.router.route({}, step.name)["queue"]
    return step if queue.name in task.app.amqp.queues.consume_from else None


_NEXT = {State.VALIDATED: ("sign", "challenge", "record"), State.SIGNED: ("challenge", "record"), State.CHALLENGED: ("record",)}


@shared_task(name="ca.resume")
def resume() -> None:
    """Start the pipeline for whatever is unfinished for too long: the safety net under every lost message and crash."""
    restart(Request.objects.stuck(_now() - STUCK_AFTER))


def restart(rows: QuerySet[Request]) -> None:
    """Start the pipeline for these requests, each from the step where it stands; what has ended, or awaits approval, stays."""
    if rows.filter(state=State.RECEIVED).exists():
        wake()
    for state, steps in _NEXT.items():
        for batch in {row.batch for row in rows.filter(state=state).only("batch") if row.batch}:
            _start(batch, steps)


@shared_task(name="ca.tend_replacements")
def tend_replacements() -> None:
    """Carry on the orders to replace certificates."""
    mass_replacement.tend(_now())


@shared_task(name="ca.expire_approvals")
def expire_approvals() -> None:
    """Reject what waited for an approver too long; the next run goes on."""
    expired = approvals.expire(_now())
    if expired:
        log.warning("%s requests are rejected, as nobody decided about them in time", expired)


@shared_task(name="ca.checkpoint")
def checkpoint() -> None:
    """Sign a checkpoint if events were appended by processes that hold no log key."""
    checkpoints.sign_pending(keys.log_signer(), _now())
