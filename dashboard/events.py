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


@dataclass(frozen=True)
class ApproverTold(Event):
    """Somebody who may approve the request was told that it waits. `channel` "mail" or "webhook"; `recipient` a keyed hash (hex) of who;
    `message` the id of the message, which may tell of other requests too."""

    schema: ClassVar[str] = "quicklime/approver.told/1-0-0"
    request: str
    channel: str
    recipient: str
    message: str

    def subject(self) -> str:
        return self.request


@dataclass(frozen=True)
class AccountChanged(Event):
    """From here on the account has these roles (see dashboard.roles), speaks for these owners, and may sign in if `active`. `what`
    "created", "changed", or "password" for one that was set by another than its holder; `by` who did it."""

    schema: ClassVar[str] = "quicklime/account.changed/1-0-0"
    account: str
    what: str
    active: bool
    roles: list[str]
    owners: list[str]
    by: str
    why: str

    def subject(self) -> str:
        return self.account


@dataclass(frozen=True)
class OperatorActed(Event):
    """An operator did something that has no event of its own: `act` what (of dashboard.operations), `about` the serial, request id or name
    it was done to, `by` whom, and `why`."""

    schema: ClassVar[str] = "quicklime/operator.acted/1-0-0"
    act: str
    about: str
    by: str
    why: str

    def subject(self) -> str:
        return self.about
