"""Writes docs/benchmarks.md from the results of the sections. Only measured figures: of a section without results what the page
says of it stays, and it is left out where that is nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import agents, bulk, issuance, ocsp, pages, paths
from benchmarks.asking import GET, POST, SAMPLE
from benchmarks.cfssl import Cfssl
from benchmarks.djangoca import DjangoCA
from benchmarks.machine import FOREIGN_LIMIT
from benchmarks.nginx import FILES, ONE_FILE
from benchmarks.quicklime import Quicklime
from benchmarks.responders import CfsslResponder, DjangoCAResponder
from benchmarks.results import Options, Row, load
from benchmarks.status import QuicklimeResponder

PAGE = paths.REPOSITORY / "docs" / "benchmarks.md"
STORED, STATELESS = Cfssl(stored=True).name, Cfssl(stored=False).name
Result = dict[str, Any]

INTRODUCTION = f"""# Benchmarks

`make bench` takes every figure on this page anew and writes the page; it installs the peers from apt and pip itself.
`python -m benchmarks --help` names the sections; `--resume` goes on after a break.

## Method

- All processes of the measured system share core 0: for Quicklime web, worker, beat, responder, PostgreSQL and Redis; for
  cfssl also its PostgreSQL; for django-ca also its Celery worker, PostgreSQL and Redis. The load runs on core 1. Loopback only.
- Every figure is the median of the runs stated. A run during which other processes used more than {FOREIGN_LIMIT:g} cores is taken
  again, as often as a section says; then the least disturbed one counts. The column "foreign" says what others used.
- Where rates of systems are compared, these run by turns, each in every round; a ratio is the median of the rounds' ratios.
- Every run looks up what was answered in the system's own database: each answered certificate is there, or the run fails.
- Quicklime runs as `quicklime up` starts it with `DATABASE_URL` and `REDIS_URL`, everything else at its default: TLS on, lint before
  each signature, synchronous_commit on. PostgreSQL has the same settings for all systems.
