"""The scan for certificates that nobody renewed, over as many as the option `events`, and the rebuild of what it goes by.

`python -m benchmarks.expiry DUE` is what is timed: a process on the servers' core that flags at the moment when so many are due;
it prints {"seconds", "watched", "due", "flagged"}. What it flags is rolled back, as the kept log must hold no events of times to come.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta

import django

from benchmarks import log
from benchmarks.failure import Failed
from benchmarks.machine import Meter
from benchmarks.quicklime import Services
from benchmarks.results import Row, Section


def run(section: Section) -> None:
    """A row for each number of certificates that are due, and "rebuild"."""
    log.prepare()
    with Services(log.KEPT) as services:
        log.fill(services, section.options.events)
        section.facts.update(services.facts())
        section.measure("rebuild", lambda: log.rebuilt(services, "expiry"))
        log.tidy(services)
        for due in (0, section.options.events // 100):  # so few that none of them ended long ago by then
            section.measure(f"{due} due", lambda due=due: scanned(services, due))


def scanned(services: Services, due: int) -> Row:
    """One scan when at least so many are due."""
    with Meter([services.postgres]) as meter:
        output, peak = log.run_command([sys.executable, "-m", "benchmarks.expiry", due], services.environment())
    report = json.loads(output)
    if report["flagged"] != report["due"] or report["due"] < due:
        raise Failed(f"{report['flagged']} certificates were flagged, {report['due']} were due, {due} were wanted")
    return {**report, "rss_mb": peak, "foreign_cores": meter.usage.foreign}


def main(due: int) -> None:
    """Flag what is due when `due` certificates are."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quicklime_site.settings")
    django.setup()
    from django.db import transaction

    from dashboard import expiry, watching
    from dashboard.models import Watched
    from eventlog import clock, projections

    projections.catch_up(watching.NAME)
    clock.check = lambda now: None  # it is not that late yet
    moments = Watched.objects.exclude(next_at=None).order_by("next_at").values_list("next_at", flat=True)
    now = moments[due - 1] if due else moments[0] - timedelta(microseconds=1)
    with transaction.atomic():
        start = time.perf_counter()
        flagged = expiry.flag_due(now)
        seconds = time.perf_counter() - start
        transaction.set_rollback(True)
    due_then = Watched.objects.filter(next_at__lte=now).count()  # at least so many: they share moments
    print(json.dumps({"seconds": seconds, "watched": Watched.objects.count(), "due": due_then, "flagged": flagged}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
