"""Many certificates revoked at once, by an operator.

Owns selections, orders and their numbers. An order is in the log before anything is revoked under it, and is carried out in
chunks of one append each; a crash at any line leaves an order that `carry_out` takes up where it stopped, for what is left to do
is asked of the certificates, and its numbers of the log. Must never revoke what was issued after the order.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Count, QuerySet

from eventlog import events as log_events
from eventlog.append import StoredEvent, append
from eventlog.models import Event

from . import revocation
from .events import RevocationCompleted, RevocationOrdered
from .models import Certificate
from .pki.reasons import KEY_COMPROMISE
from .profiles import PROFILES
from .revocation import CHUNK, Cause

MAX_SERIALS = 1_000  # that one order may name: an event has at most 65,535 bytes
SAMPLES = 5
_BACKDATE = max(profile.backdate for profile in PROFILES.values())
_TIME = "%Y-%m-%dT%H:%M:%SZ"
Progress = Callable[[int], None]  # certificates looked at so far


class NoSuchOrder(Exception):
    """The log holds no order of this id."""


class OrderCompleted(Exception):
    """The order was carried out."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The certificates of which all holds that is said here; "" and None say nothing. `key` is the hex SHA-256 of the
    SubjectPublicKeyInfo, `serials` are 40 hex digits each and may be orphaned ones. The times are of notBefore, which may lie
    a minute before the certificate was made: `issued_after` allows for that and rather takes one too many. Serials stand
    alone. Raises ValueError for a selection of everything, or of more than MAX_SERIALS."""

    issuer: str = ""
    key: str = ""
    token: str = ""
    owner: str = ""
    service: str = ""
    node: str = ""
    profile: str = ""
    issued_after: datetime | None = None
    issued_before: datetime | None = None
    serials: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.as_data():
            raise ValueError("say which certificates; for all of them, name each issuer")
        if self.serials and len(self.as_data()) > 1:
            raise ValueError("serial numbers say enough: leave out the rest")
        if len(self.serials) > MAX_SERIALS:
            raise ValueError(f"at most {MAX_SERIALS} serial numbers at once")

    def certificates(self) -> QuerySet[Certificate]:
        """Those that are selected, whatever their status."""
        wanted: dict[str, Any] = {name: value for name in _COLUMNS if (value := getattr(self, name))}
        if self.key:
            wanted["spki_sha256"] = bytes.fromhex(self.key)
        if self.issued_after:
            wanted["not_before__gte"] = self.issued_after - _BACKDATE
        if self.issued_before:
            wanted["not_before__lt"] = self.issued_before
        if self.serials:
            wanted["serial__in"] = self.serials
        return Certificate.objects.filter(**wanted)

    def as_data(self) -> dict[str, str | list[str]]:
        """As an event holds it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _plain(value) for name, value in values.items() if value}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Selection:
        """The selection that an event holds."""
        times: dict[str, Any] = {name: datetime.fromisoformat(data[name]) for name in ("issued_after", "issued_before") if name in data}
        return cls(**{**data, **times, "serials": tuple(data.get("serials", ()))})


_COLUMNS = ("issuer", "token", "owner", "service", "node", "profile")


def _plain(value: str | datetime | tuple[str, ...]) -> str | list[str]:
    if isinstance(value, datetime):
        return value.strftime(_TIME)
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True)
class Preview:
    """What an order would do: how many certificates per (service, profile), some of them as (serial, names), the serials
    of orphans, and those that are neither a certificate's nor an orphan's."""

    groups: list[tuple[str, str, int]]
    samples: list[tuple[str, list[str]]]
    orphans: list[str]
    unknown: list[str]

    @property
    def total(self) -> int:
        return sum(count for _, _, count in self.groups) + len(self.orphans)


def preview(selection: Selection, reason: str, now: datetime) -> Preview:
    """What an order for `reason` would revoke, or change the reason of, if it were given at `now`."""
    due = revocation.due(selection.certificates(), reason, now)
    groups = due.values_list("service", "profile").annotate(count=Count("serial")).order_by("service", "profile")
    samples = due.order_by("-log_position").values_list("serial", "names")[:SAMPLES]
    absent = _without_certificate(selection)
    orphans = [serial for serial in absent if log_events.about(serial, "issuance.orphaned")]
    return Preview(list(groups), list(samples), orphans, [serial for serial in absent if serial not in orphans])


