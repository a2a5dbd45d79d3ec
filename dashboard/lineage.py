"""dashboard's projection "lineage": each service's certificates, node by node, generation after generation.

Owns every write to Generation. A line is what one place needs one certificate for; a renewal continues its predecessor's line, and
so does a certificate that was asked for anew for the same owner, profile, service, node and names (see watching.line_of). The
newest of a line is current, the others are superseded. What belongs to no service has no lineage. Folds many events at a
time, in their order; asks no clock, so whether a node was left behind is for those to say who read, each for their own time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from operator import attrgetter
from typing import Any

from eventlog.append import StoredEvent
from eventlog.bulk import insert_rows, places, read_rows, update_rows
from eventlog.projections import Projection
from eventlog.projections import register as register_projection

from .models import Generation
from .watching import line_of

NAME = "lineage"


@dataclass(slots=True)
class _Member:
    """A row of Generation."""

    serial: str
    line: str
    number: int
    place: bytes
    service: str
    node: str
    owner: str
    profile: str
    names: list[str]
    not_before: datetime
    not_after: datetime
    renew_by: datetime
    issued_at: datetime
    superseded_by: str | None
    superseded_at: datetime | None
    revoked_at: datetime | None


_COLUMNS = tuple(field.name for field in fields(_Member))
_CHANGING = ("superseded_by", "superseded_at", "revoked_at")
_row, _changing = attrgetter(*_COLUMNS), attrgetter("serial", *_CHANGING)


def register() -> None:
    """Make the projection known to the log. Called once, when Django starts."""
    register_projection(Projection(NAME, {"certificate.issued": _read, "certificate.revoked": _read}, (Generation,)))


class _Lines:
    """The lines that some events concern: as they were stored, then as the events leave them."""

    def __init__(self, events: Sequence[StoredEvent]) -> None:
        issued = [event.data for event in events if event.type == "certificate.issued"]
        serials = {event.subject for event in events if event.type == "certificate.revoked"} | {each["replaces"] for each in issued}
        stored = [*_stored("serial", serials - {None}), *_stored("place", {line_of(each) for each in issued}, " AND superseded_at IS NULL")]
        self.members = {each.serial: each for each in stored}
        self.newest = {each.place: each for each in self.members.values() if each.superseded_at is None}
        self._known = set(self.members)

    def issue(self, event: StoredEvent) -> None:
        place = line_of(event.data)
        before = [each for each in (self.members.get(event.data["replaces"] or ""), self.newest.get(place)) if each]
        member = _member(event, place, before)
        for old in before:
            self._supersede(old, member)
        self.members[member.serial] = self.newest[place] = member

    def _supersede(self, old: _Member, new: _Member) -> None:
        """Once: a second one that took a line over would be no successor."""
        if old.superseded_at is None:
            old.superseded_by, old.superseded_at = new.serial, new.issued_at
            self.newest.pop(old.place, None)

    def revoke(self, event: StoredEvent) -> None:
        member = self.members.get(event.subject)
        if member is not None and member.revoked_at is None:
            member.revoked_at = event.time

    def write(self) -> None:
        """What was current first: a place has one current certificate at a time."""
        update_rows(Generation, "serial", _CHANGING, [_changing(self.members[serial]) for serial in self._known])
        insert_rows(Generation, _COLUMNS, [_row(each) for serial, each in self.members.items() if serial not in self._known])


def _read(events: Sequence[StoredEvent]) -> None:
    concerned = [event for event in events if event.type == "certificate.revoked" or event.data["service"]]
    lines = _Lines(concerned)
    for event in concerned:
        if event.type == "certificate.issued":
            lines.issue(event)
        else:
            lines.revoke(event)
    lines.write()


def _stored(column: str, values: Iterable[Any], more: str = "") -> list[_Member]:
    wanted = list(values)
    if not wanted:
        return []
    rows = read_rows(Generation, _COLUMNS, f"WHERE {column} IN ({places(wanted)}){more}", wanted)
    return [_Member(*each) for each in map(_plain, rows)]


def _plain(row: Sequence[Any]) -> Sequence[Any]:
    return [bytes(value) if isinstance(value, memoryview) else value for value in row]


def _member(event: StoredEvent, place: bytes, before: Sequence[_Member]) -> _Member:
    """`before`: what it follows, the predecessor that it was renewed from first."""
    data: Mapping[str, Any] = event.data
    line = before[0].line if before else data["serial"]
    number = 1 + max((each.number for each in before if each.line == line), default=0)
    begin, end, renew_by = (datetime.fromisoformat(data[name]) for name in ("not_before", "not_after", "renew_by"))
    return _Member(
        serial=data["serial"], line=line, number=number, place=place,
        service=data["service"], node=data["node"], owner=data["owner"], profile=data["profile"], names=data["names"],
        not_before=begin, not_after=end, renew_by=renew_by, issued_at=event.time, superseded_by=None, superseded_at=None, revoked_at=None,
    )  # fmt: skip
