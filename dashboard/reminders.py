"""Who was told what: reminders are recorded with the flag they come from, then sent, one message for each recipient and run.

Owns Reminder and its states:

    due ──claim──▶ claimed ──"here comes the content"──▶ handed ──answer──▶ sent, with an event
     ▲──────────────surely not delivered─────────────────┘

A reminder is recorded in the commit of its flag, so there is one for each (certificate, threshold, recipient), ever. Who dies with a
claim had sent nothing: it is given back. Who dies after `handed` may have sent it: it is not tried again, as nothing in SMTP
tells. (The webhook is never `handed`: its receiver knows a reminder again.) What was surely refused is tried again for as
long as its certificates ring; those that were replaced meanwhile drop out. Must never let one recipient's trouble keep another
waiting, nor hold a transaction while it talks to a server.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, F, Min, OuterRef, Q, QuerySet

from ca.crash import point
from ca.models import Certificate
from eventlog.append import append
from eventlog.bulk import insert_unless_taken, update_rows

from . import contacts, messages, smtp, webhook
from .events import ReminderSent
from .flagged import Flagged, unreplaced
from .messages import Item
from .models import Reminder, Snooze, State, Watched
from .thresholds import SILENT

log = logging.getLogger(__name__)
LEASE = timedelta(minutes=10)  # far more than a conversation with a server takes
FIRST, CAP, PERMANENT = timedelta(minutes=1), timedelta(hours=1), timedelta(hours=24)  # until a refused message is tried again
RUN = 40.0  # seconds after which a run begins no further message; the next one goes on
_MOST = 10_000  # reminders in one message
_COLUMNS = ("serial", "threshold", "recipient", "recipient_hash", "state", "due_at", "tries", "answer", "message")


class ClaimLost(Exception):
    """Another process took the message over."""


@dataclass(frozen=True)
class Message:
    """What one recipient is told at once. `id` follows from its content, so that the same message has the same."""

    id: str
    recipient: str
    recipient_hash: str
    items: Sequence[Item]


# --- recording


def record(flagged: Collection[Flagged], now: datetime) -> None:
    """Have everybody told who is to be, in the transaction that flags. Who snoozed for ever is not; who did for a while, later."""
    addresses = contacts.of(flagged)
    told = [webhook.RECIPIENT] if settings.WEBHOOK_URL else []
    wanted = [(each, recipient, contacts.hash_of(recipient)) for each in flagged for recipient in (*addresses[each.serial], *told)]
    snoozed = _snoozed(flagged)
    rows = []
    for each, recipient, digest in wanted:
        until = snoozed.get((each.serial, digest), now)
        if until is not None:
            rows.append((each.serial, each.threshold, recipient, digest, State.DUE.value, max(until, now), 0, "", ""))
    insert_unless_taken(Reminder, _COLUMNS, sorted(rows))


def _snoozed(flagged: Collection[Flagged]) -> dict[tuple[str, str], datetime | None]:
    rows = Snooze.objects.filter(serial__in=[each.serial for each in flagged])
    return {(serial, digest): until for serial, digest, until in rows.values_list("serial", "recipient_hash", "until")}


# --- sending


def send_due(now: datetime) -> int:
    """Send what is due, as far as the time of one run goes; how many messages. Never raises for what a server does."""
    _give_back(now)
    _forget_settled(now)
    until, sent = time.monotonic() + RUN, 0
    if settings.EMAIL:
        with smtp.Session(settings.EMAIL, settings.MAIL_FROM) as session:
            for recipient in _recipients(now):
                if time.monotonic() > until or (done := _mail(session, recipient, now)) is None:
                    break
                sent += done
    if settings.WEBHOOK_URL:
        sent += _call(now)
    return sent


def waiting() -> QuerySet[Reminder]:
    """Not sent, and their certificates still ring for this."""
    rings = Watched.objects.filter(serial=OuterRef("serial"), reached=OuterRef("threshold"))
    return Reminder.objects.filter(Exists(rings), state=State.DUE)


class Backlog(NamedTuple):
    """How many reminders are due, for how long the first has been; and how many were tried in vain, whenever the next try is."""

    waiting: int
    waiting_seconds: float
    refused: int


def backlog(now: datetime) -> Backlog:
    """What readiness asks, of the reminders that were not sent alone."""
    due, tried = Q(due_at__lte=now), Q(tries__gt=0)
    unsent = Reminder.objects.filter(state=State.DUE)
    found = unsent.aggregate(waiting=Count("id", filter=due), since=Min("due_at", filter=due), refused=Count("id", filter=tried))
    waited = max(0.0, round((now - found["since"]).total_seconds(), 1)) if found["since"] else 0.0
    return Backlog(found["waiting"], waited, found["refused"])


def _recipients(now: datetime) -> list[str]:
    """Hashes of those with something due by mail; whoever was tried longest ago comes first, so that nobody's trouble keeps the
    others waiting for ever."""
    rows = _due(now).exclude(recipient=webhook.RECIPIENT).values("recipient_hash").annotate(last=Min("tried_at"))
    return [row["recipient_hash"] for row in rows.order_by(F("last").asc(nulls_first=True), "recipient_hash")]


def _due(now: datetime) -> QuerySet[Reminder]:
    """Due, by a clock that may have been set back since the last try."""
    return Reminder.objects.filter(Q(due_at__lte=now) | Q(tried_at__gt=now), state=State.DUE)


def _mail(session: smtp.Session, recipient_hash: str, now: datetime) -> bool | None:
    """Whether the message went out; None: the server serves nobody now."""
    message = _claim(recipient_hash, now)
    if message is None:
        return False
    point("mail.claimed")
    try:
        content = messages.mail(message.recipient, recipient_hash, message.id, message.items, now)
        session.deliver(message.recipient, content, lambda: _note_handed(message))
    except ClaimLost:
        return False
    except ValueError:  # what is no address never gets into a header
        return _not_delivered(message, "no mail address", now, PERMANENT)
    except smtp.Refused as refusal:
        return _not_delivered(message, str(refusal), now, PERMANENT if refusal.permanent else CAP)
    except smtp.Unreachable as error:
        _not_delivered(message, f"mail server: {error}", now, timedelta(0))
        return None
    except smtp.Uncertain as error:
        log.error("the message %s was delivered or not (%s): it is not sent again", message.id, error)
        return None
    point("mail.sent_before_mark")
    _note_sent(message, "mail", now)
    return True


def _call(now: datetime) -> bool:
    """Whether the webhook took what is due for it. It knows a reminder again, so it may be told twice."""
    message = _claim(contacts.hash_of(webhook.RECIPIENT), now)
    if message is None:
        return False
    try:
        webhook.post(webhook.body_of(message.id, [item.as_dict() for item in message.items]), now)
    except (webhook.NotTaken, OSError) as error:
        return _not_delivered(message, f"webhook: {error}", now, CAP)
    point("webhook.sent_before_mark")
    _note_sent(message, "webhook", now)
    return True


# --- the states


def _claim(recipient_hash: str, now: datetime) -> Message | None:
    """The recipient's message, which nobody else will send now; None if there is nothing to say."""
    with transaction.atomic():
        rows = list(_due(now).filter(recipient_hash=recipient_hash).select_for_update(skip_locked=True).order_by("id")[:_MOST])
        if rows and rows[0].recipient != webhook.RECIPIENT:
            rows = _addressed(rows, now)
        items = _items(rows)
        if not items:
            return None
        told = sorted(f"{item.serial} {item.threshold}" for item in items)
        message = Message(sha256("\n".join([recipient_hash, *told]).encode()).hexdigest()[:32], rows[0].recipient, recipient_hash, items)
        claimed = Reminder.objects.filter(id__in=[row.id for row in rows])
        claimed.update(state=State.CLAIMED, message=message.id, tried_at=now, tries=F("tries") + 1)
    return message


