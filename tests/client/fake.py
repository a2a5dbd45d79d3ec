"""A server as docs say Quicklime's is, over TLS, with faults on order.

Owns a root, an intermediate and what it has issued, in memory. Shares no code with the client: proofs are checked here as
interface.md writes them down. Every door that a test may want to break is an attribute.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

TOKEN = "ql_test-token"
FOREVER = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC))
Body = dict[str, Any]
Reply = tuple[int, Body, dict[str, str]]


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def b64(raw: bytes) -> str:
    return b64encode(raw).decode()


class Authority:
    """A root, an intermediate, and what they sign."""

    def __init__(self, name: str = "fake") -> None:
        self.root_key, self.key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self.root = self._ca(f"{name} root", self.root_key.public_key(), f"{name} root", self.root_key)
        self.intermediate = self._ca(f"{name} issuing", self.key.public_key(), f"{name} root", self.root_key)

    def _ca(self, subject: str, key: ec.EllipticCurvePublicKey, issuer: str, signer: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        builder = _builder(subject, key, issuer, signer, *FOREVER)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).add_extension(usage, critical=True)
        return builder.sign(signer, hashes.SHA256())

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(_point(self.key.public_key())).digest()[:20]

    def leaf(self, public: Any, names: x509.SubjectAlternativeName, begin: datetime, end: datetime) -> x509.Certificate:
        issuer = self.intermediate.subject.rfc4514_string().removeprefix("CN=")
        builder = _builder("", public, issuer, self.key, begin, end)
        builder = builder.add_extension(names, critical=True)
        usage = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH])
        return builder.add_extension(usage, critical=False).sign(self.key, hashes.SHA256())


def _point(key: Any) -> bytes:
    raw: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return raw


def _builder(subject: str, key: Any, issuer: str, signer: Any, begin: datetime, end: datetime) -> x509.CertificateBuilder:
    aki = x509.AuthorityKeyIdentifier(hashlib.sha256(_point(signer.public_key())).digest()[:20], None, None)
    return (
        x509.CertificateBuilder(_name(issuer), _name(subject), key, x509.random_serial_number(), begin, end)
        .add_extension(aki, critical=False)
        .add_extension(x509.SubjectKeyIdentifier(hashlib.sha256(_point(key)).digest()[:20]), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)] if text else [])


@dataclass
class Certificate:
    leaf: x509.Certificate
    challenge: bytes
    secret: str
    body: Body
    replaces: str | None = None
    replaced_by: str | None = None
    reason: str | None = None

    @property
    def serial(self) -> str:
        return f"{self.leaf.serial_number:040x}"


@dataclass
class Fake:
    """`before` and `after` are called with (method, path) before and after an order is carried out: raise Drop to end the
    connection there, Say to answer something else."""

    authority: Authority = field(default_factory=Authority)
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    life: timedelta = timedelta(days=90)
    undecided: int = 0  # answers "pending" before the next certificate is there
    rejection: Body | None = None  # of stored requests
    renewal_refusal: tuple[int, str] | None = None
    certificates: dict[str, Certificate] = field(default_factory=dict)
    requests: dict[str, Body] = field(default_factory=dict)
    keyed: dict[str, tuple[str, str]] = field(default_factory=dict)
    words: list[tuple[str, str | None, str]] = field(default_factory=list)  # (serial, served, time) of check-ins
    replace_by: str | None = None
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    before: Callable[[str, str], None] = lambda method, path: None
    after: Callable[[str, str], None] = lambda method, path: None
    shown: Callable[[Body], Body] = lambda body: body
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    @property
    def fingerprint(self) -> str:
        return self.authority.root.fingerprint(hashes.SHA256()).hex()

    # --- answers

    def answer(self, method: str, path: str, headers: dict[str, str], raw: bytes) -> Reply:
        with self.lock:
            self.seen.append((method, path, headers))
            parts = path.removeprefix("/api/v1/").strip("/").split("/")
            match method, parts:
                case "GET", ["roots", digest]:
                    return 200, {"pem": pem(self.authority.root)}, {} if digest == self.fingerprint else {"missing": "1"}
                case "GET", ["issuers"]:
                    return 200, {"results": []}, {}
                case "POST", ["certificates"]:
                    return self._guarded(headers) or self._submit(None, raw, headers)
                case "POST", ["certificates", serial, "renew"]:
                    return without_secret(self._renew(serial, raw, headers), headers)
                case "POST", ["certificates", serial, "revoke"]:
                    return self._revoke(serial, json.loads(raw))
                case "POST", ["certificates", serial, "checkin"]:
                    return self._check_in(serial, json.loads(raw))
        return problem(404, "notFound", "nothing is here")

    def _guarded(self, headers: dict[str, str]) -> Reply | None:
        return None if headers.get("authorization") == f"Bearer {TOKEN}" else problem(401, "tokenInvalid", "the token is unknown")

    def _repeated(self, raw: bytes, headers: dict[str, str]) -> Reply | None:
        key = headers.get("idempotency-key", "")
        if key not in self.keyed:
            return None
        digest, request = self.keyed[key]
        if digest != hashlib.sha256(raw).hexdigest():
            return problem(422, "idempotencyMismatch", "used before with another body")
        return self._request(request)

    def _submit(self, replaces: str | None, raw: bytes, headers: dict[str, str]) -> Reply:
        repeated = self._repeated(raw, headers)
        if repeated:
            return repeated
        body = json.loads(raw)
        csr = x509.load_pem_x509_csr(body["csr"].encode())
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if any("forbidden" in name for name in names.get_values_for_type(x509.DNSName)):
            return problem(422, "nameForbidden", "the token does not permit it")
        request = str(uuid4())
        self.keyed[headers.get("idempotency-key", "")] = hashlib.sha256(raw).hexdigest(), request
        self.requests[request] = {"id": request, "csr": csr, "names": names, "body": body, "replaces": replaces, "left": self.undecided}
        return self._request(request)

    def _request(self, request: str) -> Reply:
        row = self.requests[request]
        place = {"Location": f"/api/v1/requests/{request}/"}
        if self.rejection:
            return problem(422, self.rejection["code"], self.rejection["detail"], place)
        if row["left"]:
            row["left"] -= 1
            return 202, {"id": request, "status": "pending", "certificate": None, "error": None}, {"Retry-After": "1", **place}
        row.setdefault("serial", None)
        row["serial"] = row["serial"] or self._issue(row)
        return 201, {"id": request, "status": "issued", "certificate": self._object(row["serial"]), "error": None}, {}

    def _issue(self, row: Body) -> str:
        leaf = self.authority.leaf(row["csr"].public_key(), row["names"], self.now, self.now + self.life - timedelta(seconds=1))
        made = Certificate(
            leaf, hashlib.sha256(str(leaf.serial_number).encode()).digest(), f"secret-{uuid4()}", row["body"], row["replaces"]
        )
        self.certificates[made.serial] = made
        if made.replaces:
            self.certificates[made.replaces].replaced_by = made.serial
        return made.serial

    def _object(self, serial: str) -> Body:
        made = self.certificates[serial]
        return self.shown({
            "serial": serial, "pem": pem(made.leaf), "chain": pem(self.authority.intermediate), "replaces": made.replaces,
            "renewal_challenge": b64(made.challenge), "revocation_secret": made.secret, "status": "revoked" if made.reason else "active",
        })  # fmt: skip

    def _renew(self, serial: str, raw: bytes, headers: dict[str, str]) -> Reply:
        """interface.md: a signature over quicklime-renewal-v1 0x00, issuer key id, serial, challenge, SHA-256 of the CSR."""
        if "authorization" in headers and self._guarded(headers):
            return problem(401, "tokenInvalid", "the token is unknown")
        repeated = self._repeated(raw, headers)
        if repeated:
            return repeated
        if self.renewal_refusal:
            return problem(*self.renewal_refusal, "not now")
        old, body = self.certificates.get(serial), json.loads(raw)
        if old is None or old.reason:
            return problem(404, "notFound", "nothing is here")
        digest = hashlib.sha256(x509.load_pem_x509_csr(body["csr"].encode()).public_bytes(Encoding.DER)).digest()
        statement = b"quicklime-renewal-v1\x00" + self.authority.key_id + int(serial, 16).to_bytes(20, "big") + old.challenge + digest
        if set(body) != {"csr", "proof"} or not verifies(old.leaf.public_key(), b64decode(body["proof"]), statement):
            return problem(403, "proofInvalid", "the proof does not fit")
        if old.replaced_by:
            return problem(409, "alreadyRenewed", "it was renewed before")
        return self._submit(serial, raw, headers)

    def _revoke(self, serial: str, body: Body) -> Reply:
        found = self.certificates.get(serial)
        if found is None or not self._entitled(found, serial, body):
            return problem(403, "notEntitled", "this does not entitle to revoke it")
        found.reason = found.reason or body["reason"]
        return 200, self._object(serial), {}

    def _check_in(self, serial: str, body: Body) -> Reply:
        """docs/operations.md: a signature over quicklime-checkin-v1 0x00, issuer key id, serial, time and served as sent."""
        found = self.certificates.get(serial)
        said = (body["time"] + (body["served"] or "")).encode()
        statement = b"quicklime-checkin-v1\x00" + self.authority.key_id + int(serial, 16).to_bytes(20, "big") + said
        if (
            found is None
            or set(body) != {"served", "time", "proof"}
            or not verifies(found.leaf.public_key(), b64decode(body["proof"]), statement)
        ):
            return problem(403, "notEntitled", "the proof does not fit")
        self.words.append((found.serial, body["served"], body["time"]))
        status = "revoked" if found.reason else "active"
        revoked_at = "2030-03-01T00:00:00Z" if found.reason else None
        told = {
            "serial": serial,
            "status": status,
            "revoked_at": revoked_at,
            "replaced_by": found.replaced_by,
            "replace_by": self.replace_by,
        }
        return 200, told, {}

    def _entitled(self, found: Certificate, serial: str, body: Body) -> bool:
        if "secret" in body:
            return bool(body["secret"] == found.secret)
        statement = b"quicklime-revocation-v1\x00" + self.authority.key_id + int(serial, 16).to_bytes(20, "big") + body["reason"].encode()
        return verifies(found.leaf.public_key(), b64decode(body["proof"]), statement)


def without_secret(reply: Reply, headers: dict[str, str]) -> Reply:
    """The revocation secret is for the token that requested the certificate."""
    if "authorization" not in headers and reply[1].get("certificate"):
        del reply[1]["certificate"]["revocation_secret"]
    return reply


class Drop(Exception):
    """Ends the connection without an answer."""


class Say(Exception):
    """Another answer: status, content type, body, headers."""

    def __init__(self, status: int, kind: str, body: bytes, **headers: str) -> None:
        self.status, self.kind, self.body, self.headers = status, kind, body, headers


def problem(status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> Reply:
    return status, {"type": "about:blank", "title": code, "status": status, "detail": detail, "code": code, "errors": []}, headers or {}


def verifies(key: Any, signature: bytes, statement: bytes) -> bool:
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, statement, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, statement, padding.PKCS1v15(), hashes.SHA256())
        else:
            key.verify(signature, statement)
    except InvalidSignature:
        return False
    return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up; that is what some tests are about."""


