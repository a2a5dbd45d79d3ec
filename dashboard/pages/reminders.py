"""Reminders: who was told of which certificate, who could not be, and who does not want to be.

Addresses are personal data: they are shown here, to the staff, and nowhere else. A look by state or address walks WINDOW reminders
at a time, as only number and serial have an index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db.models import Max, Q, QuerySet
from django.http import HttpRequest, HttpResponseBase

from ca.errors import Problem
from ca.models import Certificate
from dashboard import access, asking, contacts
from dashboard.models import Contact, Reminder, Snooze, State, Unsubscribed
from dashboard.roles import Right

from .base import show

SIZE, WINDOW, SILENCED, ADDRESSES = 50, 10_000, 50, 1_000
STATES: Mapping[str, Q] = {
    "sent": Q(state=State.SENT),
    "waiting": Q(state__in=(State.DUE, State.CLAIMED), answer=""),
    "not delivered": Q(state=State.DUE) & ~Q(answer=""),
    "perhaps sent": Q(state=State.HANDED),
}


@access.page(Right.SEE_ALL)
def reminders(request: HttpRequest) -> HttpResponseBase:
    """GET reminders/"""
    now = datetime.now(UTC)
    context: dict[str, Any] = {"states": tuple(STATES), "asked": {}, "mail": settings.EMAIL, "webhook": settings.WEBHOOK_URL}
    try:
        context["asked"] = asked = asking.parameters(request, ("state", "serial", "recipient", "before"))
        context |= _found(asked)
    except Problem as problem:
        return show(request, "reminders.html", {**context, "problem": problem}, now, status=400)
    silent = {} if asked else {"snoozed": _snoozed(now), "unsubscribed": _unsubscribed()}
    return show(request, "reminders.html", {**context, **silent, "window": WINDOW}, now)


def _found(asked: Mapping[str, str]) -> dict[str, Any]:
    """A page of reminders, newest first, and what leads to the one before it in time."""
    state = asking.choice(asked.get("state"), STATES, "state")
    rows, floor = _walk(asked, asking.number(asked.get("before"), "before"))
    if state:
        rows = rows.filter(STATES[state])
    if "recipient" in asked:
        rows = rows.filter(recipient=asked["recipient"])
    found = list(rows.order_by("-id")[: SIZE + 1])
    older = found[SIZE - 1].id if len(found) > SIZE else floor
    return {"reminders": _with_names(found[:SIZE]), "older": older}


def _walk(asked: Mapping[str, str], before: int | None) -> tuple[QuerySet[Reminder], int | None]:
    """What one page may look at, and the number from which the next one goes on; None: there is nothing older."""
    rows = Reminder.objects.all() if before is None else Reminder.objects.filter(id__lt=before)
    if "serial" in asked:
        return rows.filter(serial=asked["serial"]), None
    if not {"state", "recipient"} & set(asked):
        return rows, None
    newest = before or (rows.aggregate(newest=Max("id"))["newest"] or 0) + 1
    floor = max(0, newest - WINDOW)
    return rows.filter(id__gte=floor), floor or None


def _with_names(rows: Sequence[Reminder]) -> list[dict[str, Any]]:
    names = dict(Certificate.objects.filter(serial__in=[row.serial for row in rows]).values_list("serial", "names"))
    return [{"reminder": row, "names": names.get(row.serial), "standing": _standing(row)} for row in rows]


def _standing(row: Reminder) -> str:
    if row.state == State.DUE:
        return "not delivered" if row.answer else "waiting"
    return {State.SENT: "sent", State.HANDED: "perhaps sent"}.get(State(row.state), "waiting")


# --- Silenced


def _snoozed(now: datetime) -> list[dict[str, Any]]:
    """Of those in force, the ones that last longest first."""
    rows = list(Snooze.objects.filter(Q(until=None) | Q(until__gt=now)).order_by("-until", "serial")[:SILENCED])
    told = Reminder.objects.filter(serial__in={row.serial for row in rows}).values_list("recipient_hash", "recipient")
    addresses = dict(told) if rows else {}
    return [{"serial": row.serial, "until": row.until, "recipient": addresses.get(row.recipient_hash)} for row in rows]


def _unsubscribed() -> list[dict[str, Any]]:
    """The newest, with their addresses as far as the contacts have them."""
    rows = list(Unsubscribed.objects.order_by("-at")[:SILENCED])
    known = [*Contact.objects.values_list("address", flat=True)[:ADDRESSES], *settings.MAIL_TO] if rows else []
    addresses = {contacts.hash_of(address): address for address in known}
    return [{"at": row.at, "recipient": addresses.get(row.recipient_hash)} for row in rows]
