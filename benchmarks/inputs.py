"""What the load sends: a pool of signing requests made once, the same for every system, and the peers' CA."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks import paths

POOL = 20_000
ZONE = "internal"


@dataclass(frozen=True)
class Wanted:
    """One request of the pool: a P-256 PKCS#10 in PEM for `host`, which is its CN and its only SAN."""

    number: int
    host: str
    csr: str


@cache
def pool() -> list[Wanted]:
    """The POOL requests, from the cache directory or made now."""
    file = paths.work() / f"csrs-{POOL}.jsonl"
    if not file.exists():
        print(f"making {POOL:,} signing requests", flush=True)
        lines = (json.dumps(_csr(_host(number))) + "\n" for number in range(POOL))
        part = file.with_suffix(".part")
        part.write_text("".join(lines))
        part.rename(file)
    return [Wanted(number, _host(number), json.loads(line)) for number, line in enumerate(file.read_text().splitlines())]


def _host(number: int) -> str:
    return f"node{number}.bench.{ZONE}"


def _csr(host: str) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(host))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def bodies(name: str, body: Callable[[Wanted], object]) -> Path:
    """A file with one JSON body a line, for load.Post."""
    file = paths.work() / f"bodies-{name}.jsonl"
    file.write_text("".join(json.dumps(body(wanted)) + "\n" for wanted in pool()))
    return file


def peer_ca() -> tuple[Path, Path]:
    """(certificate, key) PEM files of a P-256 CA for cfssl."""
    certificate, private = paths.work() / "peer-ca.pem", paths.work() / "peer-ca.key"
    if not certificate.exists():
        key, subject, now = ec.generate_private_key(ec.SECP256R1()), _name("benchmark"), datetime.now(UTC)
        builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=3650))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        traditional = serialization.PrivateFormat.TraditionalOpenSSL  # what cfssl reads
        private.write_bytes(key.private_bytes(serialization.Encoding.PEM, traditional, serialization.NoEncryption()))
        certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return certificate, private
