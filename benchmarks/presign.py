"""Pre-signing, stored and servable, and a responder that starts with so many answers: its time and its memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import asking, log, status
from benchmarks.failure import Failed
from benchmarks.machine import LOAD_CORE, SERVER_CORE, Meter, tree
from benchmarks.quicklime import Services
from benchmarks.responders import DjangoCAResponder
from benchmarks.results import Row, Section, cpu_columns

SMALLER = 100_000
CORES = ((SERVER_CORE,), (SERVER_CORE, LOAD_CORE))
PROCESSES = (1, 2)  # of a responder whose memory is measured
SIZES_AGREE = 100  # certificates more than the size of a row
QUESTIONS = 2_000  # that a started responder may be asked


def run(section: Section) -> None:
    """Rows "presign, <certificates>" and "responder, <certificates>, <processes>", and the peer's."""
    peer(section)
    sizes = sorted({min(SMALLER, section.options.events), section.options.events})
    with status.filled(section, sizes[0]) as directory, Services(directory) as services:
        section.facts.update(services.facts())
        for size in sizes:
            if not all(key in section.rows for key in keys(size)):
                status.fill(services, size)
                measure(section, services, size)


def keys(size: int) -> list[str]:
    """The names of the rows of a database with `size` certificates."""
    return [*(f"presign, {size}, {len(cores)}" for cores in CORES), *(f"responder, {size}, {number}" for number in PROCESSES)]


def prepare(section: Section) -> None:
    """Have as many certificates as the option `events` says, when no row of fewer is wanted any more."""
    status.prepare(status.directory("presign"), section.options.events)


def peer(section: Section) -> None:
    """django-ca's function that its periodic task calls for each certificate."""
    if DjangoCAResponder.title in section.rows:
        return
    row = section.measure(DjangoCAResponder.title, _djangoca)
    row.update(certificates=DjangoCAResponder.CERTIFICATES)
    section.save()


def _djangoca() -> Row:
    with DjangoCAResponder() as system:
        return system.presigned


def measure(section: Section, services: Services, size: int) -> None:
    """The rows of a database with `size` certificates, which Quicklime's own are beside."""
    if (have := _answers(services)) > size + SIZES_AGREE:
        raise Failed(f"there are {have:,} certificates already: no row of {size:,} can be taken")
    for cores in CORES:
        row = section.measure(f"presign, {size}, {len(cores)}", lambda cores=cores: presigned(services, cores))
        row.update(cores=len(cores), certificates=size)
        section.save()
    for processes in PROCESSES:
        row = section.measure(f"responder, {size}, {processes}", lambda processes=processes: started(services, processes))
        row.update(processes=processes)
        section.save()


def presigned(services: Services, cores: Sequence[int]) -> Row:
    """One run that signs every answer anew, by as many processes as there are `cores`. PostgreSQL has the servers' core."""
    before, certificates = services.number("SELECT revision FROM ocsp_feed"), _answers(services)
    with Meter([services.postgres]) as meter:
        _, peak = log.run_command(status.manage("presign", "--all", "--processes", len(cores)), services.environment(), cores)
    if (made := _answers(services, before)) != certificates:
        raise Failed(f"presign --all stored answers about {made:,} of {certificates:,} certificates")
    responses, usage = 2 * certificates, meter.usage
    row = {"per_second": responses / usage.seconds, "seconds": usage.seconds, "rss_mb": peak, "responses": responses}
    return {**row, "command_cpu_ms": usage.load * 1e3 / responses, **cpu_columns(usage, responses)}


def _answers(services: Services, after: int = -1) -> int:
    """How many certificates have answers, of a later revision than `after`."""
    return services.number("SELECT count(*) FROM ocsp_response WHERE length(sha1) > 0 AND length(sha256) > 0 AND revision > %s", after)


def started(services: Services, processes: int) -> Row:
    """One start, until every one of a sample is answered right, and the memory of all its processes."""
    questions = status.sample(services, QUESTIONS)
    responder = status.Responder(services.environment(), questions, processes)
    with Meter([responder, services.postgres, services.redis]) as meter:
        start = time.perf_counter()
        with responder:
            seconds = time.perf_counter() - start
            questions.sample(asking.POST, responder.port)
            memory = memory_of(responder.pid)
    certificates, octets = _answers(services), services.number("SELECT sum(length(sha1) + length(sha256)) FROM ocsp_response")
    row = {"start_seconds": seconds, "memory_mb": memory / 2**20, "answers_mb": octets / 2**20, "ratio": memory / octets}
    return {**row, "bytes_each": memory / certificates, "certificates": certificates, "foreign_cores": meter.usage.foreign}


def memory_of(pid: int) -> int:
    """Bytes that a process and its descendants take: of a page that n share, each has one nth (Pss)."""
    return sum(_pss(Path(f"/proc/{each}/smaps_rollup").read_text()) for each in tree(pid))


def _pss(text: str) -> int:
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
