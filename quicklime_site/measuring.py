"""Counting in this process, and adding it up over all of them.

Owns what is counted besides ca.measures, and the hash in Redis in which web processes and workers, wherever they run, add up what they
counted, every few seconds and in a thread of its own: no request and no task waits for it. So each web process can answer for
all. What Redis loses begins at zero again, as a counter may for who reads it. It is read by whoever reaches Redis, and may hold
anything: what is no number is passed over.
"""

from __future__ import annotations

import atexit
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import redis
from celery import Task
from celery.signals import task_postrun, task_prerun
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from prometheus_client import Counter, Gauge, Histogram, Metric

from ca.measures import registry
from ca.models import Approval
from eventlog import listeners, schemas
from eventlog.append import StoredEvent
from ocsp import answered, heartbeats

from . import schedule

log = logging.getLogger(__name__)
HASH, EVERY = "quicklime:measures", 5.0  # seconds from one adding up to the next
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_BRIEF = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_PATIENT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

TASK_SECONDS = Histogram(
    "quicklime_task_seconds", "How long a task took; the pipeline's steps are tasks.", ["task"], registry=registry, buckets=_BRIEF
)
TASK_FAILURES = Counter("quicklime_task_failures", "Tasks that ended with an exception.", ["task"], registry=registry)
TASK_SUCCESS = Gauge(
    "quicklime_task_last_success_timestamp_seconds", "When a task last ended without an exception.", ["task"], registry=registry
)
ISSUANCE_SECONDS = Histogram(
    "quicklime_issuance_seconds",
    "From acceptance until the log announced the certificate (stage intended), and until it could be fetched (stage issued).",
    ["stage"],
    registry=registry,
    buckets=_PATIENT,
)
BATCH_SIZE = Histogram("quicklime_batch_size", "Certificates that were announced in one commit.", registry=registry, buckets=_SIZES)
EVENTS = Counter("quicklime_events", "Events that were appended to the log by web processes and workers.", ["type"], registry=registry)
REQUESTS = Counter(
    "quicklime_http_requests", "Requests to the HTTPS server, by view and class of status.", ["view", "status"], registry=registry
)
REQUEST_SECONDS = Histogram(
    "quicklime_http_request_seconds",
    "How long requests took; those that wait for a certificate (Prefer: wait) wait in here.",
    ["view"],
    registry=registry,
    buckets=_BRIEF,
)
_ANSWERED = Counter(
    "quicklime_ocsp_responses", "What OCSP responders answered. They add it up themselves (ocsp.answered).", ["outcome"], registry=registry
)
_DECIDED = 1.0  # seconds in which no approver decides
_CLASSES = {number: f"{number}xx" for number in range(1, 6)}


# --- counting


