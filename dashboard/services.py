"""Questions about lineage: which services there are, which certificates their nodes run, which nodes were left behind.

Owns what "left behind" is: a place whose newest certificate should have been replaced by now (`renew_by`, which its event fixed) and
was not, from then until SILENT after its end; nobody waits for it after that. Every question is asked for a time `at`; None is now,
which the smaller indexes answer. Must never look at more than one page of lines, and GENERATIONS of each, besides counting, which
ends at COUNTED certificates: one service may have a million, and so may one node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import BooleanField, Count, ExpressionWrapper, Q, QuerySet

from ca import models as inventory
from ca.models import CheckIn
from ca.profiles import RENEWED_LEFT
from eventlog.bulk import among, among_pairs, read_rows

from .lineage import COLUMNS, Member
from .models import LATE_ONCE, Generation
from .thresholds import SILENT

# replacement goes with replace_by, and has an index, without which each page would look at all certificates there are
AWAITED = {"replacement__isnull": False, "replace_by__isnull": False, "replaced_by": None, "revoked_at": None}
GENERATIONS = 10  # of each line, the newest
LINES = 400  # on a page of nodes
LAGGARDS = 100
COUNTED = 10_000  # certificates that a page of services looks at, and as many of one service
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


class After(NamedTuple):
    """Behind the line whose newest certificate is `serial`, on `node`; behind the whole node, if None."""

    node: str
    serial: str | None


class Certificate(Member):
    """A row of Generation, to be looked at."""

    __slots__ = ()

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
    return Generation.objects.filter(_newest(view))


def _newest(view: View) -> Q:
    whose = Q() if view.owner is None else Q(owner=view.owner)
    if view.at is None:
        return whose & Q(superseded_at=None)
    return whose & (Q(superseded_at=None) | Q(superseded_at__gt=view.at)) & Q(issued_at__lte=view.at)


def _not_revoked(at: datetime | None) -> Q:
    return Q(revoked_at=None) if at is None else Q(revoked_at=None) | Q(revoked_at__gt=at)


def _lagging(view: View) -> Q:
    """A range of renew_by, which is never longer than RENEWED_LEFT before the end, so that what is long over costs nothing. LATE_ONCE
    follows from the rest, and leads to the index."""
    lately = view.moment - SILENT
    return LATE_ONCE & _not_revoked(view.at) & Q(renew_by__range=(lately - RENEWED_LEFT, view.moment), not_after__gte=lately)


class Page(NamedTuple):
    """`services` by name: {"service", "nodes", "certificates", "left_behind", "issued_at", "or_more"}, the last being whether it has more
    than were counted. `after` leads to the next page, None if there is none."""

    services: Sequence[Mapping[str, Any]]
    after: str | None


def services(view: View, after: str, limit: int) -> Page:
    """Those whose names come after `after`, at most `limit`: fewer where they are large, as no more than COUNTED certificates are looked
    at. At an earlier time those of other times are among them, so that a page may be short, or empty, and still have a next one."""
    found = _looked(_in_order(view).filter(service__gt=after)[: COUNTED + 1])
    cut = sum(each.looked for each in found) > COUNTED
    if cut and len(found) > 1:
        found.pop()  # it is counted whole on the page that begins with it
    shown = [each.shown() for each in found if each.certificates]
    if len(shown) > limit:
        return Page(shown[:limit], shown[limit - 1]["service"])
    return Page(shown, found[-1].service if cut else None)


class _Group(NamedTuple):
    """One service among the rows that were looked at; all but `looked` are of its newest certificates."""

    service: str
    looked: int
    nodes: int
    certificates: int
    left_behind: int
    issued_at: datetime

    def shown(self) -> dict[str, Any]:
        return {name: value for name, value in self._asdict().items() if name != "looked"} | {"or_more": self.looked > COUNTED}


def _in_order(view: View) -> QuerySet[Generation, Any]:
    """Rows of (service, node, issued at, whether it is a newest one, whether it was left behind), as an index has them."""
    rows = Generation.objects.all() if view.at else newest(view)
    rows = rows.annotate(counts=ExpressionWrapper(_newest(view), BooleanField()), lags=ExpressionWrapper(_lagging(view), BooleanField()))
    return rows.order_by("service").values("service", "node", "issued_at", "counts", "lags")


_GROUPED = """SELECT service, count(*), count(DISTINCT node) FILTER (WHERE counts), count(*) FILTER (WHERE counts),
    count(*) FILTER (WHERE counts AND lags), max(issued_at) FILTER (WHERE counts) FROM ({}) AS looked GROUP BY service ORDER BY service"""


def _looked(rows: QuerySet[Generation, Any]) -> list[_Group]:
    """The rows of _in_order, grouped where they lie: to fetch ten thousand of them takes five times as long."""
    inner, parameters = rows.query.get_compiler(connection=connection).as_sql()
    with connection.cursor() as cursor:
        cursor.execute(_GROUPED.format(inner), parameters)
        return [_Group._make([*row[:-1], _moment(row[-1])]) for row in cursor.fetchall()]


def _moment(value: Any) -> Any:
    """What the database gave for a time, as Python has it."""
    column = Generation._meta.get_field("issued_at").cached_col
    for convert in (*connection.ops.get_db_converters(column), *column.get_db_converters(connection)):
        value = convert(value, column, connection)
    return value


def service(view: View, name: str) -> Mapping[str, Any]:
    """How many "nodes" it has, and how many of their newest "certificates" are "current", "left_behind" or "revoked"; "or_more": whether it
    has more than COUNTED."""
    unrevoked, rows = _not_revoked(view.at), newest(view).filter(service=name)
    found = rows[:COUNTED].aggregate(
        nodes=Count("node", distinct=True), certificates=Count("serial"), left_behind=Count("serial", filter=_lagging(view)),
        current=Count("serial", filter=unrevoked & Q(renew_by__gt=view.moment)), revoked=Count("serial", filter=~unrevoked),
    )  # fmt: skip
    return found | {"or_more": found["certificates"] == COUNTED and rows[COUNTED:].exists()}


def awaited(view: View, name: str) -> int:
    """How many of the newest certificates of the service `name` are ordered to be replaced now, and have no successor yet; of those
    that are counted."""
    serials = newest(view).filter(service=name).values("serial")[:COUNTED]
    return inventory.Certificate.objects.filter(serial__in=serials, not_after__gte=view.now, **AWAITED).count()


def laggards(view: View, name: str | None = None) -> list[Certificate]:
    """The certificates that should have been replaced, of the service `name` or of all, the longest overdue first; at most LAGGARDS."""
    rows = lagging(view)
    rows = rows if name is None else rows.filter(service=name)
    return [Certificate(*row) for row in rows.values_list(*COLUMNS)[:LAGGARDS]]


def lagging(view: View) -> QuerySet[Generation]:
    """The rows of those that should have been replaced, the longest overdue first."""
    return newest(view).filter(_lagging(view)).order_by("renew_by", "serial")


class Nodes(NamedTuple):
    """Of each line of `nodes` the newest GENERATIONS, newest first. `after` leads to the next page, None if there is none."""

    nodes: Mapping[str, Sequence[Certificate]]
    after: After | None


def nodes(view: View, service: str, after: After | None, limit: int) -> Nodes:
    """The nodes of `service` that come after `after`, at most `limit`, and fewer where these have more than LINES lines: a node that has
    more goes on on the next page."""
    rows = _first_of_lines(view, service, after, LINES + 1)
    names = list(dict.fromkeys(row[0] for row in rows))[: limit + 1]
    shown = [row for row in rows[:LINES] if row[0] in names[:limit]]
    found: dict[str, list[Certificate]] = {row[0]: [] for row in shown}
    for each in _generations([(line, number) for _, _, line, number in shown], view.moment):
        found[each.node].append(each)
    if len(shown) == len(rows):
        return Nodes(found, None)
    node, serial = shown[-1][:2]
    return Nodes(found, After(node, serial if rows[len(shown)][0] == node else None))


def lines(view: View, service: str, after: After | None, limit: int, node: str | None = None) -> list[list[Certificate]]:
    """The lines of `service`, by node, that come after `after`, at most `limit`; of each the newest GENERATIONS, newest first. `node`: of
    that one alone."""
    first = _first_of_lines(view, service, after, limit, node)
    found: dict[str, list[Certificate]] = {line: [] for _, _, line, _ in first}
    for each in _generations([(line, number) for _, _, line, number in first], view.moment):
        found[each.line].append(each)
    return list(found.values())


def _first_of_lines(view: View, service: str, after: After | None, limit: int, node: str | None = None) -> list[tuple[str, str, str, int]]:
    """(node, serial, line, number) of the newest certificates, by node and serial."""
    rows = newest(view).filter(service=service)
    rows = rows if node is None else rows.filter(node=node)
    if after is not None and after.serial is None:
        rows = rows.filter(node__gt=after.node)
    elif after is not None:
        rows = rows.filter(Q(node__gt=after.node) | Q(node=after.node, serial__gt=after.serial), node__gte=after.node)
    return list(rows.order_by("node", "serial").values_list("node", "serial", "line", "number")[:limit])


def _generations(lines: Sequence[tuple[str, int]], at: datetime) -> list[Certificate]:
    """Of each (line, number) that number and those before it, as far as they were issued by `at`."""
    wanted = {(line, each) for line, number in lines for each in range(max(1, number - GENERATIONS + 1), number + 1)}
    if not wanted:
        return []
    condition, parameters = among_pairs("line", "number", wanted)
    tail = f"WHERE {condition} AND issued_at <= %s ORDER BY node, profile, line, number DESC, issued_at DESC"
    return [Certificate(*row) for row in read_rows(Generation, COLUMNS, tail, [*parameters, at])]


def replace_by(serials: Sequence[str]) -> dict[str, datetime]:
    """Until when those of these certificates are to be replaced that are ordered to be, and have no successor yet."""
    if not serials:
        return {}
    condition, parameters = among("serial", serials)
    tail = f"WHERE {condition} AND replace_by IS NOT NULL AND replaced_by IS NULL AND revoked_at IS NULL"
    rows = read_rows(inventory.Certificate, ("serial", "replace_by"), tail, parameters)
    return {row[0]: row[1] for row in rows}


def seen(serials: Sequence[str]) -> dict[str, tuple[str, datetime]]:
    """What the holders of these certificates last said is served in their place, and when: see ca.models.CheckIn."""
    if not serials:
        return {}
    condition, parameters = among("serial", serials)
    rows = read_rows(CheckIn, ("serial", "served", "seen_at"), f"WHERE {condition}", parameters)
    return {serial: (served, at) for serial, served, at in rows}
