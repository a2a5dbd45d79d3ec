"""Many certificates revoked at once, by an operator.

Owns orders and their numbers. An order is in the log before anything is revoked under it, and is carried out in
chunks of one append each; a crash at any line leaves an order that `carry_out` takes up where it stopped, for what is left to do
is asked of the certificates, and its numbers of the log. Must never revoke what was issued after the order.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Count

from eventlog import events as log_events
from eventlog.append import StoredEvent, append
from eventlog.models import Event

from . import revocation
from .events import RevocationCompleted, RevocationOrdered
from .pki.reasons import KEY_COMPROMISE
from .revocation import CHUNK, Cause
from .selections import Selection

SAMPLES = 5
Progress = Callable[[int], None]  # certificates looked at so far


class NoSuchOrder(Exception):
    """The log holds no order of this id."""


class OrderCompleted(Exception):
    """The order was carried out."""


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
    absent = selection.without_certificate()
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


def _revoke_orphans(selection: Selection, cause: Cause, now: datetime) -> int:
    orphans = selection.without_certificate()
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
