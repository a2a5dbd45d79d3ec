"""Questions about lineage: which services there are, which certificates their nodes run, which nodes were left behind.

Owns what "left behind" is: a place whose newest certificate should have been replaced by now (`renew_by`, which its event fixed) and
was not, from then until SILENT after its end; nobody waits for it after that. Every question is asked for a time `at`; None is now,
which the smaller indexes answer. Must never look at more than one page of nodes, and GENERATIONS of each line, besides counting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Count, Max, Q, QuerySet

from ca.models import CheckIn
from ca.profiles import RENEWED_LEFT
from eventlog.bulk import places, read_rows

from .models import Generation
from .thresholds import SILENT

GENERATIONS = 10  # of each line, the newest
LAGGARDS = 100
CURRENT, LEFT_BEHIND, EXPIRED, REVOKED, SUPERSEDED = STATUSES = ("current", "left_behind", "expired", "revoked", "superseded")


class View(NamedTuple):
    """Whose certificates are looked at (None: everybody's), at what time, and what time it is now. `at` None: now."""

    owner: str | None
    at: datetime | None
    now: datetime

    @property
    def moment(self) -> datetime:
        """The time that is asked about."""
        return self.at or self.now


class Certificate(NamedTuple):
    """A row of Generation, as far as it is shown."""

    serial: str
    line: str
    number: int
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

    def status(self, at: datetime) -> str:
        """One of STATUSES, as things stood at `at`."""
        if self.revoked_at is not None and self.revoked_at <= at:
            return REVOKED
        if self.superseded_at is not None and self.superseded_at <= at:
            return SUPERSEDED
        if self.not_after < at:
            return EXPIRED
        return LEFT_BEHIND if self.renew_by <= at else CURRENT


def newest(view: View) -> QuerySet[Generation]:
    """The newest certificate of each place."""
    rows = Generation.objects.all() if view.owner is None else Generation.objects.filter(owner=view.owner)
    if view.at is None:
        return rows.filter(superseded_at=None)
    return rows.filter(Q(superseded_at=None) | Q(superseded_at__gt=view.at), issued_at__lte=view.at)


def _not_revoked(at: datetime | None) -> Q:
    return Q(revoked_at=None) if at is None else Q(revoked_at=None) | Q(revoked_at__gt=at)


def _lagging(view: View) -> Q:
    """A range of renew_by, which is never longer than RENEWED_LEFT before the end, so that what is long over costs nothing."""
    lately = view.moment - SILENT
    return _not_revoked(view.at) & Q(renew_by__range=(lately - RENEWED_LEFT, view.moment), not_after__gte=lately)


def services(view: View, after: str, limit: int) -> list[Mapping[str, Any]]:
    """The services whose names come after `after`, at most `limit`: {"service", "nodes", "certificates", "left_behind", "issued_at"}."""
    return list(
        newest(view).filter(service__gt=after).values("service").order_by("service").annotate(
            nodes=Count("node", distinct=True), certificates=Count("serial"), left_behind=Count("serial", filter=_lagging(view)),
            issued_at=Max("issued_at"),
        )[:limit]
    )  # fmt: skip


def service(view: View, name: str) -> Mapping[str, int]:
    """How many "nodes" it has, and how many of their newest "certificates" are "current", "left_behind" or "revoked"."""
    unrevoked = _not_revoked(view.at)
    return newest(view).filter(service=name).aggregate(
        nodes=Count("node", distinct=True), certificates=Count("serial"), left_behind=Count("serial", filter=_lagging(view)),
        current=Count("serial", filter=unrevoked & Q(renew_by__gt=view.moment)), revoked=Count("serial", filter=~unrevoked),
    )  # fmt: skip


def laggards(view: View, name: str | None = None) -> list[Certificate]:
    """The certificates that should have been replaced, of the service `name` or of all, the longest overdue first; at most LAGGARDS."""
    rows = newest(view).filter(_lagging(view))
    rows = rows if name is None else rows.filter(service=name)
    return [Certificate(*row) for row in rows.order_by("renew_by", "serial").values_list(*Certificate._fields)[:LAGGARDS]]


def nodes(view: View, service: str, after: str | None, limit: int) -> dict[str, list[Certificate]]:
    """The nodes of `service` whose names come after `after` (None: from the first), at most `limit`; of each line the newest
    GENERATIONS, newest first."""
    rows = newest(view).filter(service=service)
    rows = rows if after is None else rows.filter(node__gt=after)
    names = list(rows.order_by("node").values_list("node", flat=True).distinct()[:limit])
    lines = newest(view).filter(service=service, node__in=names).order_by("node").values_list("node", "line", "number")
    found: dict[str, list[Certificate]] = {name: [] for name in names}
    for each in _generations([(line, number) for _, line, number in lines], view.moment):
        found[each.node].append(each)
    return found


def _generations(lines: Sequence[tuple[str, int]], at: datetime) -> list[Certificate]:
    """Of each (line, number) that number and those before it, as far as they were issued by `at`."""
    wanted = {(line, each) for line, number in lines for each in range(max(1, number - GENERATIONS + 1), number + 1)}
    if not wanted:
        return []
    pairs = ", ".join(["(%s, %s)"] * len(wanted))
    tail = f"WHERE (line, number) IN (VALUES {pairs}) AND issued_at <= %s ORDER BY node, profile, line, number DESC, issued_at DESC"
    return [
        Certificate(*row) for row in read_rows(Generation, Certificate._fields, tail, [*(each for pair in wanted for each in pair), at])
    ]


def seen(serials: Sequence[str]) -> dict[str, tuple[str, datetime]]:
    """What the holders of these certificates last said is served in their place, and when: see ca.models.CheckIn."""
    if not serials:
        return {}
    rows = read_rows(CheckIn, ("serial", "served", "seen_at"), f"WHERE serial IN ({places(serials)})", serials)
    return {serial: (served, at) for serial, served, at in rows}
