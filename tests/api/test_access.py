"""Who may do what: every address × method × caller. An address that is not in this table fails the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from eventlog import projections

from .conftest import Caller, code

pytestmark = pytest.mark.django_db
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FORGE")
# name → {method: {caller: status}}; methods that are not named are 405 for everybody. Alice owns the certificate.
READ = {"nobody": 401, "alice": 200, "bob": 404, "charlie": 200, "dora": 403, "eve": 403}
LIST = {"nobody": 401, "alice": 200, "bob": 200, "charlie": 200, "dora": 403, "eve": 403}
SUBMIT = {"nobody": 401, "alice": 400, "bob": 400, "charlie": 403, "dora": 400, "eve": 403}
POLL = {"nobody": 401, "alice": 200, "bob": 404, "charlie": 200, "dora": 404, "eve": 403}
RENEW = {"nobody": 400, "alice": 400, "bob": 400, "charlie": 400, "dora": 400, "eve": 400}
CHECK_IN = dict.fromkeys(READ, 400)
REVOKE = {"nobody": 401, "alice": 403, "bob": 403, "charlie": 403, "dora": 403, "eve": 403}
LOG = {"nobody": 401, "alice": 403, "bob": 403, "charlie": 200, "dora": 403, "eve": 403}
PUBLIC = dict.fromkeys(READ, 200)
TABLE: dict[str, dict[str, dict[str, int]]] = {
    "certificates": {"GET": LIST, "POST": SUBMIT},
    "bulk": {"POST": SUBMIT},
    "certificate": {"GET": READ},
    "receipt": {"GET": READ},
    "renew": {"POST": RENEW},
    "revoke": {"POST": REVOKE},
    "checkin": {"POST": CHECK_IN},
    "request": {"GET": POLL},
    "issuers": {"GET": PUBLIC},
    "issuer": {"GET": PUBLIC},
    "issuer-pem": {"GET": PUBLIC},
    "issuer-der": {"GET": PUBLIC},
    "root": {"GET": PUBLIC},
    "schema": {"GET": PUBLIC},
    "docs": {"GET": PUBLIC},
    "services": {"GET": LIST},
    "service": {"GET": READ},
    "checkpoint": {"GET": LOG},
    "tile": {"GET": LOG},
    "entries": {"GET": LOG},
}


def _names(patterns: list[Any]) -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _names(pattern.url_patterns)
        elif isinstance(pattern, URLPattern):
            yield str(pattern.name)


@pytest.fixture
def addresses(issued: dict[str, Any], nobody: Caller) -> dict[str, str]:
    serial = issued["certificate"]["serial"]
    projections.catch_up("lineage")
    root = next(each for each in nobody.get("issuers/").json()["results"] if each["kind"] == "root")
    return {
        "certificates": "certificates/",
        "bulk": "certificates/bulk/",
        "certificate": f"certificates/{serial}/",
        "receipt": f"certificates/{serial}/receipt/",
        "renew": f"certificates/{serial}/renew/",
        "revoke": f"certificates/{serial}/revoke/",
        "checkin": f"certificates/{serial}/checkin/",
        "request": f"requests/{issued['id']}/",
        "issuers": "issuers/",
        "issuer": "issuers/issuing-1/",
        "issuer-pem": "issuers/issuing-1.pem",
        "issuer-der": "issuers/issuing-1.der",
        "root": f"roots/{root['fingerprint']}/",
        "schema": "schema/",
        "docs": "docs/",
        "services": "services/",
        "service": "services/payroll/",
        "checkpoint": "/log/checkpoint",
        "tile": "/log/tile/0/000.p/1",
        "entries": "/log/entries",
    }


def test_the_table_names_every_address() -> None:
    patterns = [pattern for urls in ("ca.api.urls", "dashboard.urls") for pattern in get_resolver(urls).url_patterns]
    assert set(_names(patterns)) == TABLE.keys()


def test_every_caller_at_every_address(
    addresses: dict[str, str], nobody: Caller, alice: Caller, bob: Caller, charlie: Caller, dora: Caller, eve: Caller
) -> None:
    cast = {"nobody": nobody, "alice": alice, "bob": bob, "charlie": charlie, "dora": dora, "eve": eve}
    for name, path in addresses.items():
        for method in METHODS:
            row = TABLE[name].get("GET" if method == "HEAD" else method, dict.fromkeys(cast, 405))
            for who, expected in row.items():
                answer = cast[who].call(method, path)
                assert answer.status_code == expected, (name, method, who, answer.content)
                if expected >= 400 and method != "HEAD":
                    code(answer)
                if expected == 401:
                    assert answer["WWW-Authenticate"].startswith("Bearer")
                if expected == 405:
                    assert "GET" in answer["Allow"] or "POST" in answer["Allow"]


def test_what_is_not_yours_looks_like_what_is_not_there(addresses: dict[str, str], bob: Caller) -> None:
    for name, absent in (("certificate", "certificates/" + "1" * 40 + "/"), ("request", "requests/01900000-0000-7000-8000-000000000000/")):
        assert bob.get(addresses[name]).content == bob.get(absent).content


def test_lists_hold_only_ones_own(issued: dict[str, Any], alice: Caller, bob: Caller, charlie: Caller) -> None:
    serial = issued["certificate"]["serial"]
    queries = (
        "",
        "?name=payroll.internal",
        "?service=payroll",
        "?q=pay",
        f"?q={serial[:9]}",
        "?status=active",
        "?name=payroll.internal&q=pay",
    )
    for query in queries:
        assert [row["serial"] for row in alice.get(f"certificates/{query}").json()["results"]] == [serial], query
        assert [row["serial"] for row in charlie.get(f"certificates/{query}").json()["results"]] == [serial], query
        assert bob.get(f"certificates/{query}").json()["results"] == [], query


def test_a_view_that_declares_nothing_answers_nobody(alice: Caller, charlie: Caller, rf: Any) -> None:
    from rest_framework.request import Request

    from ca.api.base import ApiView, answer

    class Forgotten(ApiView):
        def get(self, request: Request) -> Any:
            return answer({"secret": 1})

    class Misspelt(Forgotten):
        actions = {"GET": ("raed",)}

    for view in (Forgotten, Misspelt):
        for caller in (alice, charlie):
            request = rf.get("/", headers={"Authorization": f"Bearer {caller.secret}"})
            assert view.as_view()(request).status_code == 403
        assert view.as_view()(rf.get("/")).status_code == 401


def test_the_log_is_open_only_where_the_setting_says_so(issued: dict[str, Any], nobody: Caller, settings: Any) -> None:
    assert nobody.get("/log/entries").status_code == 401
    settings.LOG_PUBLIC = True
    for path in ("/log/entries", "/log/checkpoint", "/log/tile/0/000.p/1"):
        assert nobody.get(path).status_code == 200
    assert nobody.call("POST", "/log/entries").status_code == 405


def test_a_stale_token_does_not_hide_what_is_public() -> None:
    stale = Caller("ql_" + "x" * 43)
    assert stale.get("issuers/").status_code == 200
    assert stale.get("certificates/").status_code == 401


def test_expired_and_revoked_tokens(caller: Callable[..., Caller], now: Any) -> None:
    from datetime import timedelta

    from ca import tokens

    expired = caller("alice", "read", expires_at=now - timedelta(seconds=1))
    assert code(expired.get("certificates/")) == "tokenInvalid"
    revoked = caller("alice", "read")
    assert revoked.get("certificates/").status_code == 200
    tokens.revoke(revoked.id, now, "test", "leaked")
    assert code(revoked.get("certificates/")) == "tokenInvalid"
