"""`python -m benchmarks.look TIMES`: every page and admin list of Quicklime's settings, as an operator and auditor sees it.

Runs as a process of its own on the servers' core, without the web server and its TLS: Django's test client asks, so that what is
timed is the server's own time. Prints a JSON list of {page, p50_ms, p95_ms, queries, bytes}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import django

FIRST_LOOKS = 3  # before the clock runs: caches of the process fill once
PAGES = (
    "/dashboard/",
    "/dashboard/services/",
    "/dashboard/services/?after=service5",
    "/dashboard/services/?at={now}",
    "/dashboard/services/?owner=operator",
    "/dashboard/services/{service}/",
    "/dashboard/services/{service}/?at={now}",
    "/dashboard/certificates/",
    "/dashboard/certificates/?q={name}",
    "/dashboard/certificates/?status=revoked",
    "/dashboard/certificates/?expires=7",
    "/dashboard/certificates/?owner=nobody",
    "/dashboard/certificates/?service={service}",
    "/dashboard/certificates/{serial}/",
    "/dashboard/certificates/{serial}/status/",
    "/dashboard/requests/",
    "/dashboard/requests/{request}/",
    "/dashboard/approvals/",
    "/dashboard/issuers/",
    "/dashboard/issuers/issuing-1/",
    "/dashboard/log/",
    "/dashboard/log/?type=token.created",
    "/dashboard/log/?subject={serial}",
    "/dashboard/log/{position}/",
    "/dashboard/log/consistency/",
    "/dashboard/reminders/",
    "/dashboard/reminders/?state=not delivered",
    "/dashboard/drills/",
    "/dashboard/tokens/",
    "/admin/ca/certificate/",
    "/admin/ca/certificate/?p=40",
    "/admin/ca/certificate/?q={serial}",
    "/admin/ca/certificate/?q=operator",
    "/admin/ca/certificate/?q=nobody",
    "/admin/ca/certificate/?standing=revoked",
    "/admin/ca/certificate/{serial}/change/",
    "/admin/ca/request/",
    "/admin/ca/request/?state=rejected",
    "/admin/ca/approval/",
    "/admin/ca/issuer/",
    "/admin/ca/replacement/",
    "/admin/ca/token/",
    "/admin/dashboard/reminder/",
    "/admin/dashboard/contact/",
    "/admin/auth/user/",
    "/admin/eventlog/event/",
    "/admin/eventlog/event/?q={serial}",
    "/admin/eventlog/event/?type=token.created",
)


def main(times: int) -> None:
    """Measure and report."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "quicklime_site.settings")
    django.setup()
    from django.conf import settings

    settings.ALLOWED_HOSTS.append("testserver")
    client = _client()
    print(json.dumps([{"page": name, **_measured(client, path, times)} for name, path in _paths()]))


def _client():
    from django.contrib.auth.models import User
    from django.test import Client

    from dashboard import accounts
    from dashboard.roles import Role

    user = User.objects.filter(username="looker").first() or accounts.create(
        "looker", accounts.Access((Role.OPERATOR, Role.AUDITOR), ()), by="benchmark", why="", now=datetime.now(UTC)
    )
    client = Client()
    client.force_login(user)
    return client


def _paths() -> Iterator[tuple[str, str]]:
    """(as PAGES has it, as it is asked for)."""
    from ca.models import Certificate

    row, now = Certificate.objects.exclude(service="").latest("log_position"), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    known = {"serial": row.serial, "service": row.service, "position": row.log_position, "request": row.request, "now": now}
    for page in PAGES:
        yield page, page.format(name=row.names[0][4:12], **known)


def _measured(client, path: str, times: int) -> dict[str, float]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    answer = [client.get(path, secure=True) for _ in range(FIRST_LOOKS)][-1]
    if answer.status_code != 200:
        sys.exit(f"{path} answered {answer.status_code}")
    with CaptureQueriesContext(connection) as asked:
        client.get(path, secure=True)
        queries = len(asked)  # now: the next request forgets them
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        client.get(path, secure=True)
        taken.append((time.perf_counter() - begun) * 1e3)
    taken.sort()
    return {"p50_ms": taken[times // 2], "p95_ms": taken[-1 - times // 20], "queries": queries, "bytes": len(answer.content)}


if __name__ == "__main__":
    main(int(sys.argv[1]))