def order(selection: Selection, reason: str, why: str, by: str, now: datetime) -> str:
    """Say in the log what is to be revoked; the order's id, for `carry_out`. Nothing is revoked yet, but a key that is named
    as compromised is blocked. Raises Problem for a reason that an operator may not give."""
    revocation.check_reason(reason, "operator")
    order_id = secrets.token_hex(8)
    selected = preview(selection, reason, now).total
    with transaction.atomic():
        ordered = RevocationOrdered(
            order=order_id, selection=selection.as_data(), selected=selected, reason=reason, way="operator", why=why, by=by
        )
        blocked = revocation.blocks({bytes.fromhex(selection.key)}, Cause(reason, "operator", by)) if selection.key else []
        append([ordered.new(), *(blocked if reason == KEY_COMPROMISE else [])], now)
    return order_id


def carry_out(order_id: str, by: str, clock: Callable[[], datetime], progress: Progress = lambda done: None) -> RevocationCompleted:
    """Revoke what the order selects and nobody has revoked yet, and say in the log that it is done. `clock` gives the time of
    each chunk, aware UTC. Raises NoSuchOrder or OrderCompleted."""
    ordered = _open(order_id)
    selection, reason = Selection.from_data(ordered.data["selection"]), ordered.data["reason"]
    cause = Cause(reason, ordered.data["way"], by, order_id)
    done = _revoke_orphans(selection, cause, clock())
    after = 0
    while chunk := _chunk(selection, reason, ordered.position, after, clock()):
        after = chunk[-1][1]
        with transaction.atomic():
            revocation.revoke([serial for serial, _ in chunk], cause, clock())
        done += len(chunk)
        progress(done)
    return _complete(ordered, by, clock())


def selected_by(order_id: str) -> int:
    """How many certificates the order was for when it was given. Raises NoSuchOrder or OrderCompleted."""
    selected: int = _open(order_id).data["selected"]
    return selected


def _open(order_id: str) -> StoredEvent:
    said = {event.type: event for event in log_events.about(order_id, "revocation.ordered", "revocation.completed")}
    if "revocation.ordered" not in said:
        raise NoSuchOrder(order_id)
    if "revocation.completed" in said:
        raise OrderCompleted(order_id)
    return said["revocation.ordered"]


def _chunk(selection: Selection, reason: str, before: int, after: int, now: datetime) -> list[tuple[str, int]]:
    """The next (serial, position), in the order of issuance."""
    due = revocation.due(selection.certificates(), reason, now).filter(log_position__gt=after, log_position__lt=before)
    return list(due.order_by("log_position").values_list("serial", "log_position")[:CHUNK])


def _without_certificate(selection: Selection) -> list[str]:
    known = set(Certificate.objects.filter(serial__in=selection.serials).values_list("serial", flat=True))
    return [serial for serial in selection.serials if serial not in known]


def _revoke_orphans(selection: Selection, cause: Cause, now: datetime) -> int:
    orphans = _without_certificate(selection)
    if orphans:
        with transaction.atomic():
            revocation.revoke(orphans, cause, now)
    return len(orphans)


def _complete(ordered: StoredEvent, by: str, now: datetime) -> RevocationCompleted:
    """The numbers are the log's own, so that they hold for an order that was carried out in several goes."""
    order_id = ordered.data["order"]
    completed = RevocationCompleted(
        order=order_id, revoked=_count(ordered, "certificate.revoked"), escalated=_count(ordered, "revocation.escalated"), by=by
    )
    with transaction.atomic():
        append([completed.new()], now)
    return completed


def _count(ordered: StoredEvent, kind: str) -> int:
    mark = f'"order":"{ordered.data["order"]}"'.encode()  # as canonical JSON has it; inside a string the quotes would be escaped
    bodies = Event.objects.filter(position__gt=ordered.position, type=kind).values_list("body", flat=True)
    return sum(mark in bytes(body) for body in bodies.iterator())