def _addressed(rows: Sequence[Reminder], now: datetime) -> list[Reminder]:
    """Those of `rows` whose recipient is still to be told; where another is now, that one is told instead."""
    flagged = unreplaced({row.serial: row.threshold for row in rows})
    wanted = contacts.of(flagged)
    stale = {row.serial for row in rows if row.recipient not in wanted.get(row.serial, ())}
    if stale:
        Reminder.objects.filter(id__in=[row.id for row in rows if row.serial in stale]).delete()
        record([each for each in flagged if each.serial in stale], now)
    return [row for row in rows if row.serial not in stale]


def _items(rows: Sequence[Reminder]) -> list[Item]:
    found = {row.serial: row for row in Certificate.objects.filter(serial__in=[row.serial for row in rows]).defer("der")}
    return [
        Item(row.serial, row.threshold, about.names, about.service, about.node, about.owner, about.profile, about.not_after)
        for row in rows
        for about in [found[row.serial]]
    ]


def _note_handed(message: Message) -> None:
    """From here on the message may have been delivered. Raises ClaimLost if it is another's by now."""
    with transaction.atomic():
        if _of(message, State.CLAIMED).update(state=State.HANDED) != len(message.items):
            raise ClaimLost(message.id)
    point("mail.handed")


def _note_sent(message: Message, channel: str, now: datetime) -> None:
    events = [
        ReminderSent(
            serial=item.serial, threshold=item.threshold, channel=channel, recipient=message.recipient_hash, message=message.id
        ).new()
        for item in message.items
    ]  # fmt: skip
    with transaction.atomic():
        if _of(message, State.CLAIMED, State.HANDED).update(state=State.SENT, answer=""):
            append(events, now)


def _not_delivered(message: Message, why: str, now: datetime, cap: timedelta) -> bool:
    """Surely not: due again, ever later, but no later than `cap` from now. False, for who says whether it was."""
    log.warning("the message %s was not delivered: %s", message.id, why)
    with transaction.atomic():
        rows = _of(message, State.CLAIMED, State.HANDED).select_for_update().values_list("id", "tries")
        due = [(row, now + pause(tries, cap)) for row, tries in rows]
        update_rows(Reminder, "id", ("due_at",), due, {"state": State.DUE.value, "answer": why[:60]})
    return False


def pause(tries: int, cap: timedelta = CAP) -> timedelta:
    """Until the next try after so many, ever longer up to `cap`."""
    doublings: int = 2 ** min(tries - 1, 12)
    return min(cap, FIRST * doublings)


def _give_back(now: datetime) -> None:
    """The claims of those who died before they handed anything over."""
    abandoned = Q(tried_at__lt=now - LEASE) | Q(tried_at__gt=now + LEASE)
    Reminder.objects.filter(abandoned, state=State.CLAIMED).update(state=State.DUE, due_at=now)


def _forget_settled(now: datetime) -> None:
    """What was replaced, revoked, or flagged for something graver, and what ended long ago, is no longer worth a word."""
    rings = Watched.objects.filter(serial=OuterRef("serial"), reached=OuterRef("threshold"), not_after__gt=now - SILENT)
    Reminder.objects.filter(~Exists(rings), state=State.DUE).delete()


def _of(message: Message, *states: State) -> QuerySet[Reminder]:
    return Reminder.objects.filter(message=message.id, recipient_hash=message.recipient_hash, state__in=states)
