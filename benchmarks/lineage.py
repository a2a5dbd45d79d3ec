"""The lineage of a service of 1,000 nodes with 10 certificates each, beside as many other certificates as the option `events`: its
pages over TLS on an idle system, and the rebuild of the projection."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import urlsplit

from benchmarks import listing, log
from benchmarks.client import Client
from benchmarks.failure import Failed
from benchmarks.fill import NODES
from benchmarks.quicklime import Quicklime, Services
from benchmarks.results import Section

SERVICE, GENERATIONS = "generations", 10
PATH = f"/api/v1/services/{SERVICE}/"


def run(section: Section) -> None:
    """A row for each page, and "rebuild"."""
    log.prepare()
    with Services(log.KEPT) as services:
        log.fill(services, section.options.events)
        if not services.number("SELECT count(*) FROM ca_certificate WHERE service = %s", SERVICE):
            log.timed(services, log.filling("generations", NODES * GENERATIONS, SERVICE), NODES * GENERATIONS)
        section.facts.update(services.facts())
        section.measure("rebuild", lambda: log.rebuilt(services, "lineage"))
        log.catch_up(services)
        log.tidy(services)
    print(f"  {section.name}: starting {Quicklime.name}", flush=True)
    with Quicklime(log.KEPT) as system, system.client() as client:
        listing.settle(system)
        for name, path in pages(client).items():
            section.measure(name, lambda path=path: listing.page(system, client, path)).update(page=name)
            section.save()


def pages(client: Client) -> dict[str, str]:
    """What is asked for: name of the row and path. The first answer must hold what was filled in."""
    first = json.loads(client.get(f"{PATH}?limit=200")[1])
    if (first["nodes"], len(first["results"][0]["generations"])) != (NODES, GENERATIONS):
        raise Failed(f"the service has {first['nodes']} nodes, with {len(first['results'][0]['generations'])} generations on the first")
    second = urlsplit(first["next"])
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "50 nodes": PATH,
        "200 nodes": f"{PATH}?limit=200",
        "200 nodes, second page": f"{second.path}?{second.query}",
        "50 nodes, at a time": f"{PATH}?at={now}",
        "all services": "/api/v1/services/",
    }
