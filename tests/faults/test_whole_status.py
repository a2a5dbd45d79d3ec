"""Certificate status in a running installation: who signs it, and beat away, whom nothing but the time waits for."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from cryptography.x509.ocsp import load_der_ocsp_response

from tests.material import many
from tests.processes import eventually

from .installation import BEAT, Client, Installation

pytestmark = pytest.mark.timeout(120)
A_DAY_LATER = """
from datetime import UTC, datetime, timedelta
from django.db.models import F
from django_celery_beat.models import PeriodicTask
from ocsp.models import Crl, Feed, Response
day = timedelta(days=1, minutes=5)
Feed.objects.update(revision=F("revision") + 1)
earlier = {name: F(name) - day for name in ("this_update", "next_update", "refresh_at")}
Response.objects.update(**earlier, revision=Feed.objects.get().revision)
Crl.objects.update(this_update=F("this_update") - day, next_update=F("next_update") - day, number=F("number") + 1)
PeriodicTask.objects.update(last_run_at=datetime.now(UTC) - day)
"""


@pytest.fixture
def client(installation: Installation) -> Iterator[Client]:
    with installation.client(f"service-{uuid4()}") as client:
        yield client


@pytest.fixture
def issued(client: Client) -> list[dict[str, Any]]:
    """Two certificates, as the API shows them."""
    return [client.submit(csr, f"{uuid4()}", wait=10).body["certificate"] for csr in many(2)]


@contextmanager
def without_beat(installation: Installation) -> Iterator[None]:
    """It is there, and schedules nothing."""
    (beat,) = installation.pids_of(BEAT)
    os.kill(beat, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(beat, signal.SIGCONT)


def red(client: Client) -> set[str]:
    return {name for name, check in client.get("/readyz").body["checks"].items() if not check["ok"]}


def test_who_signs(installation: Installation, issued: list[dict[str, Any]]) -> None:
    """The delegate where the settings say so, with a certificate that nobody had to ask for."""
    certificate = issued[0]
    eventually(lambda: installation.status(certificate) == "good")
    signers = [each.subject.rfc4514_string() for each in load_der_ocsp_response(installation.ocsp(certificate)).certificates]
    delegated = "QUICKLIME_OCSP_SIGNER" in installation.services
    assert signers == ([f"CN=OCSP responder of {certificate['issuer']}"] if delegated else [])


def test_beat_away(installation: Installation, client: Client, issued: list[dict[str, Any]]) -> None:
    first, second = issued

    def said() -> list[str]:
        return [installation.status(each) for each in issued]

    eventually(lambda: said() == ["good", "good"])
    eventually(lambda: installation.crl(first["issuer"]) == 200)
    with without_beat(installation):
        assert client.revoke(second).status == 200
        eventually(lambda: said() == ["good", "revoked"], 5)
        assert red(client) & {"ocsp", "crl"} == set()

        installation.python(A_DAY_LATER)
        eventually(lambda: said() == ["try_later", "try_later"], 5)
        eventually(lambda: installation.crl(first["issuer"]) == 503, 5)
        eventually(lambda: red(client) >= {"beat", "ocsp", "crl"}, 5)

    eventually(lambda: said() == ["good", "revoked"])
    eventually(lambda: installation.crl(first["issuer"]) == 200)
    eventually(lambda: red(client) & {"ocsp", "crl"} == set())
