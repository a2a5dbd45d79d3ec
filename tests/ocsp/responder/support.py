"""What the responder's tests share: requests, raw HTTP, and the responder as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.parse
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

from asn1crypto import ocsp as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.ocsp import OCSPRequestBuilder

from tests.processes import ROOT, environment, eventually

SHA1, SHA256 = hashes.SHA1(), hashes.SHA256()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def request(certificate: x509.Certificate, issuer: x509.Certificate, algorithm: Any = SHA1, nonce: bytes = b"") -> bytes:
    """What another library asks."""
    builder = OCSPRequestBuilder().add_certificate(certificate, issuer, algorithm)
    if nonce:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def escaped(der: bytes) -> str:
    return "/ocsp/" + urllib.parse.quote(b64encode(der).decode(), safe="")


def status_of(body: bytes) -> str:
    """ "good", "revoked", or the OCSP error."""
    response = asn1.OCSPResponse.load(body, strict=True)
    if response["response_status"].native != "successful":
        return str(response["response_status"].native)
    (single,) = response.basic_ocsp_response["tbs_response_data"]["responses"]
    return str(single["cert_status"].name)


def cert_id(body: bytes) -> tuple[str, int]:
    (single,) = asn1.OCSPResponse.load(body, strict=True).basic_ocsp_response["tbs_response_data"]["responses"]
    return single["cert_id"]["hash_algorithm"]["algorithm"].native, single["cert_id"]["serial_number"].native


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Responder:
    """`python -m ocsp.responder` and what a client may do with it."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port, self.process, self._log = port, process, log

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        return self._log.read_text()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def post(self, der: bytes) -> Answer:
        return self.ask("POST", "/ocsp", der, Content_Type="application/ocsp-request")

    def get(self, der: bytes) -> Answer:
        return self.ask("GET", escaped(der))

    def status(self, der: bytes) -> str:
        return status_of(self.post(der).body)

    def listens(self) -> bool:
        try:
            return self.ask("GET", "/livez").status == 200
        except OSError:
            return False

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def children(self, of: int | None = None) -> list[int]:
        """The processes right below the master, or below another one."""
        pid = of or self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def servers(self) -> list[int]:
        return [server for generation in self.children() for server in self.children(generation)]


@contextmanager
def responder(directory: Path, processes: int = 1, **more: str) -> Iterator[Responder]:
    """One that listens, ended at the latest when the block ends."""
    port, log = free_port(), directory / "responder.log"
    command = [sys.executable, "-W", "ignore", "-m", "ocsp.responder", "--bind", f"127.0.0.1:{port}", "--processes", str(processes)]
    with log.open("ab") as out:
        process = subprocess.Popen(command, env=environment(QUICKLIME_ROLE="web", **more), cwd=ROOT, stdout=out, stderr=out)
    running = Responder(port, process, log)
    try:
        eventually(lambda: running.listens() or process.poll() is not None)
        assert process.poll() is None, running.said
        yield running
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
