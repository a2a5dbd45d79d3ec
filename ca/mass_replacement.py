"""Many certificates replaced before a deadline, by an operator's order: nodes renew early, and the old ones are revoked behind them.

Owns orders, the marks on certificates, and what becomes of these. An order is in the log before anything is marked; every step after it
is asked of the database, so that `tend`, which a beat calls, takes up after a crash at any line, catches up after an outage, and does
nothing twice. Must never mark what was issued after the order, nor revoke by any way but ca.revocation's.

A certificate that has a successor is revoked as soon as its node says that it serves the successor. Where nobody looks what is served,
that is an hour after the successor began; where something else is served, at the deadline.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from eventlog import head
from eventlog.append import append

from . import revocation
from .errors import Problem
from .events import ReplacementCompleted, ReplacementMarked, ReplacementOrdered
from .hierarchy import SELF
from .models import Activation, Certificate, CheckIn, Replacement, Token
from .pki.reasons import KEY_COMPROMISE
from .revocation import CHUNK, Cause
from .selections import Selection

SETTLE = timedelta(hours=1)
SHORTEST, LONGEST = timedelta(hours=2), timedelta(days=366)  # nodes look in once an hour or so
TURN = 20  # chunks of each order that one beat marks, and that it revokes
SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Preview:
    """What an order would be for: how many certificates per (service, profile), how many of all have a successor already, some of
    them as (serial, names), the serials that no certificate has, and what the operator should know."""

    groups: list[tuple[str, str, int]]
    succeeded: int
    samples: list[tuple[str, list[str]]]
    unknown: list[str]
    warnings: list[str]

    @property
    def total(self) -> int:
        return sum(count for _, _, count in self.groups)


class Progress(NamedTuple):
    """How far an order is: the certificates marked under it, those of them that have a successor, that are revoked, that still wait
    for a successor, and that expired without one."""

    marked: int
    replaced: int
    revoked: int
    waiting: int
    expired: int


def preview(selection: Selection, now: datetime) -> Preview:
    """What an order given at `now` would be for."""
    alive = _meant(selection, now)
    groups = alive.values_list("service", "profile").annotate(count=Count("serial")).order_by("service", "profile")
    samples = alive.order_by("-log_position").values_list("serial", "names")[:SAMPLES]
    succeeded = alive.exclude(replaced_by=None).count()
    return Preview(list(groups), succeeded, list(samples), selection.without_certificate(), _warnings(selection, now))


def _warnings(selection: Selection, now: datetime) -> list[str]:
    """What makes the successors no better than what they replace, or hinders them."""
    found = []
    if profiles := sorted(Activation.objects.filter(issuer=selection.issuer).values_list("profile", flat=True)):
        found.append(f"{selection.issuer} still signs {', '.join(profiles)}, as it will the successors: activate another first")
    token = Token.objects.filter(id=selection.token).first()
    if token and token.is_live(now):
        found.append("the token lives: successors that are asked for without another token stand under it again")
    elif token:
        found.append("the token has ended: a node can only renew with another one of the same owner")
    return found


def check(deadline: datetime, reason: str, now: datetime) -> None:
    """Raise Problem for a deadline that an order given at `now` may not have, or a reason that bears no delay."""
    if not SHORTEST <= deadline - now <= LONGEST:
        raise Problem("deadlineForbidden", f"a deadline is {SHORTEST} to {LONGEST} ahead: nodes look in once an hour", "deadline")
    if reason == KEY_COMPROMISE:
        raise Problem("reasonForbidden", "a compromised key is revoked at once: manage.py revoke_certificates", "reason")
    revocation.check_reason(reason, "operator")


def order(selection: Selection, deadline: datetime, reason: str, why: str, by: str, now: datetime) -> str:
    """Say in the log what is to be replaced before `deadline`, whole seconds; the order's id, for `mark`. Raises Problem
    as `check` does."""
    check(deadline, reason, now)
    order_id = secrets.token_hex(8)
    ordered = ReplacementOrdered(
        order=order_id, selection=selection.as_data(), selected=_meant(selection, now).count(),
        deadline=f"{deadline:%Y-%m-%dT%H:%M:%SZ}", new_key=bool(selection.key), reason=reason, why=why, by=by,
    )  # fmt: skip
    with transaction.atomic():
        append([ordered.new()], now)
    return order_id


def mark(order_id: str, now: datetime) -> bool:
    """Mark the next chunk of what the order selects, an earlier deadline of another order standing; whether there may be more."""
    row = Replacement.objects.get(order=order_id)
    if row.marked_to == row.position:
        return False
    chunk = _unmarked(row, now)
    upto = chunk[-1][1] if len(chunk) == CHUNK else row.position
    with transaction.atomic():
        head.lock()
        if Replacement.objects.get(order=order_id).marked_to == row.marked_to:  # else another was faster
            append([ReplacementMarked(order=order_id, serials=[serial for serial, _ in chunk], upto=upto).new()], now)
    return True


def tend(now: datetime) -> None:
    """Carry on every order that is not completed."""
    for row in Replacement.objects.filter(completed_at=None).order_by("position"):
        _tend(row, now)


def progress(order_id: str, now: datetime) -> Progress:
    """Of an order that exists."""
    marked = Certificate.objects.filter(replacement=order_id)
    waiting, ended = Q(revoked_at=None, replaced_by=None, not_after__gte=now), Q(revoked_at=None, replaced_by=None, not_after__lt=now)
    counts = marked.aggregate(
        marked=Count("serial"), replaced=Count("serial", filter=~Q(replaced_by=None)), revoked=Count("serial", filter=~Q(revoked_at=None)),
        waiting=Count("serial", filter=waiting), expired=Count("serial", filter=ended),
    )  # fmt: skip
    return Progress(**counts)


# --- one order


def _alive(certificates: QuerySet[Certificate], now: datetime) -> QuerySet[Certificate]:
    return certificates.filter(revoked_at=None, not_after__gte=now)


def _meant(selection: Selection, now: datetime) -> QuerySet[Certificate]:
    """What an order is for. The CA's own certificates have no node that could learn of it; they renew themselves by other rules."""
    return _alive(selection.certificates(), now).exclude(owner=SELF)


