"""`python -m benchmarks.fill KIND COUNT [SERVICE]`: append COUNT events to the log of Quicklime's settings; prints {"seconds"}.

Runs as a process of its own on the servers' core: 256 events to a commit, each commit with tree and signed checkpoint.
KIND "issued": certificate.issued with names, hashes and a certificate of the usual size, which ca's projection makes
rows of in the same commit. The certificates are made up: one signed by a throw-away key, its serial number replaced.
They are of SERVICE, or of a thousand services.
KIND "generations": the same, of SERVICE alone: NODES nodes one after another, then again, each its own successor.
KIND "revoked": certificate.revoked, of certificates that are not revoked yet.
KIND "rejected": request.rejected, of which no projection makes anything. Making events is not timed.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import django
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

BATCH = 256
_TEMPLATE_SERIAL = int.from_bytes(b"\x5a" * 20)
NODES = 1_000
_DAYS = 90


def main(kind: str, count: int, service: str = "") -> None:
    """Append and report."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quicklime_site.settings")
    django.setup()
    from django.db import transaction

    from ca import keys
    from eventlog import append

    make: dict[str, Callable] = {
        "issued": lambda: _issued(count, service),
        "generations": lambda: _generations(count, service),
        "revoked": lambda: _revoked(count),
        "rejected": lambda: _rejected(count),
    }
    sign, events, seconds = keys.log_signer(), make[kind](), 0.0
    while batch := list(islice(events, BATCH)):
        begun = time.perf_counter()
        with transaction.atomic():
            append.append([event.new() for event in batch], datetime.now(UTC), sign)
        seconds += time.perf_counter() - begun
    print(json.dumps({"seconds": seconds}))


def _issued(count: int, service: str) -> Iterator:
    template, now = _template(), datetime.now(UTC)
    for number in range(count):
        yield _certificate(template, number, service or f"service{number % 1000}", now)


def _generations(count: int, service: str) -> Iterator:
    template, now, newest = _template(), datetime.now(UTC), {}
    for number in range(count):
        node = number % NODES
        event = _certificate(template, node, service, now, newest.get(node))
        newest[node] = event.serial
        yield event


def _certificate(template: bytes, number: int, service: str, now: datetime, replaces: str | None = None):
    from ca.events import CertificateIssued

    serial = f"{random.randrange(1 << 152, 1 << 159):040x}"  # 20 octets, spread as real ones are
    der = template.replace(_TEMPLATE_SERIAL.to_bytes(20), bytes.fromhex(serial), 1)
    return CertificateIssued(
        serial=serial,
        issuer="issuing-1",
        request=str(uuid.uuid4()),
        token="benchmark",
        owner="operator",
        profile="server",
        service=service,
        node=f"node{number % 50_000}",
        names=[f"dns:node{number}.bench.internal"],
        not_before=_rfc3339(now),
        not_after=_rfc3339(now + timedelta(days=1 + number % _DAYS)),
        key_type="P-256",
        spki_sha256=os.urandom(32).hex(),
        certificate=b64encode(der).decode(),
        renewal_challenge=b64encode(os.urandom(32)).decode(),
        revocation_secret_hash=os.urandom(32).hex(),
        replaces=replaces,
        crl_shard=None,
        challenge_password_hash=None,
        renew_by=_rfc3339(now + timedelta(days=1 + number % _DAYS) * 5 / 6),
    )


def _revoked(count: int) -> Iterator:
    from ca.events import CertificateRevoked
    from ca.models import Certificate

    rows = Certificate.objects.filter(issuer="issuing-1", revoked_at=None).values_list("serial", flat=True).order_by("serial")
    for serial in rows[:count]:
        yield CertificateRevoked(serial=serial, issuer="issuing-1", reason="superseded", way="operator", by="benchmark", order=None)


def _rejected(count: int) -> Iterator:
    from ca.events import RequestRejected

    for number in range(count):
        detail = f"node{number}.elsewhere.example lies in no zone of this CA"
        yield RequestRejected(str(uuid.uuid4()), "benchmark", "operator", "nameNotAllowed", detail, "names")


def _rfc3339(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _template() -> bytes:
    """DER of a certificate like those that are issued."""
    key, now, name = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC), x509.NameAttribute(x509.NameOID.COMMON_NAME, "benchmark")
    subject, public = x509.Name([name]), key.public_key()
    builder = x509.CertificateBuilder(subject, subject, public, _TEMPLATE_SERIAL, now, now + timedelta(days=_DAYS))
    access = x509.AccessDescription(x509.AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://localhost:8080/"))
    extensions = (
        x509.SubjectAlternativeName([x509.DNSName("node12345.bench.internal")]),
        x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]),
        x509.SubjectKeyIdentifier.from_public_key(public),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(public),
        x509.AuthorityInformationAccess([access]),
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
