"""A whole installation to be hurt: `quicklime up`, the PostgreSQL and the Redis below it, the disk under them, and clients.

Owns the processes, how they are killed, stopped, paused and started again. Must hold no expectation of what Quicklime does
meanwhile: that is for the tests.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from cryptography import x509

from quicklime_site import private_redis
from tests import services
from tests.ocsp.responder.support import request, status_of
from tests.processes import eventually
from tests.site.test_supervisor import gone
from tests.site.test_whole import QUICKLIME, ROOT, Instance

START = 60.0  # seconds: `up` from nothing on a busy machine
WEB, WORKER, BEAT, REDIS = "--certfile", "celery.*\0worker\0", "celery.*\0beat\0", "redis-server|valkey-server"  # command lines


class PostgreSQL:
    """A cluster of its own below `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.url = services.start_postgres(directory)
        self._control = Path(f"/proc/{self._pid}/exe").resolve().with_name("pg_ctl")

    @property
    def _pid(self) -> int:
        return int((self._directory / "data" / "postmaster.pid").read_text().split()[0])

    def kill(self) -> None:
        """kill -9 of the postmaster. Its backends notice, and end after what they are at."""
        os.kill(self._pid, signal.SIGKILL)

    def stop(self) -> None:
        """At once, without a last checkpoint: the next start recovers from the write-ahead log."""
        self._pg_ctl("-m", "immediate", "stop")

    def start(self) -> None:
        """Start it as it ran before, whatever ended it; a backend that outlives its postmaster holds that up a little."""
        eventually(lambda: self._pg_ctl("restart") == 0)

    @contextmanager
    def away(self) -> Iterator[None]:
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """All its processes hold their sockets, and do nothing."""
        postmaster = self._pid
        pids = [postmaster, *map(int, Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split())]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def _pg_ctl(self, *command: str) -> int:
        call = [self._control, "-D", self._directory / "data", "-w", "-l", self._directory / "log", *command]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.run(call, cwd=self._directory, check=False, **quiet, **services.unprivileged()).returncode


class Redis:
    """A server of its own below `directory`, which forgets everything when it ends."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.url = f"unix://{directory / 'redis.sock'}"
        self.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def start(self) -> None:
        place = ["--unixsocket", str(self._directory / "redis.sock"), "--dir", str(self._directory)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([services.redis_binary(), "--port", "0", "--save", "", *place], **quiet)
        private_redis.wait(self.url, lambda: self._process.poll() is None)


class SmallDisk:
    """A file system of its own at `path`, small enough to be filled. Where none can be mounted, `small` is false."""

    def __init__(self, path: Path) -> None:
        self.path = path
        mount = ["mount", "-t", "tmpfs", "-o", "size=400m,mode=0711", "quicklime-test", str(path)]
        self.small = shutil.which("mount") is not None and subprocess.run(mount, capture_output=True, check=False).returncode == 0

    @contextmanager
    def full(self) -> Iterator[None]:
        """Not a block is free until the end of the block."""
        ballast = self.path / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in (2**20, 2**12):
                _write_all(partial(file.write, bytes(size)))
        try:
            yield
        finally:
            ballast.unlink()

    def unmount(self) -> None:
        if self.small:
            subprocess.run(["umount", "--lazy", self.path], check=True)


def _write_all(write: Callable[[], int]) -> None:
    try:
        while True:
            write()
    except OSError:
        return


@dataclass
class Installation(Instance):
    """What `quicklime up` runs. What it says goes to a file in its directory, so that nobody needs to read along."""

    postgresql: PostgreSQL | None = None
    redis: Redis | None = None
    mail: int = 0  # port of its mail server, where nobody listens unless a test does

    @property
    def said(self) -> str:
        return (self.directory / "up.log").read_text()

    def start(self) -> str:
        ports = ["--https-port", str(self.https), "--http-port", str(self.http)]
        with (self.directory / "up.log").open("w") as log:
            process = subprocess.Popen([*QUICKLIME, "up", *ports], env=self.environ(), cwd=self.directory, stdout=log, stderr=log)
        self.process = process
        eventually(lambda: "openssl verify" in self.said or process.poll() is not None, START)
        assert process.poll() is None, f"quicklime up ended:\n{self.said}"
        return self.said

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        assert self.process
        children = self.children()
        self.process.send_signal(number)
        code = self.process.wait(60)
        eventually(lambda: all(gone(pid) for pid in children))
        return code, self.said

    def pids_of(self, kind: str) -> set[int]:
        """The children of a kind, and theirs: WEB, WORKER, BEAT or the private REDIS."""
        return {pid for pid in self.children() if re.search(kind, _command_line(pid))}

    def kill(self, kind: str) -> set[int]:
        """kill -9 of all of a kind; which these were."""
        pids = self.pids_of(kind)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert pids, f"nothing runs as {kind!r}"
        return pids

    @contextmanager
    def redis_killed(self) -> Iterator[None]:
        """Away until the end of the block; the private one only until the supervisor starts it again."""
        if self.redis is None:
            self.kill(REDIS)
            yield
            return
        self.redis.kill()
        try:
            yield
        finally:
            self.redis.start()

    @contextmanager
    def redis_paused(self) -> Iterator[None]:
        """It holds its sockets, and answers nobody."""
        pid = self.redis.pid if self.redis else min(self.pids_of(REDIS))
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextmanager
    def client(self, service: str) -> Iterator[Client]:
        """A client that asks for certificates of `service`."""
        client = Client(self.https, (self.state / "token").read_text().strip(), str(self.state / "root.pem"), service)
        try:
            yield client
        finally:
            client.close()

    def at_once(self, service: str, asks: Sequence[Callable[[Client], Answer]]) -> list[Answer]:
        """Each of `asks` by a client of its own, all at the same time."""
        with ExitStack() as stack:
            threads = stack.enter_context(ThreadPoolExecutor(len(asks)))
            clients = [stack.enter_context(self.client(service)) for _ in asks]
            list(threads.map(lambda client: client.get("/livez"), clients))  # connected, so that only the answer is timed
            return list(threads.map(lambda client, ask: ask(client), clients, asks))

    def python(self, code: str) -> str:
        """Run Python code in a process of its own, Django set up on this installation's database."""
        setup = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import django; django.setup()\n"
        return self.shell(shlex.join(["env", "DJANGO_SETTINGS_MODULE=quicklime_site.settings", sys.executable, "-c", setup + code]))

    def ocsp(self, certificate: dict[str, Any]) -> bytes:
        """What the responder answers about a certificate object of the API."""
        leaf, issuer = (x509.load_pem_x509_certificate(certificate[name].encode()) for name in ("pem", "chain"))
        kind = {"Content-Type": "application/ocsp-request"}
        asked = urllib.request.Request(f"http://127.0.0.1:{self.http}/ocsp", request(leaf, issuer), kind)
        with urllib.request.urlopen(asked, timeout=5) as answer:
            found: bytes = answer.read()
        return found

    def status(self, certificate: dict[str, Any]) -> str:
        """ "good", "revoked", or the OCSP error."""
        return status_of(self.ocsp(certificate))

    def crl(self, issuer: str) -> int:
        """The HTTP status of its full CRL."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/crl/{issuer}.crl", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def judge(self) -> None:
        """The log is whole, and the oracle finds nothing."""
        assert "The log is whole" in self.manage("verify_log")
        self.python("from tests import oracle; oracle.check()")


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Answer(NamedTuple):
    """`body` is parsed where it is JSON."""

    status: int
    headers: dict[str, str]
    body: Any
    seconds: float


@dataclass
class Client:
    """One connection, kept open, and made anew when it broke. Not for two threads at a time. Its `service` is written into
    what it asks for, and into its idempotency keys."""

    port: int
    token: str
    roots: str
    service: str
    _connection: HTTPSConnection | None = field(default=None, repr=False)

    def get(self, path: str) -> Answer:
        return self._ask("GET", path, None, {})

    def scrape(self) -> Answer:
        """The metrics, as who is on the machine reads them."""
        return self._ask("GET", "/metrics", None, {"Authorization": None})

    def submit(self, csr: bytes, key: str, wait: int = 0, **more: str) -> Answer:
        return self._ask("POST", "/api/v1/certificates/", self._item(csr) | more, self._headers(key, wait))

    def submit_many(self, csrs: Sequence[bytes], key: str, wait: int = 0) -> Answer:
        return self._ask("POST", "/api/v1/certificates/bulk/", {"requests": [self._item(csr) for csr in csrs]}, self._headers(key, wait))

    def revoke(self, certificate: dict[str, Any]) -> Answer:
        """By its secret."""
        body = {"reason": "superseded", "secret": certificate["revocation_secret"]}
        return self._ask("POST", f"/api/v1/certificates/{certificate['serial']}/revoke/", body, {})

    def issued(self) -> int:
        """How many certificates this client's service has."""
        count, path = 0, f"/api/v1/certificates/?service={self.service}"
        while path:
            page = self.get(path).body
            count, path = count + len(page["results"]), page["next"] and page["next"][page["next"].index("/api/") :]
        return count

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _item(self, csr: bytes) -> dict[str, str]:
        return {"csr": b64encode(csr).decode(), "service": self.service}

    def _headers(self, key: str, wait: int) -> dict[str, str]:
        return {"Idempotency-Key": f"{self.service}-{key}"} | ({"Prefer": f"wait={wait}"} if wait else {})

    def _ask(self, method: str, path: str, body: Any, more: Mapping[str, str | None]) -> Answer:
        """Raises OSError or HTTPException when no whole answer comes. A header of None is not sent."""
        began = time.monotonic()
        wanted = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **more}
        headers = {name: text for name, text in wanted.items() if text is not None}
        try:
            if self._connection is None:
                context = ssl.create_default_context(cafile=self.roots)
                self._connection = HTTPSConnection("localhost", self.port, timeout=15, context=context)
            self._connection.request(method, path, json.dumps(body) if body else None, headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, HTTPException):
            self.close()
            raise
        parsed = json.loads(content) if response.getheader("Content-Type", "").endswith("json") else content
        return Answer(response.status, dict(response.getheaders()), parsed, time.monotonic() - began)
