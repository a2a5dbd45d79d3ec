"""Check-ins: the server is told what is served here, and tells what it knows of the certificate.

Owns when one is due, its words, and what an answer changes in a record. Must never stand in the way of a renewal: none is sent while a
request is pending, all are sent after a pass has done its work, and one that fails is noted and no more.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime

from . import keys, schedule
from .api import CheckedIn, Server
from .failures import Failure, Unreached, told
from .records import Pair, Record, Reported
from .store import Store, Trust

Say = Callable[[str], None]
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def tell_all(store: Store, connect: Callable[[Trust], AbstractContextManager[Server]], now: datetime, say: Say) -> None:
    """Check in every certificate that is due, over one connection. Raises nothing that a certificate or the server could cause."""
    due = [label for label in store.labels() if _seems_due(store, label, now)]
    if not due:
        return
    try:
        with connect(store.trust()) as server:
            for label in due:
                _guarded(store, server, label, now, say)
    except (Failure, OSError) as error:
        say(f"check-in: {told(error)}")


def _seems_due(store: Store, label: str, now: datetime) -> bool:
    try:
        return is_due(store.load(label), now)
    except (Failure, OSError):  # the pass has said so
        return False


def is_due(record: Record, now: datetime) -> bool:
    """Whether the server should hear of the certificate; where somebody looks, not before the first look."""
    if record.current is None or record.pending or record.revoked_at or (record.place.serves and not record.served):
        return False
    return record.reported is None or schedule.is_due(record.reported.next_at, record.reported.at, now)


def _guarded(store: Store, server: Server, label: str, now: datetime, say: Say) -> None:
    """Raises Unreached: then the others need not be tried."""
    try:
        _tell(store, server, label, now, say)
    except Unreached:
        raise
    except (Failure, OSError) as error:
        say(f"{label}: check-in: {told(error)}")


def _tell(store: Store, server: Server, label: str, now: datetime, say: Say) -> None:
    """Raises Failure, noted in the record; but not again where it was the same before, as that was said."""
    with store.locked(label):
        record = store.load(label)
        if record.current is None or not is_due(record, now):
            return
        try:
            answer = server.check_in(record.current.serial, word(record, record.current, now))
        except Failure as failure:
            store.save(_unheard(record, told(failure), now))
            if isinstance(failure, Unreached) or record.reported is None or record.reported.error != told(failure):
                raise
        else:
            after = heard(record, record.current, answer, now)
            store.save(after)
            _say_news(record, after, say)


def word(record: Record, pair: Pair, now: datetime) -> dict[str, str | None]:
    """The body of a check-in. Raises Failure where no proof can be made."""
    served, time = _served(record), now.strftime(_TIME)
    try:
        proof = keys.sign(keys.load(pair.key), keys.check_in_statement(pair, time, served or ""))
    except ValueError as error:
        raise Failure("no proof can be made", str(error), "request the certificate again") from None
    return {"served": served, "time": time, "proof": b64encode(proof).decode()}


def _served(record: Record) -> str | None:
    if record.served is None:
        return None
    return record.served.serial or "none"


def heard(record: Record, pair: Pair, answer: CheckedIn, now: datetime) -> Record:
    """The record after the server's `answer`: a renewal that is wanted early has its moment chosen, once; what was revoked is so."""
    next_at = schedule.check_in_at(record.place.serves is not None, now)
    reported = Reported(now, next_at, answer.status, answer.replaced_by, answer.replace_by, None)
    if answer.replace_by:
        pair = replace(pair, renew_at=schedule.early(pair.renew_at, answer.replace_by, now))
    return replace(record, current=pair, reported=reported, revoked_at=answer.revoked_at)


def _unheard(record: Record, error: str, now: datetime) -> Record:
    last = record.reported or Reported(now, now, None, None, None, None)
    return replace(record, reported=replace(last, at=now, next_at=schedule.check_in_again_at(now), error=error))


def _say_news(before: Record, after: Record, say: Say) -> None:
    if after.revoked_at:
        say(f"{after.label}: it was revoked at {after.revoked_at:{_TIME}}; `quicklime request --new` gets another")
    elif before.current and after.current and before.current.renew_at != after.current.renew_at:
        say(f"{after.label}: to be replaced, so it will be renewed at {after.current.renew_at:{_TIME}}")
