"""One request at a time on an idle system: milliseconds from sending it until the certificate is there."""

from __future__ import annotations

import json
import random
import time

from benchmarks.cfssl import Cfssl
from benchmarks.client import Client, lines
from benchmarks.djangoca import DjangoCA
from benchmarks.failure import Failed
from benchmarks.issuance import System, warm_up
from benchmarks.machine import Meter
from benchmarks.quicklime import Quicklime
from benchmarks.results import Row, Section, cpu_columns

REQUESTS = 200
PAUSE = (0.02, 0.08)  # seconds of idleness before each request
POLL = 0.005  # seconds between two looks at an order of django-ca


def run(section: Section) -> None:
    """A row for each system."""
    for system in (Cfssl(stored=True), DjangoCA(), Quicklime()):
        if system.name in section.rows:
            continue
        print(f"  {section.name}: starting {system.name}", flush=True)
        with system:
            section.facts.update(system.facts())
            warm_up(system)
            section.measure(system.name, lambda system=system: one_by_one(system)).update(system=system.name)
            section.save()


def one_by_one(system: System) -> Row:
    """One run of REQUESTS requests over one connection, each checked to carry a certificate."""
    taken: list[float] = []
    with system.client() as client, Meter(system.measured) as meter:
        for body in lines(system.post, REQUESTS):
            time.sleep(random.uniform(*PAUSE))
            start = time.perf_counter()
            _certificate(system, client, body)
            taken.append((time.perf_counter() - start) * 1e3)
    taken.sort()
    percentiles = {f"p{percent}_ms": taken[min(len(taken) * percent // 100, len(taken) - 1)] for percent in (50, 90, 99)}
    return {**percentiles, "worst_ms": taken[-1], "requests": len(taken), **cpu_columns(meter.usage, len(taken))}


def _certificate(system: System, client: Client, body: bytes) -> None:
    """Send a request and return once its certificate is there."""
    status, content = client.post("/" + system.post.url.split("/", 3)[3], body)
    if isinstance(system, DjangoCA):
        _finished(system, client, json.loads(content)["slug"])
    elif status not in (200, 201) or b"BEGIN CERTIFICATE" not in content:
        raise Failed(f"{system.name} answered {status}: {content[:300]!r}")


def _finished(system: DjangoCA, client: Client, slug: str) -> None:
    """Look at an order of django-ca until it is issued."""
    while json.loads(client.get(f"{system.path}/orders/{slug}/")[1])["status"] != "issued":
        time.sleep(POLL)
