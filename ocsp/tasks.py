"""The Celery tasks of certificate status: `ocsp.follow` at once and every second, `ocsp.presign` every ten.

Owns when work is done, and in pieces of what size a worker is kept from its other queues. Messages carry where to go on and
the lease they go on with, never a fact: a lost one costs a second or ten.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import shared_task
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from eventlog import clock, projections
from eventlog.append import StoredEvent

from . import crls, feed, leases, nonces, presign, publishing
from .projections import NAME

log = logging.getLogger(__name__)
_LEASE = timedelta(seconds=10)
_ON_ITS_WAY = "quicklime:ocsp:follow"
_READ = 2_000  # events at a time, a tenth of a second; after an import there may be a million


def _now() -> datetime:
    return datetime.now(UTC)


def revoked(events: Sequence[StoredEvent]) -> None:
    """For eventlog.listeners: tell the responders to look into the log, and a worker to sign."""
    feed.publish()
    if _is_first():
        _send(follow)


def _is_first() -> bool:
    """Whether no message for `follow` is on its way, which will serve this revocation too: one for each would keep the worker
    from issuing. The claim ends when `follow` starts, or after a second in case the message was lost."""
    try:
        return bool(feed.client().set(_ON_ITS_WAY, 1, nx=True, px=1000))
    except RedisError:
        return True  # sending will say what is wrong


def _arrived() -> None:
    with suppress(RedisError):
        feed.client().delete(_ON_ITS_WAY)


@shared_task(name="ocsp.follow")
def follow() -> None:
    """Read on in the log, and sign what was revoked. Answers that are late come next, and CRLs and files that are due: this
    queue is looked at first, where a worker that has much to do never comes to the last."""
    _arrived()
    unread = projections.read_on(NAME, _READ) >= _READ
    now = _time_to_sign()
    if now is None:
        return
    if presign.sign_due(feed.AT_ONCE, now).more or unread:  # to make a CRL is to read the rest in one go
        _send(follow)
        return
    if presign.is_late(now) and (held := leases.take("presign", now, _LEASE)):
        presign.sign_late(now)
        leases.give_back("presign", held, now)
    _publish(now)


def _publish(now: datetime) -> None:
    """A slice of the CRLs that are due, and one of the files; the next second has the next."""
    crls.publish_due(now)
    try:
        publishing.publish(now)
    except OSError as error:
        log.error("the files in QUICKLIME_STATUS_DIR fall behind: %s", error)


@shared_task(name=nonces.TASK, expires=nonces.MESSAGE_EXPIRES)
def fresh() -> None:
    """Requests with a nonce wait, each for half a second."""
    now = _time_to_sign()
    try:
        if now and nonces.answer_waiting(now):
            _send(fresh)
    except RedisError as error:
        log.warning("no answers with a nonce: %s", error)


@shared_task(name="ocsp.presign")
def presign_slice(held: str = "", after: str = presign.FIRST) -> None:
    """One slice of what is due or missing; while there is more, the next one follows under the same lease, and what beat
    starts meanwhile finds it taken."""
    now = _time_to_sign()
    if now is None:
        return
    until = leases.prolong("presign", datetime.fromisoformat(held), now, _LEASE) if held else leases.take("presign", now, _LEASE)
    if until is None:
        return
    onward = presign.sign_slice(now, after)
    if onward is None:
        leases.give_back("presign", until, now)
    else:
        _send(presign_slice, until.isoformat(), onward)


def _time_to_sign() -> datetime | None:
    """Now; None while this host's clock is wrong: others sign then, and take the lease."""
    now = _now()
    try:
        clock.check(now)
    except clock.ClockApart as error:
        log.error("no OCSP response and no CRL: %s", error)
        return None
    return now


def _send(task: Any, *arguments: str) -> None:
    """Never raises for want of Redis: beat sends the same soon."""
    try:
        task.apply_async(arguments, retry=False)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("%s could not be sent (%s): beat does so when Redis is back", task.name, error)
