"""The facts that dashboard writes into the log, as frozen dataclasses in the past tense.

Owns the names, versions and fields of these events; the JSON Schema of each version lies in dashboard/schemas/. Must never hold a
secret, nor an address: the log is for ever, and personal data is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ca.events import Event


@dataclass(frozen=True)
class CertificateFlagged(Event):
    """A certificate that nothing has replaced reached `threshold` (see dashboard.thresholds), the gravest at that time. Once for
    each certificate and threshold."""

    schema: ClassVar[str] = "quicklime/certificate.flagged/1-0-0"
    serial: str
    threshold: str
    owner: str
    profile: str
    service: str
    node: str
    not_after: str

    def subject(self) -> str:
        return self.serial


@dataclass(frozen=True)
class ReminderSent(Event):
    """Somebody was told of a certificate at `threshold`. `channel` "mail" or "webhook"; `recipient` a keyed hash (hex) of who;
    `message` the id of the message, which may tell of other certificates too."""

    schema: ClassVar[str] = "quicklime/reminder.sent/1-0-0"
    serial: str
    threshold: str
    channel: str
    recipient: str
    message: str

    def subject(self) -> str:
        return self.serial
