"""Quicklime as its users run it: `quicklime up` with PostgreSQL and Redis, every setting at its default.

TLS, lint before each signature and synchronous_commit are on; all of its processes share the servers' core.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from benchmarks import inputs, load, paths
from benchmarks.client import Client
from benchmarks.machine import Meter
from benchmarks.results import Row, cpu_columns
from benchmarks.servers import Postgres, Redis, Server, free_port

DATABASE = "quicklime"
LIBRARIES = ("Django", "djangorestframework", "celery", "gunicorn", "psycopg", "cryptography")
PROCESSES = (  # words of a command line, and what that process is called; the first that fits counts
    (("celery", "beat"), "beat"),
    (("celery", "worker"), "worker"),
    (("ocsp.responder",), "responder"),
    (("ocsp.responder.generation",), "responder"),
    (("gunicorn",), "web"),
)


class Up(Server):
    """`quicklime up` and all that it starts."""

    start_seconds, stop_seconds = 180.0, 60.0  # it makes a hierarchy first; it ends its own children in order

    def __init__(self, state: Path, port: int, environment: dict[str, str]) -> None:
        self.state, self.http_port = state, free_port()
        program = Path(sys.executable).with_name("quicklime")
        command = [program, "up", "--state", state, "--https-port", port, "--http-port", self.http_port, "--zone", inputs.ZONE]
        super().__init__("quicklime", command, port, env=environment, cwd=paths.REPOSITORY)

    def label(self, command: str) -> str:
        return next((name for words, name in PROCESSES if set(words) <= set(command.split())), "supervisor")

    def answers(self) -> bool:
        """Whether the web process answers under its own certificate, which the worker has then issued."""
        if not super().answers() or not (self.state / "token").exists() or not (self.state / "root.pem").exists():
            return False
        try:
            with Client(f"https://localhost:{self.port}", self.state / "root.pem") as client:
                return client.get("/livez")[0] == 200
        except OSError:
            return False  # not listening yet, or not with its own certificate yet


class Services:
    """PostgreSQL and Redis for one Quicklime, and its state directory. `kept`: a directory that outlives this object."""

    def __init__(self, kept: Path | None = None) -> None:
        self._kept = kept
        self.state = kept / "state" if kept else paths.work() / "state"

    def __enter__(self) -> Self:
        if not self._kept:
            shutil.rmtree(self.state, ignore_errors=True)
        with ExitStack() as stack:
            self.postgres, self.redis = stack.enter_context(Postgres(self._kept)), stack.enter_context(Redis())
            self.postgres.create(DATABASE)
            self._start(stack)
            self._stop = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.close()

    def _start(self, stack: ExitStack) -> None:
        """What else runs."""

    def environment(self) -> dict[str, str]:
        """What differs from a start without any setting: where PostgreSQL, Redis and the state are."""
        services = {"DATABASE_URL": self.postgres.url(DATABASE), "REDIS_URL": self.redis.url(), "QUICKLIME_STATE": str(self.state)}
        return {**os.environ, **services}

    def facts(self) -> dict[str, str]:
        """Versions."""
        libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
        return {"Quicklime": f"{commit()}, {libraries}", "PostgreSQL": self.postgres.facts()}

    def number(self, sql: str, *parameters: Any) -> int:
        """The single number that `sql` selects."""
        with self.postgres.connect(DATABASE) as connection:
            found = connection.execute(sql, parameters or None).fetchone()
        return int(found[0]) if found else 0


class Quicklime(Services):
    """A running system."""

    name = "Quicklime"

    def _start(self, stack: ExitStack) -> None:
        self._up = stack.enter_context(Up(self.state, free_port(), self.environment()))
        self.http_port = self._up.http_port
        self.url = f"https://localhost:{self._up.port}"
        self.headers = {"Authorization": f"Bearer {(self.state / 'token').read_text().strip()}", "Prefer": "wait=10"}
        bodies = inputs.bodies("quicklime", request)
        self.post = load.Post(f"{self.url}/api/v1/certificates/", bodies, '"serial": *"(%x+)"', self.headers)

    def client(self) -> Client:
        """A connection that trusts this system's root only."""
        return Client(self.url, self.state / "root.pem", self.headers)

    @property
    def measured(self) -> Sequence[Server]:
        """Every server, for a Meter."""
        return self._up, self.postgres, self.redis

    def run(self, connections: int, seconds: int) -> Row:
        """One run of load; every answered certificate is looked up in the inventory."""
        with Meter(self.measured) as meter:
            done = load.run(self.post, connections, seconds)
        made = done.statuses[201]
        row = {"per_second": made / done.seconds, "p50_ms": done.p50_ms, "p99_ms": done.p99_ms, "answered": made}
        statuses = {str(status): count for status, count in done.statuses.items()}
        return {
            **row,
            "refused": done.statuses.total() - made,
            "statuses": statuses,
            "stored": self.count(done.captured),
            **cpu_columns(meter.usage, made),
        }

    def count(self, serials: list[str]) -> int:
        """How many of the answered serials are in the inventory with the log position of their event."""
        sql = """SELECT count(*) FROM ca_certificate c JOIN eventlog_event e ON e.position = c.log_position
                 WHERE c.serial = ANY(%s)"""
        return self.number(sql, list(set(serials)))


def request(wanted: inputs.Wanted) -> dict[str, str]:
    """The body of POST /api/v1/certificates/."""
    return {"csr": wanted.csr, "profile": "server", "service": "bench", "node": f"node{wanted.number}"}


def commit() -> str:
    """The commit that is measured, marked if files differ from it."""
    command = ["git", "-C", str(paths.REPOSITORY), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "no commit"
