"""The peer `cfssl serve`, with its PostgreSQL store or without any. Plain HTTP, no authentication: both in its favour."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from cryptography import x509

from benchmarks import inputs, install, load, paths
from benchmarks.client import Client
from benchmarks.machine import Meter
from benchmarks.results import Row, cpu_columns
from benchmarks.servers import Postgres, Server, free_port

TABLES = """
CREATE TABLE certificates (
  serial_number bytea NOT NULL, authority_key_identifier bytea NOT NULL, ca_label bytea, status bytea NOT NULL, reason int,
  expiry timestamptz, revoked_at timestamptz, pem bytea NOT NULL, PRIMARY KEY (serial_number, authority_key_identifier));
CREATE TABLE ocsp_responses (
  serial_number bytea NOT NULL, authority_key_identifier bytea NOT NULL, body bytea NOT NULL, expiry timestamptz,
  PRIMARY KEY (serial_number, authority_key_identifier));
"""
SIGNING = {
    "expiry": "2160h",
    "usages": ["digital signature", "server auth"],
    "issuer_urls": ["http://localhost:8080/issuers/bench.der"],
}


class Cfssl:
    """A running `cfssl serve`; `stored`: with the PostgreSQL store, on the same core."""

    def __init__(self, stored: bool) -> None:
        self.stored, self.name = stored, "cfssl serve + PostgreSQL" if stored else "cfssl serve, nothing stored"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._postgres = stack.enter_context(Postgres()) if self.stored else None
            port = free_port()
            self._server = stack.enter_context(Server("cfssl", [*self._command(port), *self._store()], port, cwd=paths.work()))
            self._stop = stack.pop_all()
        bodies = inputs.bodies("cfssl", lambda wanted: {"certificate_request": wanted.csr})
        pattern = '"certificate":"([^"]+)"'
        self.post = load.Post(f"http://127.0.0.1:{port}/api/v1/cfssl/sign", bodies, pattern, {})
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.close()

    def _command(self, port: int) -> list[str | Path | int]:
        certificate, key = inputs.peer_ca()
        configuration = paths.work() / "cfssl.json"
        configuration.write_text(json.dumps({"signing": {"default": SIGNING}}))
        return ["cfssl", "serve", "-port", port, "-ca", certificate, "-ca-key", key, "-config", configuration, "-loglevel", 5]

    def _store(self) -> list[str | Path]:
        if not self._postgres:
            return []
        self._postgres.create("cfssl")
        with self._postgres.connect("cfssl") as connection:
            connection.execute(TABLES)
        source = f"host=127.0.0.1 port={self._postgres.port} user=quicklime dbname=cfssl sslmode=disable"
        file = paths.work() / "cfssl-db.json"
        file.write_text(json.dumps({"driver": "postgres", "data_source": source}))
        return ["-db-config", file]

    @property
    def measured(self) -> list[Server]:
        """Every server, for a Meter."""
        return [self._server, self._postgres] if self._postgres else [self._server]

    def client(self) -> Client:
        """A connection to it."""
        return Client(self.post.url)

    def facts(self) -> dict[str, str]:
        """Versions."""
        facts = {"cfssl": install.package_version("golang-cfssl")}
        return {**facts, "PostgreSQL": self._postgres.facts()} if self._postgres else facts

    def run(self, connections: int, seconds: int) -> Row:
        """One run of load; every answered certificate is looked up in the store."""
        with Meter(self.measured) as meter:
            done = load.run(self.post, connections, seconds)
        made = len(done.captured)
        row = {"per_second": made / done.seconds, "p50_ms": done.p50_ms, "p99_ms": done.p99_ms, "answered": made, "refused": done.refused}
        return {**row, "stored": self.count(done.captured), **cpu_columns(meter.usage, made)}

    def count(self, certificates: list[str]) -> int | None:
        """How many of the answered certificates (PEM as JSON spells it) are in the store; None where there is none."""
        if not self._postgres:
            return None
        serials = {str(x509.load_pem_x509_certificate(json.loads(f'"{pem}"').encode()).serial_number).encode() for pem in certificates}
        with self._postgres.connect("cfssl") as connection:
            found = connection.execute("SELECT count(*) FROM certificates WHERE serial_number = ANY(%s)", [list(serials)]).fetchone()
        return int(found[0]) if found else 0
