"""Whether this process lives, and whether the installation can do its work.

Owns the two health answers. /readyz says what is behind, in numbers, to anybody who may reach the port: no secrets, and no names
but for auditors. Must never hang: the looking is done in a thread of its own, and an answer is given without it when it is late.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import redis
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections
from django.db.models import Count, Min
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from django_celery_beat.models import PeriodicTask

from ca.api import authentication
from ca.errors import Problem
from ca.models import UNFINISHED, Request, Shape
from dashboard import reminders, services
from dashboard.services import View
from eventlog import backups, fence, head, projections
from eventlog.models import Checkpoint, Event
from ocsp import crls, heartbeats, presign, publishing
from ocsp.heartbeats import Heartbeat

from . import measuring

# Seconds: a request unfinished, no beat, no worker, events without a checkpoint; no answer
STALLED, BEAT_LOST, WORKER_LOST, UNCOVERED, LATE = 60.0, 90.0, 60.0, 120.0, 3.0
_FIRST, _FIRST_QUEUE = "ocsp.follow", "status"  # what a worker does before all else, every second
log = logging.getLogger(__name__)
_FRESH = 1.0  # an answer this young is given again, so that asking often costs nothing
Check = dict[str, Any]
Report = dict[str, Check]
T = TypeVar("T")


@require_safe
def livez(request: HttpRequest) -> HttpResponse:
    """200 as long as this process answers at all."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """{"ready": bool, "checks": {name: {"ok": bool, numbers…}}}; 503 unless all is well. Answers within LATE seconds. Whoever
    sends an auditor's token also reads which nodes were left behind."""
    checks = _for(request, latest())
    ready = all(check["ok"] for check in checks.values())
    response = JsonResponse({"ready": ready, "checks": checks}, status=200 if ready else 503, headers={"Cache-Control": "no-store"})
    response._has_been_logged = True  # type: ignore[attr-defined]  # Django's mark: a prober's every 503 is no error to log
    return response


def _for(request: HttpRequest, report: Report) -> Report:
    """The report as this caller may read it. A wrong token is no reason to withhold what needs none."""
    if "renewals" not in report or _audits(request):
        return report
    return report | {"renewals": {name: value for name, value in report["renewals"].items() if name != "nodes"}}


def _audits(request: HttpRequest) -> bool:
    try:
        caller = authentication.caller(request.META, datetime.now(UTC))
    except (Problem, DatabaseError, InterfaceError):
        return False
    return caller is not None and caller.sees_all


def latest() -> Report:
    """Every check, at most a second old."""
    return _probe.latest()


def _unanswered(why: str) -> Report:
    return {"answer": {"ok": False, "detail": why}}


class Probe(Generic[T]):
    """Runs `look` in one thread at a time and waits for it no longer than LATE. `instead` makes the report where it fails or
    is late, of the reason."""

    def __init__(self, look: Callable[[], T], instead: Callable[[str], T]) -> None:
        self._look, self._instead, self._lock = look, instead, threading.Lock()
        self._running: threading.Thread | None = None
        self._report = instead("nobody has looked yet")
        self._at = float("-inf")

    def latest(self) -> T:
        """The newest report, made now unless it is fresh."""
        with self._lock:
            if time.monotonic() - self._at < _FRESH:
                return self._report
            if self._running is None or not self._running.is_alive():
                self._running = threading.Thread(target=self._run, daemon=True)
                self._running.start()
            running = self._running
        running.join(LATE)
        if running.is_alive():
            return self._instead(f"the checks take longer than {LATE:g} s")
        return self._report

    def _run(self) -> None:
        report = self._instead("a check failed unexpectedly: see the log")
        try:
            report = self._look()
        except Exception:  # whatever it is, it must not look like health
            log.exception("the health checks failed unexpectedly")
        finally:
            self._report, self._at = report, time.monotonic()


def look(now: datetime) -> Report:
    """Every check. With the database away there is only that to say, besides Redis."""
    report, responders = _redis(now)
    began = time.monotonic()
    try:
        report |= {"projections": _projections(), "requests": _requests(now), "shapes": _shapes(), "log": _log(now), "beat": _beat(now)}
        report |= {"ocsp": _ocsp(now), "crl": _crls(now), "renewals": _renewals(now), "reminders": _reminders(now)}
        report |= {"backups": _backups(now), "responders": _responders(responders, report["log"]["events"], now)}
    except (DatabaseError, InterfaceError) as error:
        return report | {"database": {"ok": False, "error": type(error).__name__}}
    return report | {"database": {"ok": True, "milliseconds": round((time.monotonic() - began) * 1000, 1)}}


def _look_and_hang_up() -> Report:
    try:
        return look(datetime.now(UTC))
    finally:
        connections.close_all()  # this thread ends, and nobody else would


_probe = Probe(_look_and_hang_up, _unanswered)


def _redis(now: datetime) -> tuple[Report, list[Heartbeat]]:
    """Whether it answers, and what it knows of the workers and the responders."""
    try:
        shared = measuring.shared()
    except (redis.RedisError, OSError) as error:
        return {"redis": {"ok": False, "error": type(error).__name__}}, []
    report = {"redis": {"ok": True}, "workers": _workers(shared, now)}
    return report, heartbeats.read(shared.responders, now.timestamp())


