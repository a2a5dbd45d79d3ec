"""Writes docs/benchmarks.md from the results of the sections. Only measured figures: a section that lacks is left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import bulk, issuance, paths
from benchmarks.cfssl import Cfssl
from benchmarks.djangoca import DjangoCA
from benchmarks.machine import FOREIGN_LIMIT
from benchmarks.quicklime import Quicklime
from benchmarks.results import Options, Row, load

PAGE = paths.REPOSITORY / "docs" / "benchmarks.md"
STORED, STATELESS = Cfssl(stored=True).name, Cfssl(stored=False).name
Result = dict[str, Any]

INTRODUCTION = f"""# Benchmarks

`make bench` takes every figure on this page anew and writes the page; it installs the peers from apt and pip itself.
`python -m benchmarks --help` names the sections; `--resume` goes on after a break.

## Method

- All processes of the measured system share core 0: for Quicklime web, worker, beat, plain HTTP, PostgreSQL and Redis; for
  cfssl also its PostgreSQL; for django-ca also its Celery worker, PostgreSQL and Redis. The load runs on core 1. Loopback only.
- Every figure is the median of the runs stated. A run during which other processes used more than {FOREIGN_LIMIT:g} cores is taken
  again, up to {Options().tries} times; then the least disturbed one counts. The column "foreign" says what others used.
- Every run looks up what was answered in the system's own database: each answered certificate is there, or the run fails.
- Quicklime runs as `quicklime up` starts it with `DATABASE_URL` and `REDIS_URL`, everything else at its default: TLS on, lint before
  each signature, synchronous_commit on. PostgreSQL has the same settings for all systems.
- The load is 20,000 P-256 signing requests made beforehand, one DNS name each, the same for all. CPU times are read from /proc.

## What not to conclude

