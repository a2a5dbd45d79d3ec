"""/metrics, for Prometheus: what /readyz says in numbers, some more from the database, and what all processes counted together.

Owns who may read it, and the names of the gauges. Every web process answers for the whole installation, so one of them is asked.
Must never hang: a database or a Redis that does so leaves its part out, and the rest is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import redis
from django.db import DatabaseError, InterfaceError, connections
from django.db.models import Count, Min, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from prometheus_client import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from ca.api import authentication, problems
from ca.errors import Problem
from ca.models import UNFINISHED, Issuer, Request, State
from dashboard.models import Ending
from eventlog import head
from eventlog.models import Checkpoint
from ocsp.models import Crl

from . import health, measuring, middleware
from .health import Probe, Report

_FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_VIA")
_HORIZONS = (1, 7, 30)  # days


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Text of Prometheus' exposition format, for who asks from this machine or sends a token that may audit (decision 0030)."""
    report = health.latest()
    try:
        _admit(request, report)
    except Problem as problem:
        return problems.respond(problem)
    known = _more.latest() if _answers(report) else []
    text = generate_latest(_Collected([*gauges(report), *known, *_counted.latest()]))
    return HttpResponse(text, content_type=CONTENT_TYPE_PLAIN_0_0_4, headers={"Cache-Control": "no-store"})


