"""How long a revocation takes until the responder says so: one by one under load, and ten thousand in one command."""

from __future__ import annotations

import json
import random
import signal
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.ocsp import OCSPCertStatus

from benchmarks import asking, inputs, log, status
from benchmarks.asking import GET, Asked, Asker, Questions
from benchmarks.client import Client
from benchmarks.failure import Failed
from benchmarks.machine import Meter
from benchmarks.quicklime import DATABASE, Quicklime, Services, request
from benchmarks.results import Row, Section, cpu_columns
from benchmarks.servers import wait_until

CERTIFICATES = 100_000
SINGLE, MANY = 200, 10_000
REASON = "superseded"
CONNECTIONS, PAUSE_MS = 80, 1  # of the load: some 50,000 requests a second, if there is room for them
PAUSE = (0.02, 0.08)  # seconds between two revocations
POLL = 0.001  # seconds between two looks at the responder
PATIENCE, PATIENCE_WITH_MANY = 30.0, 300.0  # seconds, after which revocations count as lost
WARM_UP = 1.0  # seconds of load before the first
LONGEST = 3600  # seconds of load, which ends with the last


def run(section: Section) -> None:
    """Rows "one by one" and "in one command"."""
    many, runs = min(MANY, section.options.events // 4), section.options.runs * section.options.tries
    with status.filled(section, min(CERTIFICATES, section.options.events)) as directory:
        fleets = [f"fleet{number}" for number in range(runs)]
        with Services(directory) as services:
            for fleet in fleets:
                log.run_command(log.filling("issued", many, fleet), services.environment())
            questions = status.ready(services).questions(status.PATH)
        with Quicklime(directory) as system:
            section.facts.update(system.facts())
            wait_until(lambda: status.answers(questions, system.http_port), "the responder has its answers", PATIENCE)
            section.measure("one by one", lambda: one_by_one(system, questions))
            section.measure("in one command", lambda: in_one_command(system, fleets.pop()))


# --- one by one


def one_by_one(system: Quicklime, questions: Questions) -> Row:
    """One run of SINGLE revocations by secret, while the responder answers `questions` about others."""
    certificates = issued(system, SINGLE)
    messages = _messages(status.issuer(system), [serial for serial, _ in certificates])
    seen, posted, size = [], [], questions.sample(GET, system.http_port)
    load = _Load(system.http_port, questions.write(GET))
    with system.client() as client, Asker(system.http_port) as asker, Meter(system.measured) as meter, load:
        for (serial, secret), message in zip(certificates, messages, strict=True):
            time.sleep(random.uniform(*PAUSE))
            start = time.perf_counter()
            _revoke(client, serial, secret)
            answered = time.perf_counter()
            _wait(asker, message, answered)
            seen.append((time.perf_counter() - answered) * 1e3)
            posted.append((answered - start) * 1e3)
    questions.check(load.done, size)
    row = {"p50_ms": statistics.median(seen), "p99_ms": sorted(seen)[len(seen) * 99 // 100], "worst_ms": max(seen)}
    row |= {"post_p50_ms": statistics.median(posted), "revocations": len(seen)}
    row |= {"load_per_second": load.done.answers / load.done.seconds, "load_p99_ms": load.done.p99_ms}
    return {**row, **cpu_columns(meter.usage, load.done.answers)}


class _Load:
    """wrk in the background: `with _Load(port, requests) as load: …`, and `load.done` afterwards."""

    done: Asked

    def __init__(self, port: int, requests: Path) -> None:
        self._command = asking.command(port, CONNECTIONS, LONGEST)
        self._environment = asking.environment(requests, pause_ms=PAUSE_MS)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, env=self._environment, stdout=subprocess.PIPE, text=True)
        time.sleep(WARM_UP)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)  # it then reports as if its time were over
        report = self._process.communicate()[0]
        if kind is None:
            self.done = asking.parsed(report)


def issued(system: Quicklime, count: int) -> list[tuple[str, str]]:
    """(serial, revocation secret) of new certificates."""
    body = json.dumps({"requests": [request(each) for each in random.sample(inputs.pool(), count)]}).encode()
    with system.client() as client:
        code, content = client.post("/api/v1/certificates/bulk/", body)
    found = [result["request"]["certificate"] for result in json.loads(content).get("results", []) if result["request"]]
    if not all(found) or len(found) != count:
        raise Failed(f"bulk/ answered {code}: {content[:300]!r}")
    return [(each["serial"], each["revocation_secret"]) for each in found]


def _revoke(client: Client, serial: str, secret: str) -> None:
    code, content = client.post(f"/api/v1/certificates/{serial}/revoke/", json.dumps({"reason": REASON, "secret": secret}).encode())
    if code != 200:
        raise Failed(f"revoke/ answered {code}: {content[:300]!r}")


def _wait(asker: Asker, message: bytes, since: float) -> None:
    """Ask until the answer is revoked."""
    while asking.status(asker.ask(message)) is not OCSPCertStatus.REVOKED:
        if time.perf_counter() - since > PATIENCE:
            raise Failed(f"not revoked after {PATIENCE:g} s")
        time.sleep(POLL)


# --- many at once


def in_one_command(system: Quicklime, service: str) -> Row:
    """One run: all certificates of a service, from the start of the command until the responder says revoked of each."""
    serials = _serials(system, service)
    messages = _messages(status.issuer(system), serials)
    why = ["--service", service, "--reason", REASON, "--why", "benchmark", "--yes"]
    with Meter(system.measured) as meter, Asker(system.http_port) as asker:
        start = time.perf_counter()
        log.run_command(status.manage("revoke_certificates", *why), system.environment())
        command = time.perf_counter() - start
        while messages := [message for message in messages if asking.status(asker.ask(message)) is not OCSPCertStatus.REVOKED]:
            if time.perf_counter() - start > PATIENCE_WITH_MANY:
                raise Failed(f"{len(messages)} of {len(serials)} not revoked after {PATIENCE_WITH_MANY:g} s")
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "command_seconds": command, "revocations": len(serials), **cpu_columns(meter.usage, len(serials))}


def _serials(system: Quicklime, service: str) -> list[str]:
    with system.postgres.connect(DATABASE) as connection:
        rows = connection.execute("SELECT serial FROM ca_certificate WHERE service = %s", [service]).fetchall()
    return [serial for (serial,) in rows]


def _messages(issuer: x509.Certificate, serials: Sequence[str]) -> list[bytes]:
    """A GET about each."""
    requests = asking.about(issuer, (int(serial, 16) for serial in serials), hashes.SHA1())
    return [asking.message(status.PATH, GET, each) for each in requests]
