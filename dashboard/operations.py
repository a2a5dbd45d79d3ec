"""What operators do by hand beside revoking: have something tried, signed or sent again, and say who is told.

Owns these acts. Each is an event for every thing it was done to, with who did it and why, in the commit that does it. Must never force
anything: a retried request meets every rule again, a status signed again says what the log says, what surely arrived is not sent twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from django.db import transaction
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from ca import tasks, tokens
from ca.errors import Problem
from ca.models import UNFINISHED, Request, Token
from eventlog.append import append

from . import contacts, neighbours
from .events import OperatorActed
from .models import Reminder, Scope, State

RETRIED, RESIGNED, RESENT, CONTACTS = "request.retried", "status.resigned", "reminder.resent", "contacts.set"


def retry(requests: Sequence[str], by: str, why: str, now: datetime) -> int:
    """Have the pipeline look at those of the requests that are unfinished; how many these are. Raises Problem (unavailable) when it
    cannot be woken, which it does by itself as soon as Redis is back."""
    rows = Request.objects.filter(id__in=requests, state__in=UNFINISHED)
    unfinished = [str(request) for request in rows.values_list("id", flat=True)]
    _note(RETRIED, unfinished, by, why, now)
    try:
        tasks.restart(rows)
    except (OperationalError, RedisError, OSError):
        raise Problem("unavailable", "Redis does not answer: the pipeline goes on by itself when it is back") from None
    return len(unfinished)


def resign(serials: Sequence[str], by: str, why: str, now: datetime) -> int:
    """Have the OCSP responses of these certificates signed anew; how many have one."""
    with transaction.atomic():
        done = neighbours.sign_again(serials, now)
        _note(RESIGNED, serials if done else (), by, why, now)
    return done


def resend(reminders: Sequence[str], by: str, why: str, now: datetime) -> int:
    """Have reminders sent that were refused, or of which nobody knows whether they arrived; how many of these are such."""
    with transaction.atomic():
        rows = Reminder.objects.filter(id__in=reminders, state__in=(State.DUE, State.HANDED)).select_for_update()
        serials = {row.serial for row in rows}
        done = rows.update(state=State.DUE, due_at=now)
        _note(RESENT, serials, by, why, now)
    return done


def revoke_tokens(ids: Sequence[str], by: str, why: str, now: datetime) -> int:
    """Have the next call with any of these tokens refused; how many these are. Each is an event of the tokens' own."""
    for token in ids:
        tokens.revoke(token, now, by=by, why=why)
    return len(ids)


def set_contacts(scope: Scope, name: str, addresses: Iterable[str], by: str, why: str, now: datetime) -> None:
    """From now on `addresses` are told of what is `name`'s. The log does not learn them. Raises Problem."""
    if (scope == Scope.DEFAULT) != (not name):
        raise Problem("nameInvalid", "the default has no name, and everything else has one", "name")
    if scope == Scope.TOKEN and not Token.objects.filter(id=name).exists():
        raise Problem("nameInvalid", f"there is no token {name}; it is the id that is asked for", "name")
    with transaction.atomic():
        try:
            contacts.replace(scope, name, addresses)
        except ValueError as error:
            raise Problem("addressInvalid", str(error), "addresses") from None
        _note(CONTACTS, [f"{scope} {name}".strip()[:200]], by, why, now)


def _note(act: str, about: Collection[str], by: str, why: str, now: datetime) -> None:
    if about:
        append([OperatorActed(act=act, about=each, by=by, why=why).new() for each in sorted(about)], now)
