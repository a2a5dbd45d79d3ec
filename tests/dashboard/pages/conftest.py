"""Somebody of the staff with a browser, and an installation that has a bit of everything."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from ca import keys, tokens
from ca.models import Certificate, Request
from dashboard import neighbours
from eventlog import checkpoints, projections

from ..support import Issue, Renew, revoked

HEALTHY = {
    "requests": {"ok": True, "unfinished": 0, "oldest_seconds": 0.0},
    "beat": {"ok": True, "seconds_ago": 3.0},
    "redis": {"ok": True},
}


@pytest.fixture(autouse=True)
def health(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What the checks say: they look at the whole machine, from a thread of their own. A test may change it."""
    report = {name: dict(check) for name, check in HEALTHY.items()}
    monkeypatch.setattr(neighbours, "health", lambda: report)
    return report


@pytest.fixture
def staff(db: None) -> Client:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("sam", password="correct horse battery", is_staff=True))
    return client


@pytest.fixture
def guest(db: None) -> Client:
    """Signed in, and not of the staff."""
    client = Client()
    client.force_login(User.objects.create_user("gil", password="correct horse battery"))
    return client


@pytest.fixture
def fleet(issue: Issue, renew: Renew, now: datetime) -> list[Certificate]:
    """Oldest first: one that was renewed, its successor, one that was revoked, and one of two names; a checkpoint over all."""
    first = issue("a.internal")
    rows = [first, renew(first), issue("b.internal", node="n2"), issue("c.internal", "10.0.0.7", service="ledger", profile="peer")]
    revoked(rows[2], datetime.now(UTC))
    settle()
    return [Certificate.objects.get(serial=row.serial) for row in rows]


def settle() -> None:
    """Every projection at the log's end, and a checkpoint over it."""
    for name in projections.names():
        projections.catch_up(name)
    newest = checkpoints.latest()
    from eventlog import head

    if newest is None or newest.size < head.size():
        from django.db import transaction

        with transaction.atomic():
            checkpoints.store(head.lock(), datetime.now(UTC), keys.log_signer())


@pytest.fixture
def every_page(fleet: list[Certificate]) -> list[str]:
    """The address of every page, each with something to show."""
    tokens.create("deploys", "bob", tokens.Scope(), datetime.now(UTC), by="test")
    settle()
    request = Request.objects.order_by("id").first()
    assert request is not None
    pages = [
        "",
        "certificates/",
        "certificates/?q=a.internal",
        "certificates/?status=nonsense",
        f"certificates/{fleet[1].serial}/",
        "requests/",
    ]
    pages += [f"requests/{request.id}/", "issuers/", "issuers/issuing-1/", "log/", "log/?type=certificate.issued", "log/1/"]
    return [f"/dashboard/{page}" for page in [*pages, "log/consistency/", "tokens/", "login/"]]


@pytest.fixture
def queries() -> Callable[[Client, str], int]:
    def count(client: Client, path: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(path).status_code == 200
        return len(captured)

    return count
