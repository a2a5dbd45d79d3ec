"""Approvers are told that requests wait for them: one mail for each of them and run, and one call of the webhook.

Owns Notice, which is there for as long as its request waits. A notice is told at least once, and once where nothing dies between the
server's answer and our note of it: a second mail does less harm than none. Who sends has taken a lease first, so that nobody else sends
meanwhile; whoever dies with it has it tried again when it ends. Told are the accounts with the right to approve that do not
speak for the request's owner and have an address; nobody else, and no address stands in the log.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.template.loader import render_to_string

from ca.models import Request, State
from eventlog.append import append
from eventlog.bulk import insert_unless_taken

from . import contacts, smtp, webhook
from .events import ApproverTold
from .messages import addressed, visible
from .models import Notice
from .reminders import LEASE, pause
from .roles import ROLES, Right

log = logging.getLogger(__name__)
MOST, SHOWN = 200, 50  # requests looked at in one run, and written out in one mail
_COLUMNS = ("request", "recipient", "recipient_hash", "due_at", "tries")


def tell_due(now: datetime) -> int:
    """Tell whoever is to be told of what waits; how many messages went out. Never raises for what a server does."""
    waiting = {row.id: row for row in Request.objects.filter(state=State.AWAITING).order_by("id")[:MOST]}
    Notice.objects.exclude(request__in=Request.objects.filter(state=State.AWAITING).values("id")).delete()
    _record(list(waiting.values()), now)
    due = Notice.objects.filter(due_at__lte=now, request__in=waiting)
    recipients = sorted(set(due.values_list("recipient", flat=True)))
    sent = 0
    if settings.WEBHOOK_URL and webhook.RECIPIENT in recipients:
        sent += _told(webhook.RECIPIENT, waiting, now, None)
    if settings.EMAIL:
        with smtp.Session(settings.EMAIL, settings.MAIL_FROM) as session:
            sent += sum(_told(recipient, waiting, now, session) for recipient in recipients if recipient != webhook.RECIPIENT)
    return sent


def _record(waiting: Sequence[Request], now: datetime) -> None:
    told = [webhook.RECIPIENT] if settings.WEBHOOK_URL else []
    approvers = _approvers()
    rows = [
        (row.id, recipient, contacts.hash_of(recipient), now, 0)
        for row in waiting
        for recipient in sorted({*told, *(address for address, owners in approvers if row.owner not in owners)})
    ]
    insert_unless_taken(Notice, _COLUMNS, rows)


def _approvers() -> list[tuple[str, frozenset[str]]]:
    """[(address, the owners that this account speaks for)]"""
    names = [role.value for role, opens in ROLES.items() if Right.APPROVE in opens]
    users = User.objects.filter(is_active=True, groups__name__in=names).exclude(email="").prefetch_related("ownership_set")
    return [(user.email, frozenset([user.username, *(each.owner for each in user.ownership_set.all())])) for user in users]


def _told(recipient: str, waiting: dict[UUID, Request], now: datetime, session: smtp.Session | None) -> bool:
    """Whether it went out to this recipient."""
    rows = _leased(recipient, waiting, now)
    if not rows:
        return False
    message = _id_of(recipient, rows)
    try:
        if session is None:
            webhook.post(_body(message, rows), now)
        else:
            session.deliver(recipient, _mail(recipient, message, rows, now), lambda: None)
    except (smtp.Refused, smtp.Unreachable, smtp.Uncertain, webhook.NotTaken, OSError, ValueError) as error:
        log.warning("the notice %s was not delivered, and is tried again: %s", message, error)
        _try_again(recipient, rows, now)
        return False
    _note(recipient, rows, message, "webhook" if session is None else "mail", now)
    return True


def _leased(recipient: str, waiting: dict[UUID, Request], now: datetime) -> list[Request]:
    """What this recipient is to be told of, and for the time of the lease by nobody else."""
    with transaction.atomic():
        due = Notice.objects.filter(recipient=recipient, due_at__lte=now, request__in=waiting)
        found = list(due.select_for_update(skip_locked=True).order_by("request").values_list("id", "request"))
        Notice.objects.filter(id__in=[number for number, _ in found]).update(due_at=now + LEASE, tries=F("tries") + 1)
    return [waiting[request] for _, request in found]


def _try_again(recipient: str, rows: Sequence[Request], now: datetime) -> None:
    for notice in Notice.objects.filter(recipient=recipient, request__in=[row.id for row in rows]):
        notice.due_at = now + pause(notice.tries)
        notice.save(update_fields=["due_at"])


def _note(recipient: str, rows: Sequence[Request], message: str, channel: str, now: datetime) -> None:
    digest = contacts.hash_of(recipient)
    with transaction.atomic():
        Notice.objects.filter(recipient=recipient, request__in=[row.id for row in rows]).update(due_at=None)
        append([ApproverTold(request=str(row.id), channel=channel, recipient=digest, message=message).new() for row in rows], now)


def _id_of(recipient: str, rows: Sequence[Request]) -> str:
    """Follows from what is told to whom, so that whoever gets it twice can tell."""
    return sha256("\n".join([contacts.hash_of(recipient), *(str(row.id) for row in rows)]).encode()).hexdigest()[:32]


def _body(message: str, rows: Sequence[Request]) -> bytes:
    """{"message", "approvals": [{"id", "request", "owner", …}]}, beside the webhook's reminders."""
    told = [
        {"id": f"{row.id}:approval", "request": str(row.id), "url": _url(row), "decide_by": f"{row.decide_by:%Y-%m-%dT%H:%M:%SZ}"}
        | {name: getattr(row, name) for name in ("owner", "service", "node", "profile")}
        for row in rows
    ]
    return json.dumps({"message": message, "approvals": told}, sort_keys=True).encode()


def _mail(recipient: str, message: str, rows: Sequence[Request], now: datetime) -> bytes:
    """Raises ValueError if `recipient` is no mail address. Nothing from outside stands in a header."""
    names = ("owner", "service", "node", "profile")
    shown: list[dict[str, Any]] = [
        {name: visible(getattr(row, name)) for name in names} | {"url": _url(row), "decide_by": row.decide_by} for row in rows[:SHOWN]
    ]
    about = f"[Quicklime] {len(rows)} request{'s wait' if len(rows) > 1 else ' waits'} for approval"
    found = addressed(recipient, about, message, now)
    found.set_content(render_to_string("dashboard/notice.txt", {"rows": shown, "more": max(len(rows) - SHOWN, 0)}))
    return found.as_bytes()


def _url(row: Request) -> str:
    return f"{settings.PUBLIC_URL}/dashboard/approvals/{row.id}/"
