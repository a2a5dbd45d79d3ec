"""OCSP requests, how wrk sends them, and whether the answers to them are right."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import new as digest_of
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp

from benchmarks import paths
from benchmarks.failure import Failed
from benchmarks.machine import LOAD_CORE

GET, POST = "GET", "POST"
SAMPLE = 200  # answers that are looked at before and after each run
_SIZES_AGREE = 0.02  # how far the mean answer under load may be from that of the sample, which is known to be right
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)


@dataclass(frozen=True)
class Answer:
    """What came back: `size` is that of header and body, `header` lower case."""

    status: int
    header: bytes
    body: bytes
    size: int


Judge = Callable[[bytes, Answer], str | None]  # (request, answer) → what is wrong with it


class Asker:
    """One keep-alive connection, made anew when the server closed it: `with Asker(port) as asker: asker.ask(message)`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None

    def ask(self, message: bytes) -> Answer:
        """The answer to a whole HTTP request. Raises OSError if there is none."""
        try:
            connection = self._socket = self._socket or socket.create_connection(("127.0.0.1", self._port), timeout=30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(message)
            answer = self._read(connection)
        except OSError:
            self.__exit__()
            raise
        if b"\r\nconnection: close" in answer.header:
            self.__exit__()
        return answer

    def _read(self, connection: socket.socket) -> Answer:
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more(connection)
        header, start = received[:end].lower(), end + 4
        if b"\r\ntransfer-encoding: chunked" in header:
            while not received.endswith(b"\r\n0\r\n\r\n"):
                received += self._more(connection)
            body = _unchunked(received[start:])
        else:
            found = _CONTENT_LENGTH.search(header)
            size = start + (int(found[1]) if found else 0)
            while len(received) < size:
                received += self._more(connection)
            body = received[start:]
        return Answer(int(received[9:12]), header, body, len(received))

    def _more(self, connection: socket.socket) -> bytes:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError("the responder closed the connection without an answer")
        return more


def _unchunked(chunks: bytes) -> bytes:
    """The body that came in chunks (RFC 9112 §7.1)."""
    body = b""
    while True:
        length, rest = chunks.split(b"\r\n", 1)
        size = int(length, 16)
        if not size:
            return body
        body, chunks = body + rest[:size], rest[size + 2 :]


@dataclass(frozen=True)
class Questions:
    """`requests` (DER, or what pretends to be) for a responder at `path`; `wrong` judges its answers. `refused`: whether they
    may be 4xx. `close`: each asks for the end of its connection."""

    path: str
    requests: Sequence[bytes]
    wrong: Judge
    refused: bool = False
    close: bool = False

    def write(self, method: str) -> Path:
        """The file that ask.lua reads: all of them, shuffled."""
        file = paths.work() / "ocsp-requests.txt"
        with file.open("w") as output:
            output.writelines(self._line(method, request) for request in random.sample(self.requests, len(self.requests)))
        return file

    def _line(self, method: str, request: bytes) -> str:
        return f"GET {_get(self.path, request)}\n" if method == GET else f"POST {self.path} {request.hex()}\n"

    def sample(self, method: str, port: int) -> float:
        """Ask SAMPLE of them: the mean size of the answers. Raises Failed at the first one that is wrong."""
        sizes = []
        with Asker(port) as asker:
            for request in random.sample(self.requests, min(SAMPLE, len(self.requests))):
                answer = asker.ask(message(self.path, method, request, self.close))
                if complaint := self.wrong(request, answer):
                    raise Failed(f"{method} {self.path}: a wrong answer: {complaint} (request {request[:200].hex()})")
                sizes.append(answer.size)
        return sum(sizes) / len(sizes)

    def check(self, done: Asked, size: float) -> None:
        """Raises Failed unless all were answered under load, with answers as long as those of the sample on average."""
        mean = done.bytes / max(done.answers, 1)
        if done.failed or (done.refused and not self.refused) or abs(mean / size - 1) > _SIZES_AGREE:
            text = f"{done.refused} refused and {done.failed} failed of {done.answers}"
            raise Failed(f"under load: {text}, {mean:.0f} bytes each where right answers have {size:.0f}")


def message(path: str, method: str, request: bytes, close: bool = False) -> bytes:
    """A whole HTTP request for a responder at `path`; `close`: the connection's last."""
    header = "Host: localhost\r\n" + "Connection: close\r\n" * close
    if method == GET:
        return f"GET {_get(path, request)} HTTP/1.1\r\n{header}\r\n".encode()
    header += f"Content-Type: application/ocsp-request\r\nContent-Length: {len(request)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{header}\r\n".encode() + request


def _get(path: str, request: bytes) -> str:
    """The path of a GET (RFC 6960 §A.1)."""
    return f"{path.rstrip('/')}/{quote(b64encode(request), safe='')}"


@dataclass(frozen=True)
class Ready:
    """Signed answers of one issuer: DER request → DER response."""

    issuer: x509.Certificate
    answers: Mapping[bytes, bytes]

    def questions(self, path: str) -> Questions:
        """All of them, for a responder at `path` that must say good."""
        return Questions(path, list(self.answers), good(self.issuer))


# --- requests


def about(issuer: x509.Certificate, serials: Iterable[int], digest: hashes.HashAlgorithm) -> list[bytes]:
    """A request for each serial, in their order."""
    name, key = (digest_of(digest.name, part).digest() for part in (issuer.subject.public_bytes(), _key_bits(issuer)))
    return [_request(name, key, serial, digest) for serial in serials]


def unknown_issuers(count: int) -> list[bytes]:
    """Requests about issuers that nobody is."""
    return [_request(os.urandom(20), os.urandom(20), _serial(), hashes.SHA1()) for _ in range(count)]


def unknown_serials(issuer: x509.Certificate, count: int) -> list[bytes]:
    """Requests about certificates that were never issued."""
    return about(issuer, (_serial() for _ in range(count)), hashes.SHA1())


def noise(count: int, size: int) -> list[bytes]:
    """Bytes that are no request, `size` of them each."""
    return [os.urandom(size) for _ in range(count)]


def _request(name: bytes, key: bytes, serial: int, digest: hashes.HashAlgorithm) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(name, key, serial, digest)
    return builder.build().public_bytes(serialization.Encoding.DER)


def _serial() -> int:
    return random.randrange(1 << 152, 1 << 159)  # as long as those of Quicklime


def _key_bits(issuer: x509.Certificate) -> bytes:
    """The contents of the issuer's subjectPublicKey, which CertIDs hash. Only for EC keys."""
    return issuer.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


# --- answers


def good(issuer: x509.Certificate) -> Judge:
    """Judges answers that must say good, of exactly the CertID that was asked, now, signed under `issuer`."""
    return lambda request, answer: _not_answered(answer) or _unreadable(answer) or _not_good(issuer, request, answer.body)


def refuses(*statuses: ocsp.OCSPResponseStatus) -> Judge:
    """Judges answers that must be one of these OCSP errors."""

    def wrong(_: bytes, answer: Answer) -> str | None:
        if complaint := _not_answered(answer) or _unreadable(answer):
            return complaint
        status = ocsp.load_der_ocsp_response(answer.body).response_status
        return None if status in statuses else f"{status}"

    return wrong


def turns_away(_: bytes, answer: Answer) -> str | None:
    """Judges answers that must be an OCSP error or a 4xx: never a success, never a 5xx."""
    if 400 <= answer.status < 500:
        return None
    return _not_answered(answer) or refuses(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)(b"", answer)


def status(answer: Answer) -> ocsp.OCSPCertStatus | ocsp.OCSPResponseStatus:
    """What the answer says of the certificate, or which OCSP error it is."""
    response = ocsp.load_der_ocsp_response(answer.body)
    successful = response.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    return response.certificate_status if successful else response.response_status


def _not_answered(answer: Answer) -> str | None:
    if answer.status != 200 or b"\r\ncontent-type: application/ocsp-response" not in answer.header:
        return f"HTTP {answer.status}: {answer.header!r}"
    return None


def _unreadable(answer: Answer) -> str | None:
    try:
        ocsp.load_der_ocsp_response(answer.body)
    except ValueError as error:
        return f"no OCSP response: {error}"
    return None


def _not_good(issuer: x509.Certificate, request: bytes, body: bytes) -> str | None:
    asked, response = ocsp.load_der_ocsp_request(request), ocsp.load_der_ocsp_response(body)
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return f"{response.response_status}"
    if _cert_id(asked) != _cert_id(response):
        return "it is about another certificate"
    if response.certificate_status is not ocsp.OCSPCertStatus.GOOD:
        return f"{response.certificate_status}"
    now = datetime.now(UTC)
    if not response.this_update_utc <= now <= (response.next_update_utc or now):
        return f"valid from {response.this_update_utc} to {response.next_update_utc}"
    return None if _signed(issuer, response) else "its signature is not the issuer's, nor that of its delegate"


def _cert_id(it: ocsp.OCSPRequest | ocsp.OCSPResponse) -> tuple[Any, ...]:
    return it.hash_algorithm.name, it.issuer_name_hash, it.issuer_key_hash, it.serial_number


def _signed(issuer: x509.Certificate, response: ocsp.OCSPResponse) -> bool:
    signer = response.certificates[0] if response.certificates else issuer
    try:
        if signer is not issuer:
            signer.verify_directly_issued_by(issuer)
        scheme = ec.ECDSA(response.signature_hash_algorithm or hashes.SHA256())
        signer.public_key().verify(response.signature, response.tbs_response_bytes, scheme)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


# --- load


@dataclass(frozen=True)
class Asked:
    """One run of load: answers of any kind and their bytes, latencies in ms, `refused` those with a status of 400 or more,
    `failed` connections that broke or timed out."""

    seconds: float
    answers: int
    bytes: int
    p50_ms: float
    p99_ms: float
    refused: int
    failed: int


def command(port: int, connections: int, seconds: int) -> list[str]:
    """wrk on the load's core."""
    load = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    return [*load, "-s", str(paths.HERE / "ask.lua"), f"http://127.0.0.1:{port}/"]


def environment(requests: Path, **options: object) -> dict[str, str]:
    """What ask.lua reads; `options` pause_ms and close."""
    return {**os.environ, "BENCH_REQUESTS": str(requests), **{f"BENCH_{name.upper()}": str(value) for name, value in options.items()}}


def load(requests: Path, port: int, connections: int, seconds: int, close: bool = False) -> Asked:
    """Ask over so many connections, each its next question as soon as it has its answer."""
    variables = environment(requests, close=1) if close else environment(requests)
    done = subprocess.run(command(port, connections, seconds), env=variables, capture_output=True, text=True, check=True)
    return parsed(done.stdout)


def parsed(report: str) -> Asked:
    """What ask.lua said at its end."""
    last = report.strip().rsplit("\n", 1)[-1]
    if not last.startswith("{"):
        raise Failed(f"wrk said:\n{report}")
    return Asked(**json.loads(last))
