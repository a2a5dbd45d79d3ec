"""What a reminder says: one message for each recipient, about all certificates that are due.

Owns its words and headers. A header never holds anything that was taken from a request: names, services and owners stand in
the body only, where what cannot be seen is written out. Must never hold a secret; the links in it act for its recipient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string

from . import silencing
from .addresses import checked
from .thresholds import NAMES

SHOWN = 100  # certificates in one message; of further ones it says how many
_POLICY = SMTP.clone(cte_type="7bit")
_WORDS = {"renewal-missed": "should have been renewed by now", "expiring": "ends soon", "expired": "has ended"}


@dataclass(frozen=True)
class Item:
    """A certificate at a threshold, as far as its owner knows it by that."""

    serial: str
    threshold: str
    names: Sequence[str]
    service: str
    node: str
    owner: str
    profile: str
    not_after: datetime

    def as_dict(self) -> dict[str, Any]:
        """For the webhook. `id` is the same whenever it is told again."""
        return {
            "id": f"{self.serial}:{self.threshold}", "serial": self.serial, "threshold": self.threshold, "names": list(self.names),
            "service": self.service, "node": self.node, "owner": self.owner, "profile": self.profile,
            "not_after": f"{self.not_after:%Y-%m-%dT%H:%M:%SZ}",
        }  # fmt: skip


def mail(recipient: str, recipient_hash: str, message: str, items: Sequence[Item], now: datetime) -> bytes:
    """The message as it goes to the server, lines ended by CRLF. `message` is its id, which becomes its Message-ID: the same
    message has the same, so that whoever gets it twice can tell. Raises ValueError if `recipient` is no mail address."""
    unsubscribe = silencing.unsubscribe_url(recipient_hash)
    context = _context(items, recipient_hash) | {"unsubscribe": unsubscribe, "url": settings.PUBLIC_URL}
    found = addressed(recipient, subject(items), message, now)
    found["List-Unsubscribe"] = f"<{unsubscribe}>"
    if unsubscribe.startswith("https:"):
        found["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    found.set_content(render_to_string("dashboard/reminder.txt", context))
    found.add_alternative(render_to_string("dashboard/reminder.html", context), subtype="html")
    return found.as_bytes()


def addressed(recipient: str, about: str, message: str, now: datetime) -> EmailMessage:
    """A message without a body; `about` is its subject, `message` its id. Raises ValueError if `recipient` is no mail address."""
    found = EmailMessage(policy=_POLICY)
    found["From"] = settings.MAIL_FROM
    found["To"] = checked(recipient)
    found["Subject"] = about
    found["Date"] = format_datetime(now)
    found["Message-ID"] = f"<{message}@{settings.MAIL_FROM.rpartition('@')[2]}>"
    found["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answers by machines, please
    return found


def subject(items: Sequence[Item]) -> str:
    """The gravest threshold and how many certificates: nothing from outside."""
    gravest = max((item.threshold for item in items), key=NAMES.index)
    count = Counter(item.threshold for item in items)[gravest]
    what = {"renewal-missed": "not renewed in time", "expiring": "about to end", "expired": "ended"}[gravest]
    rest = f", {len(items) - count} more to look at" if len(items) > count else ""
    return f"[Quicklime] {count} certificate{'s' if count > 1 else ''} {what}{rest}"


def visible(text: str) -> str:
    """`text` with what cannot be seen (line ends, controls, bidirectional overrides) as escapes."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def _context(items: Sequence[Item], recipient_hash: str) -> dict[str, Any]:
    gravest_first = sorted(items, key=lambda item: (-NAMES.index(item.threshold), item.not_after, item.serial))
    return {
        "count": len(items), "more": max(len(items) - SHOWN, 0),
        "items": [_shown(item, recipient_hash) for item in gravest_first[:SHOWN]],
    }  # fmt: skip


def _shown(item: Item, recipient_hash: str) -> dict[str, Any]:
    texts = {name: visible(getattr(item, name)) for name in ("service", "node", "owner", "profile")}
    names = ", ".join(visible(name.partition(":")[2]) for name in item.names)
    snooze = silencing.snooze_url(item.serial, recipient_hash)
    return texts | {
        "names": names or "(no name)", "what": _WORDS[item.threshold], "ended": item.threshold == "expired", "not_after": item.not_after,
        "serial": item.serial, "snooze": snooze,
    }  # fmt: skip
