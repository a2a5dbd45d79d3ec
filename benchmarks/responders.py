"""The peers that sign or store OCSP answers: `cfssl ocspserve` and django-ca.

Like Nginx and quicklime's, each is a context manager with `title`, `methods`, `port`, `measured`, `questions` and `facts()`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64encode
from contextlib import ExitStack
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from benchmarks import install, paths
from benchmarks.asking import GET, POST, Questions, Ready, about, good
from benchmarks.djangoca import DjangoCA
from benchmarks.machine import SERVER_CORE, Meter
from benchmarks.results import Row
from benchmarks.servers import Postgres, Redis, Server, free_port


class CfsslResponder(Server):
    """`cfssl ocspserve` with the same answers in a file. POST only: Debian's version answers 400 to every GET of RFC 6960."""

    title = "cfssl ocspserve"
    methods = (POST,)

    def __init__(self, ready: Ready) -> None:
        self._same, self.questions = ready, ready.questions("/")
        self._file = paths.work() / "cfssl-responses.txt"
        port = free_port()
        command = ["cfssl", "ocspserve", "-address", "127.0.0.1", "-port", port, "-responses", self._file, "-loglevel", 5]
        super().__init__("cfssl ocspserve", command, port, cwd=paths.work())

    def __enter__(self) -> Self:
        self._file.write_bytes(b"".join(b64encode(answer) + b"\n" for answer in self._same.answers.values()))
        return super().__enter__()

    @property
    def measured(self) -> list[Server]:
        """Every server, for a Meter."""
        return [self]

    def facts(self) -> dict[str, str]:
        """Version."""
        return {"cfssl": install.package_version("golang-cfssl")}


class DjangoCAResponder(DjangoCA):
    """django-ca's OCSP view, pre-signed: its answers are in Django's Redis cache, SHA-256 CertIDs only. Of CERTIFICATES
    certificates, since making more takes it minutes; a smaller cache is in its favour."""

    title = "django-ca, pre-signed"
    methods = (GET, POST)
    CERTIFICATES = 1000

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._postgres, self._redis = stack.enter_context(Postgres()), stack.enter_context(Redis())
            self._environment = self._settings()
            serial = self._prepare()
            self._environment["BENCH_PRESIGNED"] = "1"  # not before: with it init_ca refuses to make a root
            self._web = self._start_web(stack)
            self.port = self._web.port
            self.questions, self.presigned = self._presign(f"/django_ca/ocsp/{serial}/cert/")
            self._stop = stack.pop_all()
        return self

    def _prepare(self) -> str:
        shutil.rmtree(paths.work() / "djangoca-files", ignore_errors=True)
        return super()._prepare()

    def _presign(self, path: str) -> tuple[Questions, Row]:
        file = paths.work() / "djangoca-ocsp.json"
        script = paths.HERE / "djangoca_site" / "bench_presign.py"
        command = ["taskset", "-c", str(SERVER_CORE), install.django_ca_bin() / "python", script, str(self.CERTIFICATES), file]
        with Meter([self._postgres, self._redis]) as meter:
            done = subprocess.run(command, check=True, env=self._environment, cwd=paths.work(), stdout=subprocess.PIPE, text=True)
        made = json.loads(file.read_text())
        ca = x509.load_pem_x509_certificate(made["ca"].encode())
        requests = about(ca, (int(serial, 16) for serial in made["serials"]), hashes.SHA256())
        row = {"per_second": self.CERTIFICATES / json.loads(done.stdout)["seconds"], "foreign_cores": meter.usage.foreign}
        return Questions(path, requests, good(ca)), row

    def _running(self) -> dict[str, str]:
        return self._environment

    @property
    def measured(self) -> list[Server]:
        """Every server, for a Meter."""
        return [self._web, self._postgres, self._redis]
