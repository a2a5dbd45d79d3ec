"""`quicklime up` as a user meets it: from nothing to a certificate that openssl accepts, and on through kills and restarts.

On PostgreSQL and a Redis of their own in that half of the suite, on the embedded default with its private Redis in the other.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import redis
from django.conf import settings
from django.db import connection

from .test_supervisor import gone, wait_for

ROOT = Path(__file__).resolve().parent.parent.parent
QUICKLIME = [sys.executable, "-c", "from quicklime_client.cli import main; main()"]
HOST = socket.gethostname()
PASSPHRASE = "the operator's own"
pytestmark = pytest.mark.timeout(240)


@dataclass
class Instance:
    """One state directory and what runs on it."""

    directory: Path
    https: int
    http: int
    services: Mapping[str, str]
    process: subprocess.Popen[str] | None = None

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def environ(self) -> dict[str, str]:
        """As little as a new machine has, and the services that the operator names."""
        path = os.environ["PATH"]
        return {"PATH": path, "HOME": str(self.directory), "QUICKLIME_STATE": str(self.state), "PYTHONPATH": str(ROOT), **self.services}

    def start(self) -> str:
        """Run `up` until it says that it runs; all that it has said by then."""
        ports = ["--https-port", str(self.https), "--http-port", str(self.http)]
        self.process = subprocess.Popen(
            [*QUICKLIME, "up", *ports], env=self.environ(), cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout
        said = ""
        for line in self.process.stdout:
            said += line
            if "openssl verify" in line:
                return said
        pytest.fail(f"quicklime up ended:\n{said}")

    def children(self) -> set[int]:
        """Every process below the supervisor, in /proc."""
        assert self.process
        return _below(self.process.pid)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """End it by a signal; its exit status and its last words."""
        assert self.process
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=60)
        return self.process.returncode, rest

    def shell(self, script: str) -> str:
        """Run what a user would type in another terminal."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], env=self.environ(), cwd=self.directory, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def manage(self, *command: str) -> str:
        return self.shell(shlex.join([sys.executable, str(ROOT / "manage.py"), *command]))

    def get(self, path: str, *more: str) -> str:
        curl = ["curl", "-sS", "--fail-with-body", "--cacert", "state/root.pem", *more, f"https://localhost:{self.https}{path}"]
        return self.shell(f'{shlex.join(curl)} -H "Authorization: Bearer $(cat state/token)"')