class _Collected(Collector):
    """As generate_latest takes it."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


# --- who may read


def _admit(request: HttpRequest, report: Report) -> None:
    """Raises Problem. A token is looked for in the database only if that answered just now."""
    if "HTTP_AUTHORIZATION" not in request.META:
        if not _is_local(request):
            raise Problem("notAuthenticated", "ask from the machine itself, or send a token that may audit: Authorization: Bearer ql_…")
        return
    if not _answers(report):
        raise Problem("unavailable", "the database is not available, so that no token can be checked; ask from the machine itself")
    caller = authentication.caller(request.META, datetime.now(UTC))
    if caller is None or not caller.sees_all:
        raise Problem("forbidden", "the token may not audit")


def _is_local(request: HttpRequest) -> bool:
    """Whether it comes from this machine, and nobody forwarded it: behind a proxy that is not named in
    QUICKLIME_TRUSTED_PROXIES everybody seems to."""
    address = middleware.address(request.META.get("REMOTE_ADDR", ""))
    return address is not None and address.is_loopback and not any(name in request.META for name in _FORWARDED)


def _answers(report: Report) -> bool:
    return bool(report.get("database", {}).get("ok"))


# --- from the report of /readyz


class _Gauge(NamedTuple):
    """`name` without its prefix; the value is report[check][key] times `factor`, by `label` and what is in there if that is a dict."""

    name: str
    help: str
    check: str
    key: str
    label: str = ""
    factor: float = 1


_GAUGES = (
    _Gauge("requests_unfinished", "Accepted requests that are neither issued nor rejected.", "requests", "unfinished"),
    _Gauge("requests_oldest_seconds", "Age of the oldest of these.", "requests", "oldest_seconds"),
    _Gauge("projection_lag_events", "Events of the log that a projection has not read yet.", "projections", "behind", "projection"),
    _Gauge("log_uncovered_events", "Events that no checkpoint covers yet.", "log", "uncovered"),
    _Gauge("log_uncovered_seconds", "For how long the oldest of these has been waiting.", "log", "uncovered_seconds"),
    _Gauge("beat_seconds", "Seconds since beat last noted that it sent a task.", "beat", "seconds_ago"),
    _Gauge("queue_messages", "Messages that wait for a worker.", "workers", "waiting", "queue"),
    _Gauge("ocsp_overdue_seconds", "For how long the OCSP answer that is due first has been due.", "ocsp", "overdue_seconds"),
    _Gauge("ocsp_revoked_unsigned_seconds", "For how long a revoked certificate has had no answer.", "ocsp", "revoked_unsigned_seconds"),
    _Gauge("ocsp_missing", "Certificates without an answer, of those looked at.", "ocsp", "missing"),
    _Gauge("ocsp_missing_seconds", "For how long the first of these has had none.", "ocsp", "missing_seconds"),
    _Gauge("ocsp_unread_seconds", "Age of the oldest event that OCSP has not taken note of.", "ocsp", "unread_seconds"),
    _Gauge("ocsp_ahead", "Answers that were signed for a time to come.", "ocsp", "ahead"),
    _Gauge("status_files_behind", "Changes that QUICKLIME_STATUS_DIR does not show yet.", "ocsp", "files_behind"),
    _Gauge("crl_overdue", "CRLs that should have been followed by the next.", "crl", "overdue"),
    _Gauge("responder_seconds", "Since an OCSP responder last looked at the database.", "responders", "seconds_ago", "responder"),
    _Gauge("responder_lag_events", "Events that it has not read by then.", "responders", "behind", "responder"),
    _Gauge("nodes_left_behind", "Nodes that run what should have been renewed.", "renewals", "left_behind"),
    _Gauge("reminders_waiting", "Reminders that should have gone out by now.", "reminders", "waiting"),
    _Gauge("reminders_waiting_seconds", "For how long the first of these has been due.", "reminders", "waiting_seconds"),
    _Gauge("reminders_refused", "Reminders that were tried in vain and will be tried again.", "reminders", "refused"),
    _Gauge("backup_seconds", "Since the newest backup that was noted began.", "backups", "seconds_ago"),
    _Gauge("backup_late", "Whether that, or a log without any, is older than QUICKLIME_BACKUP_HOURS.", "backups", "late"),
    _Gauge("database_seconds", "What the questions of /readyz to the database took.", "database", "milliseconds", factor=0.001),
)


def gauges(report: Report) -> Iterator[Metric]:
    """The numbers of a report; what it does not know is left out."""
    yield _gauge("ready", "Whether /readyz is green.", [({}, all(check["ok"] for check in report.values()))])
    yield _gauge("check_ok", "Whether a check of /readyz is green.", [({"check": name}, check["ok"]) for name, check in report.items()])
    for each in _GAUGES:
        found = report.get(each.check, {}).get(each.key)
        values = [({each.label: name}, value) for name, value in found.items()] if isinstance(found, dict) else [({}, found)]
        if found is not None:
            yield _gauge(each.name, each.help, [(labels, value * each.factor) for labels, value in values])
    stopped = report.get("projections", {}).get("stopped", ())
    known = report.get("projections", {}).get("behind", {})
    yield _gauge("projection_stopped", "Whether a projection met an event that it cannot apply.", [
        ({"projection": name}, name in stopped) for name in known
    ])  # fmt: skip
    shapes = report.get("shapes")
    if shapes:
        yield _gauge("shapes_refused", "Shapes of certificates that failed their lint, 20 at most.", [({}, len(shapes["failed"]))])


def _gauge(name: str, documentation: str, values: Iterable[tuple[dict[str, str], float]]) -> Metric:
    metric = Metric(f"quicklime_{name}", documentation, "gauge")
    for labels, value in values:
        metric.add_sample(metric.name, labels, float(value))
    return metric


# --- more, from the database


def look(now: datetime) -> list[Metric]:
    """What /readyz need not know: a handful of looks into indexes and small tables."""
    return [*_requests(now), *_log(), _crls(), _issuers(), _endings(now)]


def _requests(now: datetime) -> Iterator[Metric]:
    rows = Request.objects.filter(state__in=UNFINISHED).with_since().values("state").annotate(count=Count("id"), oldest=Min("since"))
    found = {row["state"]: (row["count"], _age(row["oldest"], now)) for row in rows}
    states = {state.value: found.get(state.value, (0, 0.0)) for state in UNFINISHED}
    yield _gauge("requests_waiting", "Unfinished requests by how far they are; received ones are the backlog.", [
        ({"state": state}, count) for state, (count, _) in states.items()
    ])  # fmt: skip
    yield _gauge("requests_waiting_oldest_seconds", "Age of the oldest of each.", [
        ({"state": state}, age) for state, (_, age) in states.items()
    ])  # fmt: skip
    awaiting = Request.objects.filter(state=State.AWAITING).aggregate(count=Count("id"), oldest=Min("created_at"))
    yield _gauge("requests_awaiting_approval", "Requests that wait for an approver.", [({}, awaiting["count"])])
    yield _gauge("requests_awaiting_approval_seconds", "Age of the oldest of these.", [({}, _age(awaiting["oldest"], now))])


def _age(since: datetime | None, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds()) if since else 0.0


def _log() -> Iterator[Metric]:
    yield _gauge("log_size", "Events in the log.", [({}, head.size())])
    newest = Checkpoint.objects.order_by("-size").values_list("size", "time").first()
    if newest:
        yield _gauge("checkpoint_size", "Events that the newest checkpoint covers.", [({}, newest[0])])
        yield _gauge("checkpoint_timestamp_seconds", "When it was signed.", [({}, newest[1].timestamp())])


def _crls() -> Metric:
    rows = Crl.objects.values("issuer").annotate(first=Min("next_update"))
    values = [({"issuer": row["issuer"]}, row["first"].timestamp()) for row in rows]
    return _gauge("crl_next_update_timestamp_seconds", "The first nextUpdate of an issuer's CRLs.", values)


def _issuers() -> Metric:
    rows = Issuer.objects.values_list("name", "kind", "not_after")
    values = [({"issuer": name, "kind": kind}, not_after.timestamp()) for name, kind, not_after in rows]
    return _gauge("issuer_not_after_timestamp_seconds", "When a certificate of the CA itself ends.", values)


def _endings(now: datetime) -> Metric:
    """By whole days: a projection counts these."""
    sums = {f"{days}d": Sum("count", filter=Q(day__lte=now.date() + timedelta(days))) for days in _HORIZONS}
    found = Ending.objects.filter(day__gte=now.date()).aggregate(**sums)
    return _gauge("certificates_ending", "Certificates without successor that end within so many days.", [
        ({"within": within}, found[within] or 0) for within in sums
    ])  # fmt: skip


# --- looking, in a thread of its own


def _look_and_hang_up() -> list[Metric]:
    try:
        return look(datetime.now(UTC))
    except (DatabaseError, InterfaceError):  # /readyz says so
        return []
    finally:
        connections.close_all()


def _ask() -> list[Metric]:
    try:
        return list(measuring.shared().metrics())
    except (redis.RedisError, OSError):  # /readyz says so
        return []


def _nothing(_: str) -> list[Metric]:
    return []


_more, _counted = Probe(_look_and_hang_up, _nothing), Probe(_ask, _nothing)
