"""A page of `GET /api/v1/certificates/` over TLS, on an idle system with as many certificates as the option `events`."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode, urlsplit

from benchmarks import log
from benchmarks.client import Client
from benchmarks.failure import Failed
from benchmarks.machine import Meter
from benchmarks.quicklime import Quicklime, Services
from benchmarks.results import Row, Section, cpu_columns

REQUESTS = 100
DEEP = 50  # pages turned to reach the deep one
SETTLED_SECONDS = 1_200
IDLE = 0.1  # of the servers' core
PATH = "/api/v1/certificates/"


def run(section: Section) -> None:
    """A row for each kind of page."""
    log.prepare()
    with Services(log.KEPT) as services:
        log.fill(services, section.options.events)
        log.catch_up(services)
    print(f"  {section.name}: starting {Quicklime.name}", flush=True)
    with Quicklime(log.KEPT) as system, system.client() as client:
        settle(system)
        section.facts.update(system.facts())
        certificates = system.number("SELECT count(*) FROM ca_certificate")
        for name, path in pages(client).items():
            row = section.measure(name, lambda path=path: page(system, client, path))
            row.update(page=name, certificates=certificates)
            section.save()


def pages(client: Client) -> dict[str, str]:
    """What is asked for: name of the row and path."""
    soon = (datetime.now(UTC) + timedelta(days=7)).strftime("%Y-%m-%dT%H:%M:%SZ")
    filters = {
        "service=": {"service": "service7"},
        "service= and node=": {"service": "service7", "node": "node7"},
        "name=": {"name": "node4711.bench.internal"},
        "status=active": {"status": "active"},
        "expires_before= in 7 days": {"expires_before": soon},
        "q= of a name": {"q": "node4711"},
    }
    return {"newest": PATH, f"{DEEP} pages on": deep(client)} | {name: f"{PATH}?{urlencode(query)}" for name, query in filters.items()}


def settle(system: Quicklime) -> None:
    """Until the worker has signed the OCSP responses of what was filled in, the responder has read them, and who flags certificates has
    done so: before, the system is not idle."""
    missing = "SELECT count(*) FROM ca_certificate AS c WHERE NOT EXISTS (SELECT 1 FROM ocsp_response AS r WHERE r.serial = c.serial)"
    until = time.monotonic() + SETTLED_SECONDS
    while number := system.number(missing):
        _wait(until, f"{number:,} certificates have no OCSP response")
    while (share := _core_busy(system)) > IDLE:
        _wait(until, f"the servers' core is {share:.0%} busy")


def _wait(until: float, why: str) -> None:
    if time.monotonic() > until:
        raise Failed(f"{why} after {SETTLED_SECONDS} s")
    time.sleep(5)


def _core_busy(system: Quicklime) -> float:
    with Meter(system.measured) as meter:
        time.sleep(5)
    return meter.usage.core_busy / meter.usage.seconds


def deep(client: Client) -> str:
    """The path of a page that only cursors lead to."""
    path = PATH
    for _ in range(DEEP):
        following = urlsplit(json.loads(client.get(path)[1])["next"])
        path = f"{following.path}?{following.query}"
    return path


def page(system: Quicklime, client: Client, path: str) -> Row:
    """One run of REQUESTS times the same page."""
    taken, found = [], 0
    with Meter(system.measured) as meter:
        for _ in range(REQUESTS):
            start = time.perf_counter()
            status, content = client.get(path)
            taken.append((time.perf_counter() - start) * 1e3)
            if status != 200:
                raise Failed(f"{path} answered {status}: {content[:300]!r}")
            found = len(json.loads(content)["results"])
    taken.sort()
    return {"p50_ms": taken[len(taken) // 2], "p99_ms": taken[-2], "rows": found, **cpu_columns(meter.usage, REQUESTS)}