def _below(pid: int) -> set[int]:
    """Descendants of `pid`."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rsplit(") ", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    found, fresh = set[int](), {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def services() -> Iterator[dict[str, str]]:
    """A fresh PostgreSQL database, the run's Redis, emptied, and a passphrase; nothing on the embedded default."""
    if connection.vendor == "sqlite":
        yield {}
        return
    host, name = connection.settings_dict["HOST"], f"up{uuid4().hex}"
    with psycopg.connect(f"postgresql://quicklime@/postgres?host={host}", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        with redis.Redis.from_url(settings.REDIS_URL) as broker:
            broker.flushall()
        url = f"postgresql://quicklime@/{name}?host={host}"
        yield {"DATABASE_URL": url, "REDIS_URL": settings.REDIS_URL, "QUICKLIME_KEY_PASSPHRASE": PASSPHRASE}
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def instance(tmp_path: Path, services: dict[str, str]) -> Iterator[Instance]:
    for tool in ("curl", "openssl", "bash"):
        assert shutil.which(tool), f"{tool} is needed: it is what users have"
    made = Instance(tmp_path, *free_ports(2), services)
    yield made
    if made.process and made.process.poll() is None:
        made.process.kill()
        made.process.communicate()


def printed_commands(said: str) -> str:
    """The commands of the greeting, as they stand."""
    commands = said.split("A certificate, from a second terminal:\n", 1)[1]
    return re.sub(r"^  ", "", commands, flags=re.MULTILINE)


def test_from_nothing_to_a_verified_certificate_and_through_restarts(instance: Instance) -> None:
    said = instance.start()

    # what was printed works as it stands
    assert instance.shell(printed_commands(said)).endswith("payroll.pem: OK\n")
    issued = json.loads((instance.directory / "payroll.json").read_text())["certificate"]
    fingerprint = instance.shell("openssl x509 -in state/root.pem -noout -fingerprint -sha256").strip().partition("=")[2]
    assert fingerprint in said

    # the receipt proves it offline, against the key that the operator has
    (instance.directory / "receipt.json").write_text(instance.get(f"/api/v1/certificates/{issued['serial']}/receipt/"))
    verify = [*QUICKLIME, "verify-receipt", "receipt.json", "--certificate", "payroll.pem", "--log-key", "state/log.vkey"]
    assert instance.shell(shlex.join(verify)).count("ok  ") == 3
    instance.manage("verify_log")

    # secrets are for their owner only, and the passphrase is told to the worker alone
    private = ["token", "operator", "tls/web.pem", "revocation.key", "secret_key", *(() if instance.services else ["passphrase"])]
    assert {name: (instance.state / name).stat().st_mode & 0o777 for name in private} == dict.fromkeys(private, 0o600)
    assert instance.state.stat().st_mode & 0o777 == 0o700
    told = [pid for pid in instance.children() if PASSPHRASE.encode() in Path(f"/proc/{pid}/environ").read_bytes()]
    assert len(told) == (1 if instance.services else 0)
    assert all(b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in told)

    # a node shows its certificate in TLS, and needs no token to see how it stands
    instance.shell(
        "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout n1.key -subj / -addext subjectAltName=DNS:n1.internal"
        f" | curl -sSf --cacert state/root.pem -H \"Authorization: Bearer $(cat state/token)\" -H 'Prefer: wait=20'"
        f" -H 'Content-Type: application/x-pem-file' --data-binary @- 'https://localhost:{instance.https}/api/v1/certificates/?profile=client'"
        " > n1.json"
    )
    client = json.loads((instance.directory / "n1.json").read_text())["certificate"]
    (instance.directory / "n1.pem").write_text(client["pem"] + client["chain"])
    own = f"https://localhost:{instance.https}/api/v1/certificates"
    shown = instance.shell(f"curl -sSf --cacert state/root.pem --cert n1.pem --key n1.key {own}/{client['serial']}/")
    assert json.loads(shown)["status"] == "active"
    other = f"curl -sS --cacert state/root.pem --cert n1.pem --key n1.key {own}/{issued['serial']}/"
    assert json.loads(instance.shell(other))["code"] == "notAuthenticated"

    # relying parties fetch the issuer without TLS; health is green
    plain = f"curl -sSf http://localhost:{instance.http}/issuers/{issued['issuer']}.der | openssl x509 -inform DER -noout -subject"
    assert issued["issuer"] in instance.shell(plain)
    wait_for(lambda: json.loads(instance.shell(
        f"curl -sS --cacert state/root.pem https://localhost:{instance.https}/readyz"))["ready"], "readiness", 60)  # fmt: skip

    # what processes counted is added up, and the machine itself may read it
    metrics = f"curl -sS --cacert state/root.pem https://localhost:{instance.https}/metrics"
    told = {
        'quicklime_issuance_seconds_count{stage="issued"} 3.0',
        f'quicklime_responder_lag_events{{responder="{HOST}:{instance.http}"}} 0.0',
    }
    wait_for(lambda: told <= set(instance.shell(metrics).splitlines()), "the numbers of all certificates, and the responder's", 30)

    # a second one on the same state says so
    second = subprocess.run([*QUICKLIME, "up"], env=instance.environ(), capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert "another `quicklime up` runs" in second.stderr

    # SIGTERM ends all of it, soon
    children, before = instance.children(), time.monotonic()
    assert len(children) >= (6 if instance.services else 7)
    code, rest = instance.stop()
    assert (code, rest.strip().splitlines()[-1]) == (0, "quicklime: stopped")
    assert time.monotonic() - before < 30
    assert [pid for pid in children if not gone(pid)] == []

    # a second start continues: same root, same token, same certificate; kill -9 of the supervisor leaves nothing behind
    assert fingerprint in instance.start()
    assert json.loads(instance.get(f"/api/v1/certificates/{issued['serial']}/"))["fingerprint"] == issued["fingerprint"]
    children = instance.children()
    instance.stop(signal.SIGKILL)
    wait_for(lambda: all(gone(pid) for pid in children), "children gone", 10)

    # and a third continues after that
    instance.start()
    assert instance.shell(printed_commands(said)).endswith("payroll.pem: OK\n")
    instance.manage("verify_log")
    assert instance.stop(signal.SIGINT)[0] == 0
