"""The dashboard's pages and the admin's lists, over as many certificates as the option `events`: time, queries, size."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks import log, paths
from benchmarks.failure import Failed
from benchmarks.machine import SERVER_CORE, Meter
from benchmarks.quicklime import Services
from benchmarks.results import Row, Section, cpu_columns

KEPT = paths.DISK / "quicklime-bench-pages"
TIMES = 40
REST = (  # what is no projection of the made-up log: each certificate's request, and for every tenth a reminder
    """INSERT INTO ca_request
              (id, state, token, owner, profile, service, node, csr, body_hash, created_at, updated_at, serial, issuer)
       SELECT request, 'issued', token, owner, profile, service, node, substr(der, 1, 300), spki_sha256, not_before, not_before, serial,
              issuer
       FROM ca_certificate ON CONFLICT DO NOTHING""",
    """INSERT INTO dashboard_reminder (serial, threshold, recipient, recipient_hash, state, due_at, tries, tried_at, answer, message)
       SELECT serial, 'expiring', 'team@example.org', 'made up', 'sent', not_before, 1, not_before, '', substr(serial, 1, 32)
       FROM ca_certificate WHERE log_position % 10 = 0 ON CONFLICT DO NOTHING""",
)


def run(section: Section) -> None:
    """A row for each page, of one run over all of them."""
    prepare(section.options.events)
    with Services(KEPT) as services:
        section.facts.update(services.facts())
        certificates = services.number("SELECT count(*) FROM ca_certificate")
        for row in look(services):
            section.record(str(row["page"]), {**row, "certificates": certificates})


def prepare(events: int) -> None:
    """A log of that many events, read by every projection that pages ask, and the rows that are none of the log's."""
    log.prepare(KEPT)
    with Services(KEPT) as services:
        log.fill(services, events)
        log.catch_up(services, (*log.PROJECTIONS, "ocsp"))  # whose backlog the health strip looks through
        with services.postgres.connect("quicklime") as connection:
            for statement in REST:
                connection.execute(statement)
        log.tidy(services)


def look(services: Services) -> list[Row]:
    """One run: what benchmarks.look says, on the servers' core."""
    with Meter([services.postgres]) as meter:
        found = json.loads(_command(services, ["taskset", "-c", str(SERVER_CORE), sys.executable, "-m", "benchmarks.look", str(TIMES)]))
    return [{**row, "foreign_cores": cpu_columns(meter.usage, TIMES)["foreign_cores"]} for row in found]


def _command(services: Services, command: list[str]) -> str:
    environment = {**services.environment(), "DJANGO_SETTINGS_MODULE": "quicklime_site.settings"}
    done = subprocess.run(command, env=environment, cwd=paths.REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return done.stdout