@contextmanager
def serving(fake: Fake, directory: Path, trusted: Authority | None = None) -> Iterator[Fake]:
    """Have `fake` answer on a port of its own; its TLS certificate is by `trusted`, itself by default."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            headers = {name.lower(): text for name, text in self.headers.items()}
            raw = self.rfile.read(int(headers.get("content-length", 0)))
            try:
                fake.before(self.command, self.path)
                status, body, more = fake.answer(self.command, self.path, headers, raw)
                fake.after(self.command, self.path)
            except Say as say:
                return self._send(say.status, say.kind, say.body, say.headers)
            except Drop:
                self.close_connection = True
                return None
            if "pem" in body and "serial" not in body:
                return self._send(404 if more else 200, "application/pem-certificate-chain", body["pem"].encode(), {})
            kind = "application/problem+json" if status >= 400 else "application/json"
            return self._send(status, kind, json.dumps(body).encode(), more)

        do_GET = do_POST = _serve

        def _send(self, status: int, kind: str, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, text in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), text)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    server.socket = tls(directory, trusted or fake.authority).wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    fake.url = f"https://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def tls(directory: Path, authority: Authority) -> ssl.SSLContext:
    """A server's context with a certificate for 127.0.0.1 and localhost."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost")])
    chain = pem(authority.leaf(key.public_key(), names, *FOREVER)) + pem(authority.intermediate)
    path = directory / f"tls-{time.monotonic_ns()}.pem"
    path.write_text(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode() + chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
