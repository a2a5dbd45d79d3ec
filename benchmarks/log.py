"""The event log alone: append, verify, rebuild, and their memory, as the log grows.

The events go through `eventlog.append` (see benchmarks.fill). PostgreSQL and the measured process share the servers' core.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import paths
from benchmarks.failure import Failed
from benchmarks.fill import BATCH
from benchmarks.machine import SERVER_CORE, Meter, tree
from benchmarks.quicklime import Quicklime, Services
from benchmarks.results import Row, Section

KEPT = paths.DISK / "quicklime-bench-log"  # `clean` removes it
PROJECTIONS = ("lineage", "expiry", "activity")  # which pages read, and a running system would read on with for minutes
CATCH_UP = "import django; django.setup(); from eventlog import projections; projections.catch_up({!r})"
SMALLEST = 10_000
SAMPLE = 40 * BATCH  # events appended in each timed run


def run(section: Section) -> None:
    """Rows "<what>, <events>" for 10 k, 100 k, … up to the option `events`."""
    if not section.options.resume:
        clean()
    prepare()
    with Services(KEPT) as services:
        section.facts.update(services.facts())
        for size in sizes(section.options.events):
            measure(section, services, size)


def clean(directory: Path = KEPT) -> None:
    """Remove a filled cluster."""
    shutil.rmtree(directory, ignore_errors=True)


def prepare(directory: Path = KEPT) -> None:
    """A first start on a cluster that is kept, as users make it: tables, hierarchy, keys. Nothing, if that was done."""
    if (directory / "state" / "token").exists():
        return
    print("  making a Quicklime to fill", flush=True)
    with Quicklime(directory):
        pass


def sizes(events: int) -> list[int]:
    """Powers of ten from SMALLEST, and `events`."""
    powers = [SMALLEST * 10**power for power in range(9)]
    return [*(size for size in powers if size < events), events]


def measure(section: Section, services: Services, size: int) -> None:
    """Fill the log to `size` and take its rows."""
    fill(services, size)
    commands = {
        "append": filling("rejected", SAMPLE),
        "append with inventory": filling("issued", SAMPLE),
        "verify_log": [sys.executable, "manage.py", "verify_log"],
        "rebuild ca": [sys.executable, "manage.py", "rebuild", "ca"],
    }
    for what, command in commands.items():
        take = lambda what=what, command=command: timed(services, command, SAMPLE if what.startswith("append") else length(services))  # noqa: E731
        section.measure(f"{what}, {size}", take).update(what=what, size=size)
        section.save()


def fill(services: Services, size: int) -> None:
    """Append until the log has `size` events, and let PostgreSQL tidy up."""
    missing = size - length(services)
    if missing <= 0:
        return
    print(f"  appending {missing:,} events", flush=True)
    timed(services, filling("issued", missing), missing)
    tidy(services)


def tidy(services: Services) -> None:
    """Have PostgreSQL do now what it would do in the midst of a later run."""
    with services.postgres.connect("quicklime") as connection:
        connection.execute("VACUUM ANALYZE")


def catch_up(services: Services, names: Sequence[str] = PROJECTIONS) -> None:
    """Have these projections read on to the log's end."""
    environment = {**services.environment(), "DJANGO_SETTINGS_MODULE": "quicklime_site.settings"}
    for name in names:
        run_command([sys.executable, "-c", CATCH_UP.format(name)], environment)


def filling(kind: str, count: int, *service: str) -> list[object]:
    """The command that appends `count` events: see benchmarks.fill."""
    return [sys.executable, "-m", "benchmarks.fill", kind, count, *service]


def rebuilt(services: Services, projection: str) -> Row:
    """One rebuild of a projection over the whole log, the start of Python included."""
    return timed(services, [sys.executable, "manage.py", "rebuild", projection], length(services))


def length(services: Services) -> int:
    """How many events there are."""
    return services.number("SELECT coalesce(max(position), 0) FROM eventlog_event")


def timed(services: Services, command: Sequence[object], events: int) -> Row:
    """One run of a command over `events` events on the servers' core: its rate, with its start unless it says how long
    the work itself took, and its peak memory."""
    with Meter([services.postgres]) as meter:
        output, peak = run_command(command, services.environment())
    report = json.loads(output) if output.startswith("{") else {"seconds": meter.usage.seconds}
    seconds, foreign = report["seconds"], meter.usage.foreign
    return {"per_second": events / seconds, "seconds": seconds, "rss_mb": peak, "events": events, "foreign_cores": foreign}


def run_command(command: Sequence[object], environment: Mapping[str, str], cores: Sequence[int] = (SERVER_CORE,)) -> tuple[str, float]:
    """(standard output, peak of resident memory in MB with that of its children) of a command that must succeed."""
    peak, full = 0.0, ["taskset", "-c", ",".join(map(str, cores)), *map(str, command)]
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(full, stdout=output, env=dict(environment), cwd=paths.REPOSITORY)
        while process.poll() is None:
            peak = max(peak, sum(map(_peak_mb, tree(process.pid))))
            time.sleep(0.05)
        if process.returncode:
            raise Failed(f"{' '.join(full)} ended with {process.returncode}")
        output.seek(0)
        return output.read(), peak


def _peak_mb(pid: int) -> float:
    """The high-water mark of a process's memory, 0 once it has ended. It starts anew with each program it becomes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
