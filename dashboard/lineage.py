"""dashboard's projection "lineage": each service's certificates, node by node, generation after generation.

Owns every write to Generation. A line is what one place needs one certificate for; a renewal continues its predecessor's line, and
so does a certificate that was asked for anew for the same owner, profile, service, node and names (see watching.line_of). The
newest of a line is current, the others are superseded. What belongs to no service has no lineage. Folds many events at a
time, in their order; asks no clock, so whether a node was left behind is for those to say who read, each for their own time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Any

from eventlog.append import StoredEvent
from eventlog.bulk import among, insert_rows, read_rows, update_rows
from eventlog.projections import Projection
from eventlog.projections import register as register_projection

from .models import Generation
from .watching import line_of

NAME = "lineage"


@dataclass(slots=True)
class Standing:
    """Of a row of Generation what later events ask and change."""

    serial: str
    line: str
    number: int
    place: bytes
    superseded_by: str | None
    superseded_at: datetime | None
    revoked_at: datetime | None


@dataclass(slots=True)
class Member(Standing):
    """A row of Generation."""

    service: str
    node: str
    owner: str
    profile: str
    names: list[str]
    not_before: datetime
    not_after: datetime
    renew_by: datetime
    issued_at: datetime


COLUMNS = tuple(field.name for field in fields(Member))
_STANDING = tuple(field.name for field in fields(Standing))
_SUPERSEDED, _REVOKED = ("superseded_by", "superseded_at"), ("revoked_at",)
_row, _superseded, _revoked = attrgetter(*COLUMNS), attrgetter("serial", *_SUPERSEDED), attrgetter("serial", *_REVOKED)


def register() -> None:
    """Make the projection known to the log. Called once, when Django starts."""
    register_projection(Projection(NAME, {"certificate.issued": _read, "certificate.revoked": _read}, (Generation,)))


class _Lines:
    """The lines that some events concern: as they were stored, then as the events leave them."""

    def __init__(self, events: Sequence[StoredEvent]) -> None:
        issued = [event.data for event in events if event.type == "certificate.issued"]
        serials = {event.subject for event in events if event.type == "certificate.revoked"} | {each["replaces"] for each in issued}
        self._places = {each["serial"]: line_of(each) for each in issued}
        stored = [*_stored("serial", serials - {None}), *_stored("place", set(self._places.values()), " AND superseded_at IS NULL")]
        self._members = {each.serial: each for each in stored}
        self._newest = {each.place: each for each in self._members.values() if each.superseded_at is None}
        self._new: list[Member] = []
        self._changed: dict[str, list[Standing]] = {"superseded": [], "revoked": []}  # of those that were stored

    def issue(self, event: StoredEvent) -> None:
        place = self._places[event.subject]
        before = [each for each in (self._members.get(event.data["replaces"] or ""), self._newest.get(place)) if each]
        member = _member(event, place, before)
        for old in before:
            self._supersede(old, member)
        self._members[member.serial] = self._newest[place] = member
        self._new.append(member)

    def _supersede(self, old: Standing, new: Member) -> None:
        """Once: a second one that took a line over would be no successor."""
        if old.superseded_at is None:
            old.superseded_by, old.superseded_at = new.serial, new.issued_at
            self._newest.pop(old.place, None)
            self._note("superseded", old)

    def revoke(self, event: StoredEvent) -> None:
        member = self._members.get(event.subject)
        if member is not None and member.revoked_at is None:
            member.revoked_at = event.time
            self._note("revoked", member)

    def _note(self, change: str, member: Standing) -> None:
        if not isinstance(member, Member):
            self._changed[change].append(member)

    def write(self) -> None:
        """What was current first: a place has one current certificate at a time."""
        update_rows(Generation, "serial", _SUPERSEDED, map(_superseded, self._changed["superseded"]))
        update_rows(Generation, "serial", _REVOKED, map(_revoked, self._changed["revoked"]))
        insert_rows(Generation, COLUMNS, map(_row, self._new))


def _read(events: Sequence[StoredEvent]) -> None:
    concerned = [event for event in events if event.type == "certificate.revoked" or event.data["service"]]
    lines = _Lines(concerned)
    for event in concerned:
        if event.type == "certificate.issued":
            lines.issue(event)
        else:
            lines.revoke(event)
    lines.write()


def _stored(column: str, values: Collection[Any], more: str = "") -> list[Standing]:
    if not values:
        return []
    condition, parameters = among(column, values)
    return [Standing(*row) for row in read_rows(Generation, _STANDING, f"WHERE {condition}{more}", parameters)]


def _member(event: StoredEvent, place: bytes, before: Sequence[Standing]) -> Member:
    """`before`: what it follows, the predecessor that it was renewed from first."""
    data: Mapping[str, Any] = event.data
    line = before[0].line if before else data["serial"]
    number = 1 + max((each.number for each in before if each.line == line), default=0)
    begin, end, renew_by = (datetime.fromisoformat(data[name]) for name in ("not_before", "not_after", "renew_by"))
    return Member(
        serial=data["serial"], line=line, number=number, place=place, superseded_by=None, superseded_at=None, revoked_at=None,
        service=data["service"], node=data["node"], owner=data["owner"], profile=data["profile"], names=data["names"],
        not_before=begin, not_after=end, renew_by=renew_by, issued_at=event.time,
    )  # fmt: skip
