"""OCSP by GET and POST over keep-alive connections, random serials: Quicklime's responder beside nginx and two responders.

Quicklime, nginx and cfssl give the very same signed bytes; django-ca signs its own. Before and after each run a sample of
the answers is verified: CertID, status, time, signature. Under load the answers' mean size tells whether they were others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from cryptography.x509.ocsp import OCSPResponseStatus

from benchmarks import asking, status
from benchmarks.asking import Questions, Ready
from benchmarks.machine import Measured, Meter
from benchmarks.nginx import Nginx
from benchmarks.quicklime import Services
from benchmarks.responders import CfsslResponder, DjangoCAResponder
from benchmarks.results import Row, Section, cpu_columns

CERTIFICATES = 100_000
CONNECTIONS = (16, 64)
OVERSIZE, ALONE = "oversize", "good, on a connection of its own"
OTHERS = ("unknown issuer", "unknown serial", "garbage", OVERSIZE, ALONE)
OTHER_REQUESTS = 2_000  # of each kind
OVERSIZE_BYTES = 8 * 1024  # of a request that is twice as long as any responder need take
WARM_UP_SECONDS = 3


class System(AbstractContextManager["System"], Protocol):
    """A responder that can be started."""

    title: str
    methods: Sequence[str]
    port: int
    questions: Questions

    @property
    def measured(self) -> Sequence[Measured]: ...
    def facts(self) -> dict[str, str]: ...


def run(section: Section) -> None:
    """Rows "<system>, <method>, <connections>" and "<other kind>, <method>, <connections>"."""
    with status.filled(section, min(CERTIFICATES, section.options.events)) as directory, Services(directory) as services:
        ready = status.ready(services)
        section.facts["certificates"] = f"{len(ready.answers):,}"
        measure(section, status.QuicklimeResponder(services, ready.questions(status.PATH)), _others(ready))
    for system in (Nginx(ready), Nginx(ready, one=True), CfsslResponder(ready), DjangoCAResponder()):
        measure(section, system)


def key(title: str, method: str, connections: int) -> str:
    """The name of a row."""
    return f"{title}, {method}, {connections}"


def measure(section: Section, system: System, others: Mapping[str, Questions] | None = None) -> None:
    """Take the rows of a system: of good questions at all CONNECTIONS, of `others` at the fewest."""
    others = others or {}
    kinds = {system.title: CONNECTIONS, **dict.fromkeys(others, CONNECTIONS[:1])}
    wanted = [(kind, method) for kind in kinds for method in system.methods if not taken(section, kind, method, kinds[kind])]
    if not wanted:
        return
    print(f"  {section.name}: starting {system.title}", flush=True)
    with system:
        section.facts.update(system.facts())
        for kind, method in wanted:
            _measure(section, system, kind, method, others.get(kind, system.questions), kinds[kind])


def taken(section: Section, kind: str, method: str, connections: Sequence[int]) -> bool:
    """Whether the run that is resumed has these rows."""
    return all(key(kind, method, number) in section.rows for number in connections)


def _measure(section: Section, system: System, kind: str, method: str, questions: Questions, connections: Sequence[int]) -> None:
    file = questions.write(method)
    asking.load(file, system.port, connections[0], WARM_UP_SECONDS)
    for number in connections:
        take = lambda number=number: asked(system, method, questions, file, number, section.options.seconds)  # noqa: E731
        row = section.measure(key(kind, method, number), take)
        row.update(system=kind, method=method, connections=number)
        section.save()


def asked(system: System, method: str, questions: Questions, file: Path, connections: int, seconds: int) -> Row:
    """One run between two looks at what is answered."""
    size = questions.sample(method, system.port)
    with Meter(system.measured) as meter:
        done = asking.load(file, system.port, connections, seconds, questions.close)
    questions.sample(method, system.port)
    questions.check(done, size)
    row = {"per_second": done.answers / done.seconds, "p50_ms": done.p50_ms, "p99_ms": done.p99_ms, "bytes": size}
    return {**row, "answers": done.answers, **cpu_columns(meter.usage, done.answers)}


def _others(ready: Ready) -> dict[str, Questions]:
    """What a responder is asked besides: what deserves no good answer, and good ones without keep-alive, as what is too long
    costs its connection."""
    unauthorized = asking.refuses(OCSPResponseStatus.UNAUTHORIZED)
    malformed = asking.refuses(OCSPResponseStatus.MALFORMED_REQUEST)
    questions = (
        Questions(status.PATH, asking.unknown_issuers(OTHER_REQUESTS), unauthorized),
        Questions(status.PATH, asking.unknown_serials(ready.issuer, OTHER_REQUESTS), unauthorized),
        Questions(status.PATH, asking.noise(OTHER_REQUESTS, 80), malformed),
        Questions(status.PATH, asking.noise(OTHER_REQUESTS, OVERSIZE_BYTES), asking.turns_away, refused=True),
        replace(ready.questions(status.PATH), close=True),
    )
    return dict(zip(OTHERS, questions, strict=True))
