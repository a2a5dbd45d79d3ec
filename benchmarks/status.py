"""A Quicklime with many made-up certificates and their OCSP answers, and its responder alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from benchmarks import asking, log, paths
from benchmarks.asking import Asker, Questions, Ready
from benchmarks.failure import Failed
from benchmarks.quicklime import DATABASE, Services
from benchmarks.results import Section
from benchmarks.servers import Server, free_port

ISSUER = "issuing-1"  # of all made-up certificates
PATH = "/ocsp"
KEYLESS = {"DJANGO_SETTINGS_MODULE": "quicklime_site.settings", "QUICKLIME_ROLE": "web"}  # as `quicklime up` starts it


def directory(section: str) -> Path:
    """Where a section's Quicklime is."""
    return paths.DISK / f"quicklime-bench-{section}"


@contextmanager
def filled(section: Section, certificates: int) -> Iterator[Path]:
    """The directory of a Quicklime that issued so many, with all their answers signed: a new one, unless the section is
    resumed. Removed when the section is through."""
    place = directory(section.name)
    if not section.options.resume:
        log.clean(place)
    prepare(place, certificates)
    yield place
    log.clean(place)


def prepare(place: Path, certificates: int) -> None:
    """A Quicklime in that directory with at least so many certificates and all their answers."""
    log.prepare(place)
    with Services(place) as services:
        fill(services, certificates)


def fill(services: Services, certificates: int) -> None:
    """Issue until there are so many, and have all their answers signed."""
    have = services.number("SELECT count(*) FROM ca_certificate")
    log.fill(services, log.length(services) + max(certificates - have, 0))
    log.run_command(manage("presign"), services.environment())


def manage(*arguments: object) -> list[object]:
    """`manage.py` with these arguments."""
    return [sys.executable, paths.REPOSITORY / "manage.py", *arguments]


def issuer(services: Services) -> x509.Certificate:
    """The certificate of ISSUER."""
    with services.postgres.connect(DATABASE) as connection:
        found = connection.execute("SELECT certificate FROM ca_issuer WHERE name = %s", [ISSUER]).fetchone()
    if not found:
        raise Failed(f"there is no {ISSUER}")
    return x509.load_der_x509_certificate(found[0])


def ready(services: Services) -> Ready:
    """The stored answers that say good, to SHA-1 CertIDs."""
    rows = _good(services, "serial, sha1", "")
    requests = asking.about(signer := issuer(services), (int(serial, 16) for serial, _ in rows), hashes.SHA1())
    return Ready(signer, dict(zip(requests, (answer for _, answer in rows), strict=True)))


def sample(services: Services, count: int) -> Questions:
    """Questions about some certificates of which good is to be said: the newest, as well as others."""
    rows = _good(services, "serial", f"ORDER BY revision DESC LIMIT {count // 2}") + _good(
        services, "serial", f"ORDER BY serial LIMIT {count // 2}"
    )
    signer = issuer(services)
    return Questions(PATH, asking.about(signer, (int(serial, 16) for (serial,) in rows), hashes.SHA1()), asking.good(signer))


def _good(services: Services, columns: str, which: str) -> list[tuple[Any, ...]]:
    sql = f"SELECT {columns} FROM ocsp_response WHERE issuer = %s AND NOT revoked AND length(sha1) > 0 {which}"
    with services.postgres.connect(DATABASE) as connection:
        return connection.execute(sql, [ISSUER]).fetchall()


def answers(questions: Questions, port: int) -> bool:
    """Whether the responder at that port answers the last of `questions` right."""
    request = questions.requests[-1]
    try:
        with Asker(port) as asker:
            answer = asker.ask(asking.message(PATH, asking.POST, request))
    except OSError:
        return False  # not listening yet
    return questions.wrong(request, answer) is None


class Responder(Server):
    """Quicklime's responder, ready when it says good of a certificate: `questions` are what it is asked until then."""

    start_seconds, pid = 120.0, 0  # no process yet

    def __init__(self, environment: Mapping[str, str], questions: Questions, processes: int = 1) -> None:
        self._questions = questions
        port = free_port()
        command = [sys.executable, "-m", "ocsp.responder", "--bind", f"127.0.0.1:{port}", "--processes", processes]
        super().__init__("responder", command, port, env={**environment, **KEYLESS}, cwd=paths.REPOSITORY)

    def answers(self) -> bool:
        return answers(self._questions, self.port)


class QuicklimeResponder:
    """The responder with the services it follows, as a system of the section "ocsp"."""

    title = "Quicklime"
    methods = (asking.GET, asking.POST)

    def __init__(self, services: Services, questions: Questions, processes: int = 1) -> None:
        self._services, self.questions = services, questions
        self._responder = Responder(services.environment(), questions, processes)
        self.port = self._responder.port

    def __enter__(self) -> Self:
        self._responder.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._responder.stop()

    @property
    def measured(self) -> Sequence[Server]:
        """Every server, for a Meter."""
        return self._responder, self._services.postgres, self._services.redis

    def facts(self) -> dict[str, str]:
        """Versions."""
        return self._services.facts()