def _unmarked(row: Replacement, now: datetime) -> list[tuple[str, int]]:
    """The next (serial, position), in the order of issuance."""
    free = _meant(Selection.from_data(row.selection), now).filter(Q(replace_by=None) | Q(replace_by__gt=row.deadline))
    left = free.filter(log_position__gt=row.marked_to, log_position__lt=row.position)
    return list(left.order_by("log_position").values_list("serial", "log_position")[:CHUNK])


def _tend(row: Replacement, now: datetime) -> None:
    for _ in range(TURN):
        if not mark(row.order, now):
            break
    else:
        return  # the next beat goes on
    cause = Cause(row.reason, "operator", row.by, row.order)
    for _ in range(TURN):
        serials = list(_due(row, now).order_by("log_position").values_list("serial", flat=True)[:CHUNK])
        if not serials:
            break
        with transaction.atomic():
            revocation.revoke(serials, cause, now)
    _complete(row, now)


def _due(row: Replacement, now: datetime) -> QuerySet[Certificate]:
    """What is to be revoked now."""
    alive = _alive(Certificate.objects.filter(replacement=row.order), now)
    if now >= row.deadline:
        return alive
    said = CheckIn.objects.filter(serial=OuterRef("replaced_by")).exclude(served="")
    deployed = said.filter(served=OuterRef("replaced_by"))
    settled = Certificate.objects.filter(serial=OuterRef("replaced_by"), not_before__lte=now - SETTLE)
    return alive.filter(Exists(deployed) | (Exists(settled) & ~Exists(said)))


def _complete(row: Replacement, now: datetime) -> None:
    if _alive(Certificate.objects.filter(replacement=row.order), now).exists():
        return
    with transaction.atomic():
        head.lock()
        if Replacement.objects.filter(order=row.order, completed_at=None).exists():
            of = progress(row.order, now)
            completed = ReplacementCompleted(order=row.order, marked=of.marked, replaced=of.replaced, left=of.marked - of.replaced)
            append([completed.new()], now)
