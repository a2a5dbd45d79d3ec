"""What the tests of dashboard share: names for its fixtures, and short ways to look."""

from __future__ import annotations

from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import Protocol

from django.db import transaction

from ca.models import Certificate
from ca.revocation import Cause, revoke
from eventlog.models import Event

SECOND = timedelta(seconds=1)


class Issue(Protocol):
    def __call__(self, *names: str, **more: object) -> Certificate: ...


class Renew(Protocol):
    def __call__(self, old: Certificate, *names: str) -> Certificate: ...


def at(certificate: Certificate, percent: float) -> datetime:
    """The moment at which so much of its life is over."""
    return certificate.not_before + (certificate.not_after + SECOND - certificate.not_before) * percent / 100


def flags() -> list[tuple[str, str]]:
    """(serial, threshold) of every certificate.flagged, in the order of the log."""
    rows = Event.objects.filter(type="certificate.flagged").order_by("position").values_list("subject", "body")
    return [
        (subject, threshold) for subject, body in rows for threshold in THRESHOLDS if f'"threshold":"{threshold}"'.encode() in bytes(body)
    ]


THRESHOLDS = ("renewal-missed", "expiring", "expired")


def revoked(certificate: Certificate, now: datetime) -> None:
    with transaction.atomic():
        revoke([certificate.serial], Cause("superseded", "operator", "test"), now)


def text_of(letter: EmailMessage) -> str:
    """The plain text of a message."""
    part = letter.get_body(("plain",))
    assert part is not None
    content: str = part.get_content()
    return content