def requests(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: count each request and its time, under the name of its view: paths are the client's words."""

    def middleware(request: HttpRequest) -> HttpResponse:
        began = time.perf_counter()
        response = get_response(request)
        view = request.resolver_match.view_name if request.resolver_match else "none"
        REQUESTS.labels(view, _CLASSES[response.status_code // 100]).inc()
        REQUEST_SECONDS.labels(view).observe(time.perf_counter() - began)
        return response

    return middleware


@dataclass
class _Running:
    """A task that runs: since when, and how long others took that it ran, which count by themselves."""

    since: float
    others: float = 0.0


_running: list[_Running] = []  # each within the one before; a worker has one thread


def _begin(**_: Any) -> None:
    _running.append(_Running(time.perf_counter()))


def _end(task: Task[Any, Any], state: str, **_: Any) -> None:
    ended = _running.pop()
    took = time.perf_counter() - ended.since
    TASK_SECONDS.labels(task.name).observe(took - ended.others)
    if _running:
        _running[-1].others += took
    if state == "SUCCESS":
        TASK_SUCCESS.labels(task.name).set(time.time())
    elif state == "FAILURE":
        TASK_FAILURES.labels(task.name).inc()


def _announced(events: Sequence[StoredEvent]) -> None:
    BATCH_SIZE.observe(len(events))
    _waited("intended", events)


def _issued(events: Sequence[StoredEvent]) -> None:
    _waited("issued", events)


def _waited(stage: str, events: Sequence[StoredEvent]) -> None:
    """From when they were accepted, or approved: what an approver took to decide is no delay."""
    observe, now = ISSUANCE_SECONDS.labels(stage).observe, time.time()
    since = {request: accepted_at(request) for request in [UUID(event.data["request"]) for event in events]}
    old = [request for request, at in since.items() if now - at > _DECIDED]
    if old:
        decided = Approval.objects.filter(request__in=old, decided_at__isnull=False).values_list("request", "decided_at")
        since.update((request, at.timestamp()) for request, at in decided if at)
    for at in since.values():
        observe(max(0.0, now - at))


def accepted_at(request: UUID) -> float:
    """The Unix time, to the millisecond, in a request's id (UUID version 7)."""
    return (request.int >> 80) / 1000


def _counting(kind: str) -> Callable[[Sequence[StoredEvent]], None]:
    count = EVENTS.labels(kind)
    return lambda events: count.inc(len(events))


def start() -> None:
    """Count in this process from now on, and add it up. Called once, after the last fork."""
    task_prerun.connect(_begin)
    task_postrun.connect(_end)
    for kind in schemas.types():
        listeners.after_commit(kind, _counting(kind))
    listeners.after_commit("issuance.intended", _announced)
    listeners.after_commit("certificate.issued", _issued)
    for task in schedule.ROUTES:
        TASK_FAILURES.labels(task)  # so that the first failure is an increase
    sharing = Sharing()
    atexit.register(sharing.add_quietly)
    threading.Thread(target=sharing.run, name="measuring", daemon=True).start()


# --- adding up


def _client() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1, retry=None, decode_responses=True)


class Sharing:
    """Adds this process's numbers to the hash: of counters what came since the last time, of gauges the newest."""

    def __init__(self) -> None:
        self._added: dict[str, float] = {}
        self._adding = threading.Lock()

    def run(self) -> None:
        while True:
            time.sleep(EVERY)
            self.add_quietly()

    def add_quietly(self) -> None:
        """Without Redis the numbers wait here."""
        try:
            with self._adding, _client() as client:
                self.add(client)
        except (redis.RedisError, OSError):
            log.debug("nothing could be added up: Redis is away")

    def add(self, client: redis.Redis) -> None:
        """All of it in one transaction. Whether one took place that was not answered is not known; it is repeated."""
        newest = {_field(name, labels): (value, kind) for name, labels, value, kind in _samples()}
        changed = {field: found for field, found in newest.items() if self._added.get(field) != found[0]}
        with client.pipeline() as pipe:
            for field, (value, kind) in changed.items():
                if kind == "gauge":
                    pipe.hset(HASH, field, value)
                else:
                    pipe.hincrbyfloat(HASH, field, value - self._added.get(field, 0.0))
            pipe.execute()
        self._added.update({field: value for field, (value, _) in changed.items()})


def _samples() -> Iterator[tuple[str, Mapping[str, str], float, str]]:
    """(name, labels, value, type) of all that was counted here."""
    for metric in registry.collect():
        for sample in metric.samples:
            if not sample.name.endswith("_created"):
                yield sample.name, sample.labels, sample.value, metric.type


def _field(name: str, labels: Mapping[str, str]) -> str:
    return f"{name} {json.dumps(labels, sort_keys=True)}"


# --- reading


class Shared:
    """What all processes counted together, how many messages wait in each queue, and what responders say, by name."""

    def __init__(self, fields: Mapping[str, str], waiting: Mapping[str, int], responders: Mapping[str, str]) -> None:
        self.waiting, self.responders = waiting, responders
        self._found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for field, text in fields.items():
            if sample := _read(field, text):
                self._found.setdefault(sample[0], []).append(sample[1:])

    def last_success(self) -> dict[str, float]:
        """Task → Unix time."""
        return {labels.get("task", ""): at for labels, at in self._found.get("quicklime_task_last_success_timestamp_seconds", ())}

    def metrics(self) -> Iterator[Metric]:
        """As Prometheus wants them: the buckets of a histogram in their order, then its count and sum."""
        for known in registry.collect():
            metric = Metric(known.name, known.documentation, known.type)
            rows = [
                (name, *each) for suffix in _SUFFIXES[known.type] for name in [known.name + suffix] for each in self._found.get(name, ())
            ]
            for name, labels, value in sorted(rows, key=_order):
                metric.add_sample(name, labels, value)
            yield metric


_SUFFIXES = {"gauge": ("",), "counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}


def _order(row: tuple[str, dict[str, str], float]) -> tuple[list[tuple[str, str]], str, float]:
    name, labels, _ = row
    return sorted((key, value) for key, value in labels.items() if key != "le"), name, float(labels.get("le", 0))


def _read(field: str, text: str) -> tuple[str, dict[str, str], float] | None:
    name, _, labels = field.partition(" ")
    try:
        found, value = json.loads(labels), float(text)
        float(found.get("le", 0))
    except (ValueError, AttributeError, TypeError):
        return None
    return name, {str(key): str(each) for key, each in found.items()}, value


def shared() -> Shared:
    """Ask Redis. Raises RedisError."""
    queues = [*schedule.QUEUES, schedule.SLOW]
    with _client() as client, client.pipeline(transaction=False) as pipe:
        pipe.hgetall(HASH)
        pipe.hgetall(heartbeats.HASH)
        pipe.hgetall(answered.HASH)
        for queue in queues:
            pipe.llen(queue)
        fields, responders, outcomes, *waiting = pipe.execute()
    fields |= {_field("quicklime_ocsp_responses_total", {"outcome": outcome}): count for outcome, count in outcomes.items()}
    return Shared(fields, dict(zip(queues, waiting, strict=True)), responders)
