"""How a recipient silences reminders: signed links that need no login, and what they lead to.

Owns Snooze, Unsubscribed and the links. A link acts for the one recipient it was sent to: nobody silences another. What it carries
is signed with SECRET_KEY and holds no address. Must never act on a GET: mail scanners follow links.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.urls import reverse

from .models import Reminder, Snooze, State, Unsubscribed

WHILE = timedelta(days=7)


class BadLink(Exception):
    """Not a link that this installation made."""


def snooze_url(serial: str, recipient_hash: str) -> str:
    """The page that silences reminders of one certificate to one recipient."""
    return _url("snooze", f"{serial}.{recipient_hash}")


def unsubscribe_url(recipient_hash: str) -> str:
    """The page that silences all of them; RFC 8058's one-click POST goes there too."""
    return _url("unsubscribe", recipient_hash)


def snoozed_by(token: str) -> tuple[str, str]:
    """(serial, recipient hash) of a link to snooze. Raises BadLink."""
    serial, _, recipient_hash = _read("snooze", token).partition(".")
    return serial, recipient_hash


def unsubscribed_by(token: str) -> str:
    """The recipient hash of a link to unsubscribe. Raises BadLink."""
    return _read("unsubscribe", token)


def snooze(serial: str, recipient_hash: str, until: datetime | None) -> None:
    """No reminder of this certificate before `until`, or never again; those that wait, wait as long. What is being sent is sent."""
    waiting = Reminder.objects.filter(serial=serial, recipient_hash=recipient_hash, state=State.DUE)
    with transaction.atomic():
        Snooze.objects.update_or_create(serial=serial, recipient_hash=recipient_hash, defaults={"until": until})
        if until is None:
            waiting.delete()
        else:
            waiting.update(due_at=until, tried_at=None)


def unsubscribe(recipient_hash: str, now: datetime) -> None:
    """No reminder to this recipient until an operator resubscribes it. Twice is once."""
    with transaction.atomic():
        Unsubscribed.objects.get_or_create(recipient_hash=recipient_hash, defaults={"at": now})
        Reminder.objects.filter(recipient_hash=recipient_hash, state=State.DUE).delete()


def _url(view: str, text: str) -> str:
    return f"{settings.PUBLIC_URL}{reverse(view, args=[_signer(view).sign(text)])}"


def _read(view: str, token: str) -> str:
    try:
        text: str = _signer(view).unsign(token)
    except signing.BadSignature:
        raise BadLink(token) from None
    return text


def _signer(view: str) -> signing.Signer:
    """One for each view, so that no link of one is a link of the other."""
    return signing.Signer(salt=f"quicklime.reminders.{view}")
