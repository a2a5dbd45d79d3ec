"""The agent: looks after every certificate of this node, so that nobody has to.

Owns one pass over the records and when the next is. What fails is written into the record and tried again later; nothing that
happens to one certificate, or to the server, ends the agent. It may be killed at any line: see enrolment.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from . import checkins, enrolment, pairs, schedule, served
from .api import WAIT, Server
from .failures import Failure, Refused, told
from .records import Record, Trouble
from .store import Store, Trust

Connect = Callable[[Trust], AbstractContextManager[Server]]
Say = Callable[[str], None]
_SETTLE = timedelta(seconds=15)  # that a service may take to show what it was told of


def look_after_all(store: Store, connect: Connect, now: datetime, say: Say) -> datetime:
    """One pass; when the next one is wanted. Raises nothing that one certificate or the server could cause."""
    wanted = min([now + schedule.LOOK, *(_guarded(store, connect, label, now, say) for label in store.labels())])
    checkins.tell_all(store, connect, now, say)
    return wanted


def _guarded(store: Store, connect: Connect, label: str, now: datetime, say: Say) -> datetime:
    try:
        with store.locked(label):
            return look_after(store, connect, store.load(label), now, say)
    except (Failure, OSError) as error:  # the record cannot be read or written; the next certificate's may be well
        say(f"{label}: {told(error)}")
        return now + schedule.LOOK


def look_after(store: Store, connect: Connect, record: Record, now: datetime, say: Say) -> datetime:
    """Do what is due for one certificate, whose lock the caller holds; when to look again."""
    if record.revoked_at:
        return now + schedule.LOOK
    before = record
    try:
        if _may_try(record, now):
            record = _tend(store, connect, record, now, say)
    except (Failure, OSError) as error:
        record = _failed(store.load(record.label), error, now)
        store.save(record)
        say(f"{record.label}: {told(error)}")
    return _observe(store, before, record, now)


def _may_try(record: Record, now: datetime) -> bool:
    return record.trouble is None or schedule.is_due(record.trouble.retry_at, record.trouble.at, now)


def _tend(store: Store, connect: Connect, record: Record, now: datetime, say: Say) -> Record:
    if record.current and not record.pending and now >= record.current.renew_at:
        record = replace(record, pending=enrolment.renewal(record.wanted, record.current, now))
        store.save(record)
    if record.pending:
        pairs.prepare(record.place)
        trust = store.trust()
        with connect(trust) as server:
            record = enrolment.obtain(store, server, record, trust.anchor, WAIT, now)
        assert record.current
        say(f"{record.label}: generation {record.current.generation}, serial {record.current.serial}, until {record.current.not_after}")
    if record.current:
        record = enrolment.install(store, record)
    if record.trouble:
        record = replace(record, trouble=None)
        store.save(record)
    return record


def _failed(record: Record, error: Failure | OSError, now: datetime) -> Record:
    """Note it. A request that the server keeps as rejected would be rejected for ever: the next attempt makes a new one."""
    failures = record.trouble.failures + 1 if record.trouble else 1
    asked = error.retry_after if isinstance(error, Failure) else None
    retry_at = schedule.retry_at(failures, asked, record.current.not_after if record.current else None, now)
    rejected = isinstance(error, Refused) and error.stored
    return replace(record, pending=None if rejected else record.pending, trouble=Trouble(told(error), now, failures, retry_at))


def _observe(store: Store, before: Record, record: Record, now: datetime) -> datetime:
    """Look what is served; not just after a change, which takes its time to show."""
    if record.current and record.current != before.current:
        return now + _SETTLE
    seen = served.look(record, now)
    if seen:
        record = replace(record, served=seen)
        store.save(record)
    return _next(record, now)


def _next(record: Record, now: datetime) -> datetime:
    if record.trouble:
        return record.trouble.retry_at
    return record.current.renew_at if record.current else now + schedule.LOOK


# --- as a process


class Signals:
    """SIGTERM and SIGINT end the agent between two passes, SIGHUP starts a pass at once. A pipe, as a handler may do little
    more than write to one."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self.ended = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._take)

    def _take(self, number: int, frame: object) -> None:
        self.ended = self.ended or number != signal.SIGHUP
        os.write(self._write, b"x")

    def sleep(self, seconds: float) -> None:
        """Until a signal came or `seconds` have passed."""
        if select.select([self._read], [], [], seconds)[0]:
            os.read(self._read, 4096)


def run(store: Store, connect: Connect, say: Say) -> None:
    """Until SIGTERM or SIGINT. Raises Failure if another agent runs here."""
    with store.agent():
        signals = Signals()
        say(f"looking after {store.directory}")
        while not signals.ended:
            now = datetime.now(UTC)
            wanted = look_after_all(store, connect, now, say)
            signals.sleep(max(1.0, min(schedule.LOOK, wanted - datetime.now(UTC)).total_seconds()))
        say("stopped")


def run_once(store: Store, connect: Connect, say: Say) -> None:
    """One pass. Raises Failure if another agent runs here."""
    with store.agent():
        look_after_all(store, connect, datetime.now(UTC), say)
