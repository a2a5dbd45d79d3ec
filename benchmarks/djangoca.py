"""The peer django-ca: POST to its REST API stores an order, its Celery worker signs; measured to the finished certificate.

In its favour: plain HTTP, no middleware, one pooled gunicorn worker, and its user's password stored as MD5 instead of
PBKDF2 (which alone costs a quarter of a CPU second in each request, since the API takes name and password).
"""

from __future__ import annotations

import base64
import os
import subprocess
import time
from contextlib import ExitStack
from typing import Self

from benchmarks import inputs, install, load, paths
from benchmarks.client import Client
from benchmarks.failure import Failed
from benchmarks.machine import Meter
from benchmarks.results import Row, cpu_columns
from benchmarks.servers import Postgres, Redis, Server, free_port, wait_until

DATABASE, USER, PASSWORD = "djangoca", "bench", "bench"
DRAIN_SECONDS = 300


class DjangoCA:
    """django-ca's gunicorn and Celery worker with PostgreSQL and Redis, all on the servers' core."""

    name = "django-ca REST → Celery"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._postgres, self._redis = stack.enter_context(Postgres()), stack.enter_context(Redis())
            self._environment = self._settings()
            serial = self._prepare()
            self._look = stack.enter_context(self._postgres.connect(DATABASE))
            self._web, self._worker = self._start_web(stack), self._start_worker(stack)
            self._stop = stack.pop_all()
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self.headers, self.path = {"Authorization": f"Basic {login}"}, f"/django_ca/api/ca/{serial}"
        self.port = self._web.port
        bodies = inputs.bodies("djangoca", order)
        self.post = load.Post(f"http://127.0.0.1:{self.port}{self.path}/sign/", bodies, '"slug": *"([^"]+)"', self.headers)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.close()

    def _settings(self) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(paths.HERE / "djangoca_site"),
            "DJANGO_SETTINGS_MODULE": "bench_settings",
            "BENCH_DATABASE_PORT": str(self._postgres.port),
            "BENCH_DATABASE": DATABASE,
            "BENCH_REDIS": f"redis://127.0.0.1:{self._redis.port}",
            "BENCH_FILES": str(paths.work() / "djangoca-files"),
            "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
        }

    def _prepare(self) -> str:
        """Tables, user and CA; the CA's serial."""
        self._postgres.create(DATABASE)
        self._manage("migrate", "-v0")
        self._manage("createsuperuser", "--noinput", "--username", USER, "--email", "bench@example.org")
        self._manage("init_ca", "--key-type=EC", "--elliptic-curve=secp256r1", "--api-enable", "bench", "CN=bench")
        with self._postgres.connect(DATABASE) as connection:
            found = connection.execute("SELECT serial FROM django_ca_certificateauthority").fetchone()
        if not found:
            raise Failed("django-ca made no CA")
        return str(found[0])

    def _manage(self, *arguments: str) -> None:
        command = [install.django_ca_bin() / "python", "-m", "django", *arguments]
        subprocess.run(command, check=True, env=self._environment, cwd=paths.work(), stdout=subprocess.DEVNULL)

    def _running(self) -> dict[str, str]:
        return {**self._environment, "BENCH_CELERY": "1"}

    def _start_web(self, stack: ExitStack) -> Server:
        port = free_port()
        options = ["-w", 1, "-k", "gthread", "--threads", 4, "--keep-alive", 60, "-b", f"127.0.0.1:{port}", "--log-level", "error"]
        command = [install.django_ca_bin() / "gunicorn", *options, "bench_app:wsgi"]
        return stack.enter_context(Server("django-ca web", command, port, env=self._running(), cwd=paths.work()))

    def _start_worker(self, stack: ExitStack) -> Server:
        options = ["-c", 1, "-l", "error", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        command = [install.django_ca_bin() / "celery", "-A", "bench_app", "worker", *options]
        return stack.enter_context(Server("django-ca worker", command, self._redis.port, env=self._running(), cwd=paths.work()))

    @property
    def measured(self) -> list[Server]:
        """Every server, for a Meter."""
        return [self._web, self._worker, self._postgres, self._redis]

    def client(self) -> Client:
        """A connection to its REST API."""
        return Client(self.post.url, headers=self.headers)

    def facts(self) -> dict[str, str]:
        """Versions."""
        redis = install.package_version("redis-server")
        return {"django-ca": install.django_ca_versions(), "PostgreSQL": self._postgres.facts(), "Redis": redis}

    def run(self, connections: int, seconds: int) -> Row:
        """Load for `seconds`, then wait until no order is pending: the rate is over both, so it is what the core sustains
        from POST to certificate. Latencies are those of accepting an order only."""
        before = self._issued()
        with Meter(self.measured) as meter:
            start = time.perf_counter()
            done = load.run(self.post, connections, seconds)
            wait_until(lambda: not self._pending(), "django-ca has finished its orders", DRAIN_SECONDS)
            took = time.perf_counter() - start
        made = self._issued() - before
        row = {"per_second": made / took, "accept_p50_ms": done.p50_ms, "accept_p99_ms": done.p99_ms, "refused": done.refused}
        return {**row, "answered": len(done.captured), "stored": self.count(done.captured), **cpu_columns(meter.usage, made)}

    def _issued(self) -> int:
        return self._number("SELECT count(*) FROM django_ca_certificateorder WHERE status = 'issued'")

    def _pending(self) -> int:
        time.sleep(0.03)  # this look-up runs on the servers' core, too
        return self._number("SELECT count(*) FROM django_ca_certificateorder WHERE status = 'pending'")

    def count(self, slugs: list[str]) -> int:
        """How many of the answered orders have a certificate in the database."""
        sql = """SELECT count(*) FROM django_ca_certificateorder o JOIN django_ca_certificate c ON c.id = o.certificate_id
                 WHERE o.slug = ANY(%s) AND o.status = 'issued'"""
        return self._number(sql, slugs)

    def _number(self, sql: str, *parameters: object) -> int:
        found = self._look.execute(sql, parameters or None).fetchone()
        return int(found[0]) if found else 0


def order(wanted: inputs.Wanted) -> dict[str, object]:
    """The body of POST …/sign/."""
    name = {"type": "DNS", "value": wanted.host}
    return {
        "csr": wanted.csr,
        "subject": [{"oid": "2.5.4.3", "value": wanted.host}],
        "extensions": [{"type": "subject_alternative_name", "value": [name]}],
    }