- cfssl is the version Debian packages, a snapshot of 2016: a ratio to it is no ratio to current cfssl, step-ca or boulder.
- Both peers answer over plain HTTP, and cfssl asks for no authentication; Quicklime does TLS and finds a token in each request.
- django-ca's user has an MD5 password hash here. As shipped (PBKDF2) the check of the password would dominate each request.
- The disk of a virtual machine may acknowledge writes faster than yours (see "disk" below). Batched commits gain more where it is slow.
"""


def write() -> Path:
    """Write the page; its path."""
    sections = {name: load(name) for name in ("issuance", "bulk", "latency", "log", "list")}
    parts = [INTRODUCTION, *(part for name, result in sections.items() if result for part in PARTS[name](result))]
    if sections["issuance"]:
        parts.append(_cpu(sections["issuance"], sections["bulk"]))
    PAGE.write_text("\n".join(parts))
    return PAGE


def _issuance(result: Result) -> Iterable[str]:
    yield "## Durable issuance, one request per POST\n"
    yield "Answers hold the certificate (`201`, `Prefer: wait=10`). django-ca answers with an order: its rate is that of finished ones.\n"
    yield _taken(result)
    rows = [_issued(result["rows"][key]) for key in _keys(result)]
    yield _table(["system", "connections", "certificates/s", "p50 ms", "p99 ms", "CPU ms each", "load core", "foreign"], rows)
    ratios = [ratio for number in issuance.CONNECTIONS for ratio in _ratios(result["rows"], number)]
    yield _table(["connections", "Quicklime against", "ratio", "wanted"], ratios)


def _keys(result: Result) -> list[str]:
    return [
        key
        for name in (Quicklime.name, STORED, DjangoCA.name)
        for n in issuance.CONNECTIONS
        if (key := issuance.key(name, n)) in result["rows"]
    ]


def _issued(row: Row) -> list[str]:
    latency = [_number(row["p50_ms"]), _number(row["p99_ms"])] if "p50_ms" in row else ["–", "–"]
    cpu = sum(row["cpu_ms"].values())
    return [row["system"], str(row["connections"]), _number(row["per_second"]), *latency, _number(cpu), *_cores(row)]


def _ratios(rows: dict[str, Row], connections: int) -> Iterable[list[str]]:
    own = rows.get(issuance.key(Quicklime.name, connections))
    for peer, wanted in ((STORED, 2), (DjangoCA.name, 8)):
        other = rows.get(issuance.key(peer, connections))
        if own and other:
            bar = f"{wanted}×" if connections > 1 else "–"
            yield [str(connections), peer, f"{own['per_second'] / other['per_second']:.2f}×", bar]


def _bulk(result: Result) -> Iterable[str]:
    rows = result["rows"]
    yield f"## Bulk, {bulk.SIZE} requests per POST\n"
    yield "Against `cfssl serve` that signs one by one and stores nothing.\n"
    yield _taken(result)
    yield _table(
        ["system", "connections", "certificates/s", "p50 ms a POST", "CPU ms each", "load core", "foreign"],
        [_posted(row) for row in rows.values()],
    )
    peer = max((row["per_second"] for row in rows.values() if row["system"] == STATELESS), default=0)
    own = [row for row in rows.values() if row["system"] == Quicklime.name]
    if peer and own:
        ratios = [[str(row["connections"]), f"{row['per_second'] / peer:.2f}×", "0.5×"] for row in own]
        yield _table(["connections", "Quicklime against the best row of the peer", "wanted"], ratios)


def _posted(row: Row) -> list[str]:
    cpu = sum(row["cpu_ms"].values())
    return [row["system"], str(row["connections"]), _number(row["per_second"]), _number(row["p50_ms"]), _number(cpu), *_cores(row)]


def _latency(result: Result) -> Iterable[str]:
    yield "## One request on an idle system\n"
    yield "Milliseconds from sending it until the certificate is there, over a connection that is open; pauses of 20 to 80 ms between.\n"
    yield _taken(result)
    columns = ("p50_ms", "p90_ms", "p99_ms", "worst_ms", "foreign_cores")
    rows = [[row["system"], *(_number(row[column]) for column in columns)] for row in result["rows"].values()]
    yield _table(["system", "p50 ms", "p90 ms", "p99 ms", "worst ms", "foreign"], rows)
    yield "Wanted of Quicklime: p50 ≤ 40 ms, p99 ≤ 100 ms.\n"


def _log(result: Result) -> Iterable[str]:
    yield "## The log\n"
    yield (
        "Real events through `eventlog.append` in batches of 256, each commit with tree and signed checkpoint. With inventory: they\n"
        "are `certificate.issued` with made-up certificates, and ca's projection is in the commit; the log is full of these.\n"
        "`verify_log` and `rebuild ca` are timed whole, start of Python included.\n"
    )
    yield _taken(result)
    rows = sorted(result["rows"].values(), key=lambda row: (row["what"], row["size"]))
    cells = [
        [row["what"], f"{row['size']:,}", _number(row["per_second"]), _number(row["rss_mb"]), _number(row["foreign_cores"])] for row in rows
    ]
    yield _table(["what", "events in the log", "events/s", "peak memory MB", "foreign"], cells)
    yield "Wanted: append ≥ 10,000, rebuild ≥ 15,000, verify_log ≥ 20,000 events/s, and memory that does not grow with the log.\n"


def _list(result: Result) -> Iterable[str]:
    count = max(row["certificates"] for row in result["rows"].values())
    yield f"## A page of the list, {count:,} certificates\n"
    yield "`GET /api/v1/certificates/` over TLS, one request at a time; the certificates are the made-up ones of the log above.\n"
    yield _taken(result)
    rows = [
        [row["page"], str(row["rows"]), _number(row["p50_ms"]), _number(row["p99_ms"]), _number(row["foreign_cores"])]
        for row in result["rows"].values()
    ]
    yield _table(["page", "rows", "p50 ms", "p99 ms", "foreign"], rows)
    yield "Wanted: ≤ 50 ms.\n"


PARTS = {"issuance": _issuance, "bulk": _bulk, "latency": _latency, "log": _log, "list": _list}


def _cpu(issued: Result, posted: Result | None) -> str:
    """Where Quicklime's time goes, from the rows of both sections."""
    found = [(f"one per POST, {row['connections']} connections", row) for row in issued["rows"].values() if row["system"] == Quicklime.name]
    if posted:
        rows = (row for row in posted["rows"].values() if row["system"] == Quicklime.name)
        found += [(f"{bulk.SIZE} per POST, {row['connections']} connections", row) for row in rows]
    names = sorted({name for _, row in found for name in row["cpu_ms"]})
    cells = [[what, *(_number(row["cpu_ms"].get(name, 0.0)) for name in names), *_rest(row)] for what, row in found]
    head = ["Quicklime", *names, "kernel and others", "idle", "1/rate"]
    text = (
        "## CPU for each certificate\n\n"
        "Milliseconds of core 0 by process. They add up to the core's time for each certificate (1/rate): what no process of\n"
        "the system accounts for is the kernel's own work and other processes, and the time the core had nothing to do.\n\n"
    )
    return text + _table(head, cells)


def _rest(row: Row) -> list[str]:
    return [_number(row["core_other_ms"]), _number(row["core_idle_ms"]), _number(1e3 / row["per_second"])]


def _cores(row: Row) -> list[str]:
    return [f"{row['load_core']:.2f}", f"{row['foreign_cores']:.2f}"]


def _taken(result: Result) -> str:
    """When and with what it was measured."""
    options, facts = result["options"], result["facts"]
    first = f"`{result['command']}`, {result['at']}; {options['runs']} runs of {options['seconds']} s, medians."
    return "\n".join([first, "", *(f"- {name}: {value}" for name, value in facts.items()), ""])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _number(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"
