"""A small fleet's history behind a real server, and Chromium with somebody signed in. Both are made once: pages only look."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import axe_playwright_python
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client, override_settings
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright
from pytest_django.live_server_helper import LiveServer

from ca import hierarchy, issuance, keys
from ca.api import representations
from ca.models import Certificate, Replacement, Request, State, Token
from ca.profiles import LEAF
from dashboard import accounts
from dashboard.models import Reminder
from dashboard.roles import Role
from demo.fleet import DAY, Fleet
from eventlog import clock
from ocsp import crls

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
PASSWORD = "correct horse battery"
PEOPLE = {"olga": Role.OPERATOR, "grace": Role.APPROVER, "ada": Role.ADMINISTRATOR}


@dataclass(frozen=True)
class Site:
    """Where it is, who may sign in with which session ("olga" the operator, "grace" an approver, "ada" an administrator), and an address
    for each kind of page."""

    url: str
    sessions: dict[str, str]
    pages: dict[str, str]
    admin: dict[str, str]


@dataclass
class Seen:
    """A page, and whatever its console complained of."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{self.page.url}: {message.text}")


@pytest.fixture(scope="package")
def chromium(site: Site) -> Iterator[Browser]:
    """Only after the site is made: while it runs this thread has an event loop, in which Django refuses its database but for this
    word. The tests themselves ask it nothing."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "no chromium: apt-get install chromium"
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
        connection.close()  # the one of this thread while there is the loop, which nobody could reach after it


@pytest.fixture(scope="package")
def site(django_db_setup: None, django_db_blocker: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Emptied again at the end, as its commits outlive every test."""
    state = tmp_path_factory.mktemp("state")
    places = {"STATE": state, "KEYS_DIR": state / "keys", "CHECKPOINT_DIR": state / "checkpoints"}
    with (
        django_db_blocker.unblock(),  # type: ignore[attr-defined]
        override_settings(**places, REVOCATION_KEY_FILE=state / "revocation.key"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(clock, "check", lambda now: None)  # the fleet's past is not the database server's
        _forget()
        _live(datetime.now(UTC).replace(microsecond=0))
        server = LiveServer("localhost")
        try:
            yield Site(server.url, {name: _session(name, role) for name, role in PEOPLE.items()}, _pages(), _admin())
        finally:
            server.stop()
            call_command("flush", verbosity=0, interactive=False)
            connection.close()
            connection.close_pool()  # type: ignore[attr-defined]  # the server's threads left connections in it
            _forget()


def _forget() -> None:
    keys.forget()
    issuance.issuer_facts.cache_clear()
    representations.chain.cache_clear()


def _live(now: datetime) -> None:
    begins = now - 100 * DAY
    hierarchy.init_root("root", begins)
    hierarchy.add_intermediate("issuing-1", "root", begins)
    for profile in LEAF:
        hierarchy.activate("issuing-1", profile, begins)
    Fleet(begins, now, services=10, places=50).live(step=timedelta(hours=12))
    while crls.publish_due(now):
        pass


def _session(name: str, role: Role) -> str:
    client, now = Client(), datetime.now(UTC)
    client.force_login(accounts.create(name, accounts.Access([role], []), by="test", why="", now=now, password=PASSWORD))
    return client.cookies["sessionid"].value


def _pages() -> dict[str, str]:
    certificate = Certificate.objects.filter(revoked_at=None).exclude(replaces=None).latest("log_position")
    request, order = Request.objects.latest("id"), Replacement.objects.get().order
    paths = {
        "overview": "",
        "services": "services/",
        "services then": f"services/?at={datetime.now(UTC) - 60 * DAY:%Y-%m-%dT%H:%M:%SZ}",
        "service": f"services/{certificate.service}/",
        "certificates": "certificates/",
        "nothing found": "certificates/?q=nothing-is-called-so",
        "wrong question": "certificates/?status=nonsense",
        "certificate": f"certificates/{certificate.serial}/",
        "status": f"certificates/{certificate.serial}/status/",
        "requests": "requests/",
        "request": f"requests/{request.id}/",
        "approvals": "approvals/",
        "approval": f"approvals/{Request.objects.filter(state=State.AWAITING).latest('id').id}/",
        "issuers": "issuers/",
        "issuer": "issuers/issuing-1/",
        "log": "log/",
        "event": "log/40/",
        "consistency": "log/consistency/",
        "reminders": "reminders/",
        "drills": "drills/",
        "drill": f"drills/{order}/",
        "tokens": "tokens/",
    }
    return {name: f"/dashboard/{path}" for name, path in paths.items()}


def _admin() -> dict[str, str]:
    certificate, reminder = Certificate.objects.filter(revoked_at=None).latest("log_position"), Reminder.objects.latest("id")
    token, olga = Token.objects.latest("position"), User.objects.get(username="olga")
    request, order = Request.objects.latest("id"), Replacement.objects.latest("position").order
    paths = {
        "index": "",
        "policy": "policy/",
        "certificates": "ca/certificate/",
        "revoked ones": "ca/certificate/?standing=revoked",
        "none found": "ca/certificate/?q=nothing-is-called-so",
        "certificate": f"ca/certificate/{certificate.serial}/change/",
        "to revoke": f"ca/certificate/revoke/?serial={certificate.serial}",
        "to sign again": f"ca/certificate/resign/?key={certificate.serial}",
        "requests": "ca/request/",
        "request": f"ca/request/{request.id}/change/",
        "to try again": f"ca/request/retry/?key={request.id}",
        "approvals": "ca/approval/",
        "issuers": "ca/issuer/",
        "reminders": "dashboard/reminder/",
        "reminder": f"dashboard/reminder/{reminder.id}/change/",
        "to send again": f"dashboard/reminder/resend/?key={reminder.id}",
        "drills": "ca/replacement/",
        "drill": f"ca/replacement/{order}/change/",
        "to start a drill": "ca/replacement/start/",
        "contacts": "dashboard/contact/",
        "to say who is told": "dashboard/contact/set/",
        "tokens": "ca/token/",
        "token": f"ca/token/{token.id}/change/",
        "to revoke a token": f"ca/token/revoke/?key={token.id}",
        "accounts": "auth/user/",
        "account": f"auth/user/{olga.pk}/change/",
        "events": "eventlog/event/",
        "event": "eventlog/event/40/change/",
    }
    return {name: f"/admin/{path}" for name, path in paths.items()}


def context(chromium: Browser, site: Site, who: str = "olga", **options: object) -> BrowserContext:
    """A visitor of their own, signed in."""
    made = chromium.new_context(base_url=site.url, **options)  # type: ignore[arg-type]
    made.add_cookies([{"name": "sessionid", "value": site.sessions[who], "url": site.url}])
    return made


@pytest.fixture
def seen(chromium: Browser, site: Site) -> Iterator[Seen]:
    """The operator's window. Whatever a test does in it, its console stays silent."""
    with context(chromium, site, reduced_motion="reduce") as visitor:
        found = Seen(visitor.new_page())
        found.page.on("console", found.heard)
        found.page.on("pageerror", lambda error: found.complaints.append(f"{found.page.url}: {error}"))
        yield found
        assert found.complaints == []
