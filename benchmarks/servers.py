"""Starting and stopping the server processes of a benchmark, pinned to their core.

Each server is one session of its own and is stopped by its process group, never by name. Ports are free ones of loopback.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psycopg

from benchmarks import paths
from benchmarks.failure import Failed
from benchmarks.machine import SERVER_CORE
from tests.services import postgres_bin, redis_binary, unprivileged


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(ready: Callable[[], bool], what: str, seconds: float) -> None:
    """Poll `ready` until it is true; Failed naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise Failed(f"{what} not within {seconds:g} s")
        time.sleep(0.02)


class Server:
    """One server: `with Server("cfssl", command, port): …`. Its output goes to logs/<name>.log in the cache directory."""

    pid: int
    stop_signal = signal.SIGTERM
    start_seconds, stop_seconds = 60.0, 10.0

    def __init__(
        self, name: str, command: Sequence[object], port: int, env: Mapping[str, str] | None = None, cwd: Path | None = None, **popen: Any
    ) -> None:
        self.name, self.port = name, port
        self._command = ["taskset", "-c", str(SERVER_CORE), *map(str, command)]
        self._popen = {"cwd": cwd, "env": {**os.environ, **(env or {})}, **popen}

    def label(self, command: str) -> str:
        """The name of this server's process with that command line in a table of CPU use."""
        return self.name

    def __enter__(self) -> Self:
        self.log = paths.logs() / f"{self.name}.log"
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output, start_new_session=True, **self._popen)
        self.pid = self._process.pid
        try:
            wait_until(self._ready, f"{self.name} is ready (see {self.log})", self.start_seconds)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ready(self) -> bool:
        if self._process.poll() is not None:
            raise Failed(f"{self.name} ended with {self._process.returncode}; see {self.log}")
        return self.answers()

    def answers(self) -> bool:
        """Whether the server takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """Ask the first process to end, and end its group if that takes more than `stop_seconds`."""
        if self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(self.stop_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()


class Postgres(Server):
    """A cluster with fsync and synchronous_commit on. `directory`: kept there; None: thrown away afterwards."""

    stop_signal = signal.SIGINT  # fast shutdown
    settings = ("listen_addresses=127.0.0.1", "shared_buffers=512MB", "max_wal_size=4GB", "max_connections=200")

    def __init__(self, directory: Path | None = None) -> None:
        self._kept = directory
        self.base = directory or Path(tempfile.mkdtemp(prefix="quicklime-bench-", dir=paths.DISK))
        port, who, binaries = free_port(), unprivileged(), postgres_bin()
        if not (self.base / "data" / "PG_VERSION").exists():
            self._make(binaries, who)
        options = [word for setting in self.settings for word in ("-c", setting)]
        command = [binaries / "postgres", "-D", self.base / "data", "-p", port, "-k", self.base, *options]
        super().__init__("postgresql", command, port, cwd=self.base, **who)

    def _make(self, binaries: Path, who: Mapping[str, Any]) -> None:
        self.base.mkdir(parents=True, exist_ok=True)
        if who:
            os.chown(self.base, who["user"], who["group"])
        command = [binaries / "initdb", "-D", self.base / "data", "-U", "quicklime", "-A", "trust", "-E", "UTF8", "--locale=C"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.base, **who)

    def answers(self) -> bool:
        try:
            self.connect("postgres").close()
        except psycopg.OperationalError:
            return False  # still starting
        return True

    def connect(self, database: str) -> psycopg.Connection[Any]:
        """An autocommit connection."""
        return psycopg.connect(f"host=127.0.0.1 port={self.port} user=quicklime dbname={database}", autocommit=True)

    def create(self, database: str) -> None:
        """Make an empty database, if it is not there."""
        with self.connect("postgres") as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
                connection.execute(f'CREATE DATABASE "{database}"')

    def url(self, database: str) -> str:
        """`database` as a DATABASE_URL."""
        return f"postgresql://quicklime@127.0.0.1:{self.port}/{database}"

    def facts(self) -> str:
        """Version and the settings that decide about durability."""
        with self.connect("postgres") as connection:
            show = {name: connection.execute(f"SHOW {name}").fetchone()[0] for name in ("server_version", "fsync", "synchronous_commit")}
        return f"{show['server_version'].split()[0]}, fsync {show['fsync']}, synchronous_commit {show['synchronous_commit']}"

    def stop(self) -> None:
        super().stop()
        if self._kept is None:
            shutil.rmtree(self.base, ignore_errors=True)


class Redis(Server):
    """A Redis without persistence: to Quicklime and to Celery its content is only messages."""

    def __init__(self) -> None:
        port = free_port()
        super().__init__("redis", [redis_binary(), "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", paths.work()], port)

    def url(self, number: int = 0) -> str:
        """Its database `number` as a REDIS_URL."""
        return f"redis://127.0.0.1:{self.port}/{number}"
