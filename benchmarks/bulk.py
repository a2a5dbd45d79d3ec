"""256 signing requests per POST to Quicklime, against `cfssl serve` one by one without any store."""

from __future__ import annotations

import json
import re
import threading
import time
from itertools import cycle

from benchmarks import inputs
from benchmarks.failure import Failed
from benchmarks.issuance import Contender, compare, stateless_cfssl
from benchmarks.machine import Meter
from benchmarks.quicklime import Quicklime, request
from benchmarks.results import Row, Section, cpu_columns

SIZE = 256
CONNECTIONS = (1, 4, 16)
_SERIAL = re.compile(rb'"serial": ?"([0-9a-f]+)"')


def run(section: Section) -> None:
    """Rows of the stateless peer, and rows "Quicklime, <connections>"."""
    compare(section, [Contender(stateless_cfssl, (16, 64)), Contender(Quicklime, CONNECTIONS, posted)])


def posted(system: Quicklime, connections: int, seconds: int) -> Row:
    """One run: each connection posts its next batch as soon as it has all certificates of the one before."""
    answers: list[tuple[float, int, list[str]]] = []
    with Meter(system.measured) as meter:
        start = time.perf_counter()
        threads = [
            threading.Thread(target=_post, args=(system, number, connections, start + seconds, answers)) for number in range(connections)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - start
    serials = [serial for _, _, found in answers for serial in found]
    stored = system.count(serials)
    if stored != len(serials) or not serials:
        raise Failed(f"Quicklime answered {len(serials)} certificates in bulk, {stored} of them are in its database")
    times = sorted(latency for latency, _, _ in answers)
    row = {"per_second": len(serials) / took, "p50_ms": times[len(times) // 2] * 1e3, "answered": len(serials), "stored": stored}
    return {**row, "missing": len(answers) * SIZE - len(serials), **cpu_columns(meter.usage, len(serials))}


def _post(system: Quicklime, first: int, step: int, until: float, answers: list[tuple[float, int, list[str]]]) -> None:
    with system.client() as client:
        for body in cycle(_bodies()[first::step]):
            start = time.perf_counter()
            if start >= until:
                return
            status, content = client.post("/api/v1/certificates/bulk/", body)
            found = [serial.decode() for serial in _SERIAL.findall(content)]
            answers.append((time.perf_counter() - start, status, found))


def _bodies() -> list[bytes]:
    wanted = [request(each) for each in inputs.pool()]
    whole = len(wanted) - len(wanted) % SIZE
    return [json.dumps({"requests": wanted[at : at + SIZE]}).encode() for at in range(0, whole, SIZE)]
