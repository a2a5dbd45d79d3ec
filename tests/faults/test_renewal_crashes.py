"""Kill -9 at each named point while a certificate is renewed: it has one successor in the end, or may be renewed again."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from django.db import connections

from ca import issuance, pipeline
from ca.errors import Problem
from ca.models import Certificate, Request, Token
from ca.pki import proofs
from tests import processes
from tests.material import csr, new_key

from .test_crashes import WEB_POINTS, WORKER_POINTS, finish, token  # noqa: F401 (a fixture)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def renewal(token: Token, now: datetime, run_pipeline: object) -> pipeline.Renewal:  # noqa: F811
    key = new_key()
    (request,) = pipeline.submit(token, [pipeline.Submission(csr=csr("a.internal", key=key))], now)
    assert isinstance(request, Request)
    run_pipeline()  # type: ignore[operator]
    return proven(Certificate.objects.get(), key)


def proven(old: Certificate, key: ec.EllipticCurvePrivateKey) -> pipeline.Renewal:
    der = csr("a.internal")
    key_id = issuance.issuer_facts(old.issuer).key_id
    statement = proofs.renewal_statement(key_id, old.serial, bytes(old.renewal_challenge), sha256(der).digest())
    return pipeline.Renewal(old.serial, der, key.sign(statement, ec.ECDSA(hashes.SHA256())), "k")


@pytest.mark.parametrize("point", WORKER_POINTS)
def test_a_worker_killed_at(point: str, renewal: pipeline.Renewal, now: datetime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with processes.worker(tmp_path / "worker.log", QUICKLIME_CRASH=point) as worker:
        pipeline.renew(None, renewal, now)
        assert worker.wait(30) == -9, (tmp_path / "worker.log").read_text()
    finish(tmp_path, monkeypatch, 2)
    _has_one_successor(renewal)


@pytest.mark.parametrize("point", WEB_POINTS)
def test_a_web_process_killed_at(point: str, renewal: pipeline.Renewal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"""
from datetime import UTC, datetime
from ca import pipeline
pipeline.renew(None, pipeline.{renewal!r}, datetime.now(UTC))
"""
    assert processes.run(code, QUICKLIME_CRASH=point).returncode == -9
    connections.close_all()
    assert isinstance(pipeline.renew(None, renewal, datetime.now(UTC)), Request), "the same call again is answered as the first"
    finish(tmp_path, monkeypatch, 2)
    _has_one_successor(renewal)


def _has_one_successor(renewal: pipeline.Renewal) -> None:
    assert Certificate.objects.filter(replaces=renewal.serial).count() == 1
    again = pipeline.renew(None, renewal, datetime.now(UTC))
    assert isinstance(again, Request)
    assert again.state == "issued"
    without_key = pipeline.Renewal(renewal.serial, renewal.csr, renewal.proof)
    assert isinstance(pipeline.renew(None, without_key, datetime.now(UTC)), Problem)