- Python is the system's own where it says so, as on a fresh machine: distributions build it with profile-guided optimisation. One that
  was built without (pyenv's default) takes half as long again for plain Python, and about a tenth longer for a certificate.
- The load is 20,000 P-256 signing requests made beforehand, one DNS name each, the same for all. CPU times are read from /proc.

## What not to conclude

- cfssl is the version Debian packages, a snapshot of 2016: a ratio to it is no ratio to current cfssl, step-ca or boulder.
- Both peers answer over plain HTTP, and cfssl asks for no authentication; Quicklime does TLS and finds a token in each request.
- django-ca's user has an MD5 password hash here. As shipped (PBKDF2) the check of the password would dominate each request.
- The disk of a virtual machine may acknowledge writes faster than yours (see "disk" below). Batched commits gain more where it is slow.
"""

OCSP_TEXT = f"""\
Quicklime's responder alone with PostgreSQL and Redis, one process; nginx with one worker, no access log and its files open;
cfssl with the answers in its memory; django-ca with its answers in Redis. The first three give the very same bytes, signed by
Quicklime, to CertIDs by SHA-1; django-ca's are by SHA-256 and carry its responder's certificate. Each request asks for another
certificate, in random order. Of every run {2 * SAMPLE} answers are verified; of all others number and mean size must fit.
nginx with one file has no name to look up, and all it needs in the processor's cache: no responder's work, but the least that
HTTP costs. Static files answer no POST, so that both methods are set against its GETs; cfssl answers 400 to every GET of
RFC 6960. Where the load core is near 1, wrk is the limit, and CPU µs is the figure to compare.
"""
AGENTS_TEXT = f"""\
Simulated: {agents.AGENTS:,} agents that were all enrolled within ten minutes, {agents.DAYS} days, and a server that is away for an
hour when a wave of renewals is at its highest. When an agent acts is asked of the client's own schedule
(`quicklime_client/schedule.py`); the time goes from one act to the next. The simulation takes a server that is there to answer
at once. Every agent looks what is served and checks in every five minutes.

Measured: the busiest load of the simulation on a running Quicklime, each request over a new TLS connection, check-ins and
renewals without a token. The check-ins come from {agents.FEW:,} certificates every {agents.EACH} seconds instead of
{agents.AGENTS:,} every five minutes, so the database holds fewer rows. Issuance and renewal are {agents.SAMPLE:,} each over
{agents.THREADS} connections, `Prefer: wait=10`.
"""
OCSP_BARS = (  # peer, its method if it has only one, what is wanted
    (FILES, GET, "0.6×, aim 0.9×"),
    (ONE_FILE, GET, "–"),
    (CfsslResponder.title, POST, "1.3×"),
    (DjangoCAResponder.title, None, "30×"),
)


def write() -> Path:
    """Write the page; its path."""
    results, before = {name: load(name) for name in PARTS}, _parts()
    parts = [INTRODUCTION]
    for name, (heading, made) in PARTS.items():
        result = results[name]
        parts.append("\n".join(made(result)) if result else _kept(before, heading))
    parts.append(_cpu(results["issuance"], results["bulk"]) if results["issuance"] else _kept(before, CPU))
    PAGE.write_text("\n".join(part for part in parts if part))
    return PAGE


def _parts() -> list[str]:
    """What the page says now, by headings."""
    return [f"{part.strip()}\n" for part in re.split("(?m)^(?=## )", PAGE.read_text())]


def _kept(parts: list[str], heading: str) -> str:
    return next((part for part in parts if part.startswith(f"## {heading}")), "")


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
            yield [str(connections), peer, f"{issuance.ratio(own, other):.2f}×", bar]


def _bulk(result: Result) -> Iterable[str]:
    rows = result["rows"]
    yield f"## Bulk, {bulk.SIZE} requests per POST\n"
    yield "Against `cfssl serve` that signs one by one and stores nothing.\n"
    yield _taken(result)
    yield _table(
        ["system", "connections", "certificates/s", "p50 ms a POST", "CPU ms each", "load core", "foreign"],
        [_posted(row) for row in rows.values()],
    )
    peer = max((row for row in rows.values() if row["system"] == STATELESS), key=lambda row: row["per_second"], default=None)
    own = [row for row in rows.values() if row["system"] == Quicklime.name]
    if peer and own:
        ratios = [[str(row["connections"]), f"{issuance.ratio(row, peer):.2f}×", "0.5×"] for row in own]
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


def _ocsp(result: Result) -> Iterable[str]:
    rows = result["rows"]
    good = [row for row in rows.values() if row["system"] not in ocsp.OTHERS]
    yield f"## OCSP, {result['facts']['certificates']} certificates\n"
    yield OCSP_TEXT
    yield _taken(result)
    head = ["system", "method", "connections", "requests/s", "p50 ms", "p99 ms", "CPU µs each", "load core", "foreign"]
    yield _table(head, [_answered(row) for row in good])
    if ratios := list(_ocsp_ratios(rows)):
        yield _table(["method", "connections", "Quicklime against", "ratio", "wanted"], ratios)
    yield (
        "What deserves no good answer, sent to Quicklime, and good ones without keep-alive: what is too long ends its connection, so\n"
        "that it is set against these.\n"
    )
    yield _table(["asked", "method", "connections", "requests/s", "CPU µs each", "against", "ratio of CPU"], _others(rows))
    yield "Wanted: unknown issuers and serials, garbage and oversize cost no more than good ones, 1×.\n"


def _answered(row: Row) -> list[str]:
    latency = [_number(row["p50_ms"]), _number(row["p99_ms"])]
    return [
        row["system"],
        row["method"],
        str(row["connections"]),
        _number(row["per_second"]),
        *latency,
        _number(_cpu_us(row)),
        *_cores(row),
    ]


def _cpu_us(row: Row) -> float:
    return 1e3 * sum(row["cpu_ms"].values())


def _ocsp_ratios(rows: dict[str, Row]) -> Iterable[list[str]]:
    """Static files answer GETs only, cfssl POSTs only: each is set against both methods of Quicklime."""
    for method in (GET, POST):
        for connections in ocsp.CONNECTIONS:
            own = rows.get(ocsp.key(QuicklimeResponder.title, method, connections))
            for peer, by, wanted in OCSP_BARS:
                other = rows.get(ocsp.key(peer, by or method, connections))
                if own and other:
                    yield [method, str(connections), peer, f"{own['per_second'] / other['per_second']:.2f}×", wanted]


def _others(rows: dict[str, Row]) -> Iterable[list[str]]:
    for row in rows.values():
        than = ocsp.ALONE if row["system"] == ocsp.OVERSIZE else QuicklimeResponder.title
        good = rows.get(ocsp.key(than, row["method"], row["connections"]))
        if row["system"] in ocsp.OTHERS and good:
            first = [row["system"], row["method"], str(row["connections"]), _number(row["per_second"]), _number(_cpu_us(row))]
            yield [*first, than, f"{_cpu_us(row) / _cpu_us(good):.2f}×"]


def _presign(result: Result) -> Iterable[str]:
    rows = list(result["rows"].values())
    yield "## Pre-signing, and a responder's start and memory\n"
    yield (
        "`manage.py presign --all` signs two responses for each certificate and stores them. On one core it shares core 0 with\n"
        "PostgreSQL, so that the rate is that of one core for everything; on two cores it has `--processes 2`, of which one does.\n"
        "django-ca: its own function for one certificate, called 1,000 times.\n"
    )
    yield _taken(result)
    head = [
        "what",
        "cores",
        "certificates",
        "responses/s",
        "seconds",
        "of the command µs each",
        "of PostgreSQL µs each",
        "peak memory MB",
        "foreign",
    ]
    yield _table(head, [_presigned(row) for row in rows if "per_second" in row])
    yield "Wanted: ≥ 10,000 responses/s per core, and memory that does not grow with them.\n"
    yield (
        "The responder: from its start until it answers right, and the memory (Pss, which counts what processes share once) of all of\n"
        "its processes, against the bytes of the answers that it holds.\n"
    )
    head = ["certificates", "processes", "ready after s", "memory MB", "answers MB", "bytes a certificate", "memory to answers", "foreign"]
    yield _table(head, [_started(row) for row in rows if "start_seconds" in row])
    yield "Wanted with 1,000,000 certificates: ready after ≤ 20 s, memory ≤ 1.3× the answers.\n"


def _presigned(row: Row) -> list[str]:
    first = [f"{row['certificates']:,}", _number(row["per_second"])]
    if "seconds" not in row:
        return [DjangoCAResponder.title, "1", *first, "–", "–", "–", "–", _number(row["foreign_cores"])]
    cpu = [_number(1e3 * row["command_cpu_ms"]), _number(1e3 * row["cpu_ms"]["postgresql"])]
    return [
        "manage.py presign --all",
        str(row["cores"]),
        *first,
        _number(row["seconds"]),
        *cpu,
        _number(row["rss_mb"]),
        _number(row["foreign_cores"]),
    ]


def _started(row: Row) -> list[str]:
    counts, columns = [f"{row['certificates']:,}", str(row["processes"])], ("start_seconds", "memory_mb", "answers_mb", "bytes_each")
    return [*counts, *(_number(row[column]) for column in columns), f"{row['ratio']:.2f}×", _number(row["foreign_cores"])]


def _revocation(result: Result) -> Iterable[str]:
    rows = result["rows"]
    yield "## From a revocation to the responder\n"
    yield (
        "The whole system on core 0. One by one: from the 200 of `POST …/revoke/` (by secret) until the responder says revoked, while\n"
        "it answers the load. In one command: from the start of `manage.py revoke_certificates` until it says so of the last one.\n"
    )
    yield _taken(result)
    if row := rows.get("one by one"):
        columns = ("p50_ms", "p99_ms", "worst_ms", "post_p50_ms", "load_per_second", "load_p99_ms", "foreign_cores")
        head = ["revocations", "p50 ms", "p99 ms", "worst ms", "p50 ms of the POST itself", "load, requests/s", "its p99 ms", "foreign"]
        yield _table(head, [[str(row["revocations"]), *(_number(row[column]) for column in columns)]])
        yield "Wanted: p50 ≤ 100 ms, p99 ≤ 1,000 ms, under 50,000 requests/s.\n"
    if row := rows.get("in one command"):
        columns = ("seconds", "command_seconds", "foreign_cores")
        cells = [f"{row['revocations']:,}", *(_number(row[column]) for column in columns)]
        yield _table(["in one command", "until all are visible s", "of these the command s", "foreign"], [cells])
        yield "Wanted: ≤ 30 s for 10,000.\n"


def _crl(result: Result) -> Iterable[str]:
    yield "## A CRL\n"
    yield "Entries read from the database, list built, signed and stored, on core 0 with PostgreSQL; start of Python not included.\n"
    yield _taken(result)
    columns = ("seconds", "crl_mb", "rss_mb", "foreign_cores")
    cells = [[f"{row['entries']:,}", *(_number(row[column]) for column in columns)] for row in result["rows"].values()]
    yield _table(["entries", "seconds", "size MB", "peak memory MB", "foreign"], cells)
    yield "Wanted: ≤ 2 s for 100,000.\n"


def _agents(result: Result) -> Iterable[str]:
    rows = result["rows"]
    yield "## A fleet of 10,000 agents with certificates of a day\n"
    yield AGENTS_TEXT
    yield f"![renewals and check-ins by the minute]({agents.PICTURE.name})\n"
    yield _taken(result)
    if week := rows.get("simulated week"):
        yield _table(
            ["simulated", "a minute on average", "busiest minute", "busiest after the outage", "least life left", "expired"],
            [
                ["renewals", *map(_number, (week["mean_per_minute"], week["most_per_minute"], week["most_per_minute_after"])),
                 f"{week['least_hours_left']:.1f} h", str(week["expired"])],
                ["check-ins", *_told(rows["simulated check-ins"]), "–", "–"],
            ],
        )  # fmt: skip
        minutes = _number(week["minutes_until_none_is_overdue"])
        yield f"All that missed their moment in the outage had renewed {minutes} minutes after its end. Wanted: no herd, none expired.\n"
    if busiest := rows.get("busiest load"):
        head = ["measured", "a second", "p50 ms", "p99 ms", "worst ms", "CPU ms each", "of the servers' core", "foreign"]
        yield _table(head, [["check-ins and renewals", *_fleet(busiest), f"{busiest['core']:.2f}", f"{busiest['foreign_cores']:.2f}"]])
    if (issuance_row := rows.get("issuance")) and (renewal := rows.get("renewal")):
        head = ["measured", "a second", "p50 ms", "p99 ms", "worst ms", "CPU ms each", "foreign"]
        each = [[name, *_fleet(row), f"{row['foreign_cores']:.2f}"] for name, row in (("issuance", issuance_row), ("renewal", renewal))]
        yield _table(head, each)
        ratio = sum(renewal["cpu_ms"].values()) / sum(issuance_row["cpu_ms"].values())
        yield f"A renewal costs {ratio:.2f}× the CPU of an issuance. Wanted: at most 1.5×.\n"


def _told(row: Row) -> list[str]:
    return [_number(row["mean_per_minute"]), "–", _number(row["most_per_minute"])]


def _fleet(row: Row) -> list[str]:
    rate = row.get("per_second") or (row["check_ins_per_second"] + row["renewals"] / row["seconds"])
    return [*map(_number, (rate, row["p50_ms"], row["p99_ms"], row["worst_ms"])), _number(sum(row["cpu_ms"].values()))]


def _expiry(result: Result) -> Iterable[str]:
    rows = result["rows"]
    watched = max(row.get("watched", 0) for row in rows.values())
    yield f"## Certificates that nobody renewed, {watched:,} watched\n"
    yield (
        "A scan as the mail worker does it once a minute, on core 0 with PostgreSQL; start of Python not included. With its events: each\n"
        "certificate is flagged in the log, 256 to a transaction, which is rolled back. `rebuild expiry` is timed whole.\n"
    )
    yield _taken(result)
    cells = [
        [f"{row['due']:,}", *(_number(row[column]) for column in ("seconds", "rss_mb", "foreign_cores"))]
        for row in rows.values()
        if "due" in row
    ]
    yield _table(["certificates due", "seconds", "peak memory MB", "foreign"], cells)
    if row := rows.get("rebuild"):
        yield _table(["rebuild expiry, events in the log", "events/s", "peak memory MB", "foreign"], [_rebuilt(row)])
    yield "Wanted: ≤ 1 s for a scan over 1,000,000, and a rebuild of ≥ 15,000 events/s.\n"


def _lineage(result: Result) -> Iterable[str]:
    yield "## Lineage: a service of 1,000 nodes with 10 certificates each\n"
    yield (
        "`GET /api/v1/services/{name}/` over an open TLS connection on an idle system, beside 1,000 other services. A page has counts\n"
        "of the whole service, who was left behind, and of each of its nodes all ten certificates with what it serves.\n"
    )
    yield _taken(result)
    rows = result["rows"]
    cells = [
        [row["page"], f"{row['rows']:,}", *map(_number, (row["p50_ms"], row["p99_ms"], sum(row["cpu_ms"].values()), row["foreign_cores"]))]
        for row in rows.values()
        if "page" in row
    ]
    yield _table(["page", "entries", "p50 ms", "p99 ms", "CPU ms each", "foreign"], cells)
    if row := rows.get("rebuild"):
        yield _table(["rebuild lineage, events in the log", "events/s", "peak memory MB", "foreign"], [_rebuilt(row)])
    yield "Wanted: ≤ 100 ms for a page, and a rebuild of ≥ 15,000 events/s.\n"


def _rebuilt(row: Row) -> list[str]:
    return [f"{row['events']:,}", *(_number(row[column]) for column in ("per_second", "rss_mb", "foreign_cores"))]


def _pages(result: Result) -> Iterable[str]:
    count = max(row["certificates"] for row in result["rows"].values())
    yield f"## Pages, {count:,} certificates\n"
    yield (
        "The dashboard and the lists of the admin, asked in the process by Django's test client: the server's own time, without TLS.\n"
        "PostgreSQL shares the core. The certificates are made up, of a thousand services; each has its request, every tenth a reminder.\n"
        f"Each figure is of {pages.TIMES} requests in one run, after some that fill the process's caches.\n"
    )
    yield _taken(result)
    columns = ("page", "p50_ms", "p95_ms", "queries", "bytes", "foreign_cores")
    cells = [
        [_number(value) if isinstance(value := row[name], float) else _plain(value) for name in columns] for row in result["rows"].values()
    ]
    yield _table(["page", "p50 ms", "p95 ms", "queries", "bytes", "foreign"], cells)
    yield "Wanted: p95 ≤ 100 ms, ≤ 15 queries, ≤ 100,000 bytes.\n"


def _plain(value: str | int) -> str:
    return value if isinstance(value, str) else f"{value:,}"


CPU = "CPU for each certificate"
PARTS = {  # section → how its heading begins, and what makes its text
    "issuance": ("Durable issuance", _issuance),
    "bulk": ("Bulk", _bulk),
    "latency": ("One request", _latency),
    "log": ("The log", _log),
    "list": ("A page of the list", _list),
    "ocsp": ("OCSP", _ocsp),
    "presign": ("Pre-signing", _presign),
    "revocation": ("From a revocation", _revocation),
    "crl": ("A CRL", _crl),
    "agents": ("A fleet", _agents),
    "expiry": ("Certificates that nobody renewed", _expiry),
    "lineage": ("Lineage", _lineage),
    "pages": ("Pages", _pages),
}


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
        f"## {CPU}\n\n"
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
    tries = f"at most {options.get('tries', Options.tries)} tries of each"
    first = f"`{result['command']}`, {result['at']}; {options['runs']} runs of {options['seconds']} s, medians; {tries}."
    return "\n".join([first, "", *(f"- {name}: {value}" for name, value in facts.items()), ""])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _number(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"
