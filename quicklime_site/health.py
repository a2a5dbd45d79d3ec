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
from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from django_celery_beat.models import PeriodicTask

from ca.api import authentication
from ca.errors import Problem
from ca.models import UNFINISHED, Request, Shape
from dashboard import services
from dashboard.services import View
from eventlog import fence, projections
from ocsp import crls, presign, publishing

STALLED, BEAT_LOST, LATE = 60.0, 90.0, 3.0  # seconds: a request unfinished, no beat, no answer
log = logging.getLogger(__name__)
_FRESH = 1.0  # an answer this young is given again, so that asking often costs nothing
Check = dict[str, Any]
Report = dict[str, Check]


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


class Probe:
    """Runs `look` in one thread at a time and waits for it no longer than LATE."""

    def __init__(self, look: Callable[[], Report]) -> None:
        self._look, self._lock = look, threading.Lock()
        self._running: threading.Thread | None = None
        self._report: Report = {}
        self._at = float("-inf")

    def latest(self) -> Report:
        """The newest report, made now unless it is fresh; {"answer": …} that is not ok if none comes in time."""
        with self._lock:
            if time.monotonic() - self._at < _FRESH:
                return self._report
            if self._running is None or not self._running.is_alive():
                self._running = threading.Thread(target=self._run, daemon=True)
                self._running.start()
            running = self._running
        running.join(LATE)
        if running.is_alive():
            return {"answer": {"ok": False, "detail": f"the checks take longer than {LATE:g} s"}}
        return self._report

    def _run(self) -> None:
        report: Report = {"answer": {"ok": False, "detail": "a check failed unexpectedly: see the log"}}
        try:
            report = self._look()
        except Exception:  # whatever it is, it must not look like health
            log.exception("the health checks failed unexpectedly")
        finally:
            self._report, self._at = report, time.monotonic()


def look(now: datetime) -> Report:
    """Every check. With the database away there is only that to say, besides Redis."""
    report = {"redis": _redis()}
    began = time.monotonic()
    try:
        report |= {"projections": _projections(), "requests": _requests(now), "shapes": _shapes(), "log": _log(), "beat": _beat(now)}
        report |= {"ocsp": _ocsp(now), "crl": _crls(now), "renewals": _renewals(now)}
    except (DatabaseError, InterfaceError) as error:
        return report | {"database": {"ok": False, "error": type(error).__name__}}
    return report | {"database": {"ok": True, "milliseconds": round((time.monotonic() - began) * 1000, 1)}}


def _look_and_hang_up() -> Report:
    try:
        return look(datetime.now(UTC))
    finally:
        connections.close_all()  # this thread ends, and nobody else would


_probe = Probe(_look_and_hang_up)


def _redis() -> Check:
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1, retry=None)
    try:
        with client:
            client.ping()
    except (redis.RedisError, OSError) as error:
        return {"ok": False, "error": type(error).__name__}
    return {"ok": True}


def _projections() -> Check:
    """A projection that is behind catches up; one that stopped with an error does not."""
    status = projections.status()
    behind = {each.name: each.head - each.cursor for each in status}
    stopped = sorted(each.name for each in status if each.error)
    return {"ok": not stopped, "behind": behind, "stopped": stopped}


def _requests(now: datetime) -> Check:
    unfinished = Request.objects.filter(state__in=UNFINISHED).order_by("id")
    oldest = unfinished.values_list("created_at", flat=True).first()
    age = round((now - oldest).total_seconds(), 1) if oldest else 0.0
    return {"ok": age < STALLED, "unfinished": unfinished.count(), "oldest_seconds": age}


def _shapes() -> Check:
    """Shapes of certificates that failed their lint: nothing of these is signed until that is mended."""
    failed = list(Shape.objects.filter(passed=False).values_list("description", flat=True)[:20])
    return {"ok": not failed, "failed": failed}


def _log() -> Check:
    try:
        fence.check()
    except fence.LogBehind:
        return {"ok": False, "error": "the log is behind a checkpoint that was published: see manage.py accept_log_loss"}
    return {"ok": True}


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


def _beat(now: datetime) -> Check:
    last = PeriodicTask.objects.exclude(last_run_at=None).order_by("-last_run_at").values_list("last_run_at", flat=True).first()
    ago = round((now - last).total_seconds(), 1) if last else None
    return {"ok": ago is not None and ago < BEAT_LOST, "seconds_ago": ago}
