"""Somebody of the staff with a browser, and an installation that has a bit of everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from ca import keys, mass_replacement, tokens
from ca.models import Certificate, Request
from ca.selections import Selection
from dashboard import accounts, neighbours
from dashboard.models import Reminder
from dashboard.roles import Role
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


PASSWORD = "correct horse battery"


@pytest.fixture
def account(db: None) -> Callable[..., Client]:
    """account(*roles, name=…, owners=…): a browser in which a new account is signed in."""

    def work(*roles: Role, name: str = "", owners: Sequence[str] = (), **browser: Any) -> Client:
        name = name or "-".join([*roles, *owners]) or "nobody"
        user = accounts.create(name, accounts.Access(roles, owners), by="test", why="", now=datetime.now(UTC), password=PASSWORD)
        client = Client(**browser)
        client.force_login(user)
        return client

    return work


@pytest.fixture
def staff(account: Callable[..., Client]) -> Client:
    """Somebody who sees everything and may change nothing."""
    return account(Role.AUDITOR, name="sam", enforce_csrf_checks=True)


@pytest.fixture
def guest(account: Callable[..., Client]) -> Client:
    """Signed in, and without a role."""
    return account(name="gil")


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
        f"certificates/{fleet[1].serial}/status/",
        "requests/",
    ]
    order = mass_replacement.order(
        Selection(service="payroll"), datetime.now(UTC) + timedelta(days=2), "superseded", "a drill", "sam", datetime.now(UTC)
    )
    while mass_replacement.mark(order, datetime.now(UTC)):
        pass
    Reminder.objects.create(
        serial=fleet[0].serial, threshold="expiring", recipient="ops@example.org", recipient_hash="00", due_at=datetime.now(UTC)
    )
    settle()
    pages += ["services/", "services/?at=2026-01-01T00:00:00Z", "services/payroll/", "reminders/", "drills/", f"drills/{order}/"]
    pages += [f"requests/{request.id}/", "issuers/", "issuers/issuing-1/", "log/", "log/?type=certificate.issued", "log/1/"]
    return [f"/dashboard/{page}" for page in [*pages, "log/consistency/", "tokens/"]]


@pytest.fixture
def queries() -> Callable[[Client, str], int]:
    def count(client: Client, path: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(path).status_code == 200
        return len(captured)

    return count
