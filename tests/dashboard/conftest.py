"""Certificates to watch, issued and renewed by the pipeline in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from ca import issuance, pipeline, tokens
from ca.models import Certificate, Request, Token
from ca.pki import proofs
from tests.eventlog.conftest import _beside
from tests.material import csr, new_key

from .postoffice import PostOffice, opened
from .support import Issue, Renew

__all__ = ["_beside"]  # a fixture

EVERYTHING = tokens.Scope(actions=("issue", "read", "renew"), profiles=("*",), wildcards=True, ips=("*",))
_keys: dict[str, ec.EllipticCurvePrivateKey] = {}  # of what `issue` issued, by serial


@pytest.fixture
def token(hierarchy: None, now: datetime) -> Token:
    return Token.objects.get(id=tokens.create("test", "alice", EVERYTHING, now, by="test")[0])


@pytest.fixture
def issue(token: Token, run_pipeline: Callable[[], None]) -> Issue:
    """issue(*names, **of the submission): one certificate, in the log and in ca's tables."""

    def work(*names: str, **more: Any) -> Certificate:
        key = new_key()
        asked = pipeline.Submission(csr=csr(*(names or ("a.internal",)), key=key), **{"service": "payroll", "node": "n1"} | more)
        (request,) = pipeline.submit(token, [asked], datetime.now(UTC))
        assert isinstance(request, Request), request
        run_pipeline()
        certificate = Certificate.objects.get(request=request.id)
        _keys[certificate.serial] = key
        return certificate

    return work


@pytest.fixture
def renew(token: Token, run_pipeline: Callable[[], None]) -> Renew:
    """renew(certificate, *names): its successor, of other names if some are given."""

    def work(old: Certificate, *names: str) -> Certificate:
        key = new_key()
        new_csr = csr(*(names or (name.partition(":")[2] for name in old.names)), key=key)
        key_id = issuance.issuer_facts(old.issuer).key_id
        statement = proofs.renewal_statement(key_id, old.serial, bytes(old.renewal_challenge), sha256(new_csr).digest())
        proof = _keys[old.serial].sign(statement, ec.ECDSA(hashes.SHA256()))
        request = pipeline.renew(token, pipeline.Renewal(old.serial, new_csr, proof), datetime.now(UTC))
        assert isinstance(request, Request), request
        run_pipeline()
        certificate = Certificate.objects.get(request=request.id)
        _keys[certificate.serial] = key
        return certificate

    return work


@pytest.fixture
def office(settings: Any) -> Iterator[PostOffice]:
    """Mail goes to it, and by default to ops@example.org."""
    with opened() as found:
        settings.EMAIL, settings.MAIL_FROM, settings.MAIL_TO = found.server, "ca@example.org", ("ops@example.org",)
        yield found