def _workers(shared: measuring.Shared, now: datetime) -> Check:
    """How long ago each task was last done, and how many messages wait in each queue. Red when nobody does what comes first: a
    worker that has much to do does the rest later, which is no reason to send clients elsewhere. Redis may have lost the
    times, when the messages tell: beat sends one a second."""
    ago = {task: max(0.0, round(now.timestamp() - at, 1)) for task, at in sorted(shared.last_success().items())}
    lost = max(ago.get(_FIRST, 0.0), shared.waiting[_FIRST_QUEUE]) >= WORKER_LOST
    return {"ok": not lost, "seconds_ago": ago, "waiting": dict(shared.waiting)}


def _projections() -> Check:
    """A projection that is behind catches up; one that stopped with an error does not."""
    status = projections.status()
    behind = {each.name: each.head - each.cursor for each in status}
    stopped = sorted(each.name for each in status if each.error)
    return {"ok": not stopped, "behind": behind, "stopped": stopped}


def _requests(now: datetime) -> Check:
    unfinished = Request.objects.filter(state__in=UNFINISHED).with_since()
    found = unfinished.aggregate(count=Count("id"), oldest=Min("since"))
    age = round((now - found["oldest"]).total_seconds(), 1) if found["oldest"] else 0.0
    return {"ok": age < STALLED, "unfinished": found["count"], "oldest_seconds": age}


def _shapes() -> Check:
    """Shapes of certificates that failed their lint: nothing of these is signed until that is mended."""
    failed = list(Shape.objects.filter(passed=False).values_list("description", flat=True)[:20])
    return {"ok": not failed, "failed": failed}


def _log(now: datetime) -> Check:
    """Whether it continues what was published, and for how long an event has been waiting for its checkpoint."""
    size, covered = head.size(), Checkpoint.objects.order_by("-size").values_list("size", flat=True).first() or 0
    waits = Event.objects.filter(position=covered + 1).values_list("time", flat=True).first()
    uncovered = max(0.0, round((now - waits).total_seconds(), 1)) if waits else 0.0
    numbers = {"events": size, "uncovered": max(0, size - covered), "uncovered_seconds": uncovered}
    try:
        fence.check()
    except fence.LogBehind:
        return {"ok": False, "error": "the log is behind a checkpoint that was published: see manage.py accept_log_loss", **numbers}
    return {"ok": uncovered < UNCOVERED, **numbers}


def _ocsp(now: datetime) -> Check:
    """Answers that are signed too late, for a time to come, or not at all, and the nextUpdate of those that are due first. What
    beat and worker make good within the minute is no fault."""
    found = presign.backlog(now)
    late = {"overdue_seconds": settings.OCSP_VALIDITY.total_seconds() / 4, "revoked_unsigned_seconds": 60, "missing_seconds": 60,
            "unread_seconds": 60, "ahead": 1}  # fmt: skip
    behind = found._asdict() | {"next_update": found.next_update and found.next_update.strftime("%Y-%m-%dT%H:%M:%SZ")}
    files = {"files_behind": publishing.behind()} if settings.STATUS_DIR else {}
    return {"ok": all(behind[name] < most for name, most in late.items()), **behind, **files}


def _crls(now: datetime) -> Check:
    """CRLs that should have been followed by the next by now, and the first nextUpdate of all."""
    overdue, soonest = crls.overdue(now), crls.soonest(now)
    return {"ok": not overdue, "overdue": len(overdue), "next_update": soonest and soonest.strftime("%Y-%m-%dT%H:%M:%SZ")}


def _renewals(now: datetime) -> Check:
    """Nodes that run what should have been replaced. Never red: a load balancer must not give up the CA for a node's sake."""
    found = services.laggards(View(None, None, now))
    nodes = [
        {
            "service": each.service,
            "node": each.node,
            "serial": each.serial,
            "generation": each.number,
            "not_after": f"{each.not_after:%Y-%m-%dT%H:%M:%SZ}",
        }
        for each in found
    ]
    return {"ok": True, "left_behind": len(found), "or_more": len(found) == services.LAGGARDS, "nodes": nodes}


def _reminders(now: datetime) -> Check:
    """Reminders that should have gone out by now, and those that a server refused. Never red, as for renewals."""
    return {"ok": True, **reminders.backlog(now)._asdict()}


def _backups(now: datetime) -> Check:
    """The newest backup that somebody noted, and whether it is late, as a log without any is in time. Never red, as for renewals."""
    found = backups.standing(now)
    numbers = {"seconds_ago": round(found.age.total_seconds(), 1) if found.taken_at else None, "events_since": found.since}
    return {"ok": True, "late": found.age >= settings.BACKUP_AGE, "by": found.by, **numbers}


def _responders(found: list[Heartbeat], size: int, now: datetime) -> Check:
    """How long ago each OCSP responder last looked at the database, and how far it is behind the log. Never red: those who ask a
    responder for status do not come here."""
    ago = {each.responder: max(0.0, round(now.timestamp() - each.at, 1)) for each in found}
    return {"ok": True, "seconds_ago": ago, "behind": {each.responder: max(0, size - each.position) for each in found}}


def _beat(now: datetime) -> Check:
    last = PeriodicTask.objects.exclude(last_run_at=None).order_by("-last_run_at").values_list("last_run_at", flat=True).first()
    ago = round((now - last).total_seconds(), 1) if last else None
    return {"ok": ago is not None and ago < BEAT_LOST, "seconds_ago": ago}
