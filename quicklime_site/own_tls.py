"""The web server's own certificate: issued by Quicklime to itself, through the same pipeline as everybody's.

Owns STATE/tls/web.pem: key, leaf and intermediates in one file, replaced by one rename, so that no reader ever sees a key
beside another key's certificate. Must never sign, and never wait: `tend` looks once and returns.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ca import pipeline, tokens
from ca.errors import Problem
from ca.hierarchy import SELF
from ca.models import Certificate, Issuer, Request, State, Token
from ca.policy import NEVER

from . import files

LABEL = "the web server's own certificate"


class Refused(Exception):
    """The pipeline does not issue this certificate; the text says why."""


@dataclass
class OwnTLS:
    """Keeps `path` holding a certificate for `hosts` (DNS names and IP addresses)."""

    path: Path
    hosts: Sequence[str]
    _pending: tuple[ec.EllipticCurvePrivateKey, UUID] | None = field(default=None, repr=False)

    def tend(self, now: datetime) -> bool:
        """Ask for a certificate if one is due, take it if it is there. True while there is nothing left to do.
        Raises Refused, or django.db.Error when the database is away; either way the next call tries again."""
        if self._pending:
            return self._take(*self._pending)
        if not due(self.path, self.hosts, now):
            return True
        key = ec.generate_private_key(ec.SECP256R1())
        self._pending = key, _submit(signing_request(key, self.hosts), self.hosts, now)
        return False

    def _take(self, key: ec.EllipticCurvePrivateKey, request_id: UUID) -> bool:
        request = Request.objects.get(id=request_id)
        if request.state == State.REJECTED:
            self._pending = None
            raise Refused(f"{request.error}")
        if request.state != State.ISSUED:
            return False
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        certificate = Certificate.objects.get(request=request_id)
        files.write(self.path, _key_pem(key) + b"".join(chain(certificate)))
        self._pending = None
        return True


def due(path: Path, hosts: Sequence[str], now: datetime) -> bool:
    """Whether `path` needs another certificate: none there, other names, two thirds of its life over, or revoked."""
    try:
        leaf = x509.load_pem_x509_certificates(path.read_bytes())[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return True
    begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    unfit = set(names) != set(_general_names(hosts)) or not begin <= now < begin + (end - begin) * 2 / 3
    return unfit or Certificate.objects.filter(serial=f"{leaf.serial_number:040x}").exclude(revoked_at=None).exists()


def signing_request(key: ec.EllipticCurvePrivateKey, hosts: Sequence[str]) -> bytes:
    """A PKCS#10 request (DER) for `hosts`."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName(_general_names(hosts)), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def chain(certificate: Certificate) -> Iterator[bytes]:
    """The leaf and its intermediates as PEM, the root left out."""
    yield _pem(bytes(certificate.der))
    issuer = Issuer.objects.get(name=certificate.issuer)
    while issuer.parent is not None:
        yield _pem(bytes(issuer.certificate))
        issuer = Issuer.objects.get(name=issuer.parent)


def _submit(csr: bytes, hosts: Sequence[str], now: datetime) -> UUID:
    (answer,) = pipeline.submit(_token(hosts, now), [pipeline.Submission(csr=csr, service=SELF, node="web")], now)
    if isinstance(answer, Problem):
        raise Refused(str(answer))
    return answer.id


def _token(hosts: Sequence[str], now: datetime) -> Token:
    """The standing permission for just these names. Its secret is dropped unseen, so nobody else can ever use it."""
    names = [host for host in hosts if not _is_ip(host)]
    ips = [str(ipaddress.ip_network(host)) for host in hosts if _is_ip(host)]
    live = Token.objects.filter(owner=SELF, label=LABEL, revoked_at=None)
    for token in live:
        if (token.names, token.ips) == (names, ips):
            return token
        tokens.revoke(token.id, now, by=SELF, why="the web server has other names now")
    scope = tokens.Scope(actions=("issue",), names=names, profiles=("server",), services=(SELF,), ips=ips, approval=NEVER)
    token_id, _ = tokens.create(LABEL, SELF, scope, now, by=SELF)
    return Token.objects.get(id=token_id)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _general_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    return [x509.IPAddress(ipaddress.ip_address(host)) if _is_ip(host) else x509.DNSName(host) for host in hosts]


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
