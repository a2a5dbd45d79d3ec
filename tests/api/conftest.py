"""The cast: Alice and Bob, two tenants; Charlie, who audits; Dora, who may only ask; Eve, whose token permits nothing of it;
nobody, who has no token."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from ca import tokens
from ca.api import authentication, limits, representations, waiting
from tests.material import csr

API = "/api/v1/"
_client = Client()  # one, as each loads the middleware anew


class Caller:
    """An HTTP client with one token, or none, at one address. `id` is the token's id."""

    def __init__(self, secret: str | None = None, token: str = "", address: str = "127.0.0.1") -> None:
        self.secret, self.id, self.address = secret, token, address

    def call(self, method: str, path: str, data: Any = b"", content_type: str = "application/json", **headers: str) -> HttpResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.secret is not None:
            named.setdefault("Authorization", f"Bearer {self.secret}")
        where = path if path.startswith("/") else API + path
        return _client.generic(method, where, data, content_type, headers=named, REMOTE_ADDR=self.address)

    def get(self, path: str, **headers: str) -> HttpResponse:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> HttpResponse:
        return self.call("POST", path, json.dumps(body), **headers)

    def submit(self, *names: str, **fields: Any) -> HttpResponse:
        return self.post("certificates/", {"csr": b64encode(csr(*names)).decode(), **fields})


def code(response: HttpResponse) -> str:
    """The code of a problem, which must be well-formed."""
    assert response["Content-Type"] == "application/problem+json", response.content
    problem = json.loads(response.content)
    assert problem.keys() == {"type", "title", "status", "detail", "code", "errors"}
    assert problem["status"] == response.status_code
    assert problem["type"] == f"urn:quicklime:problem:{problem['code']}"
    return str(problem["code"])


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """What a web process remembers between requests belongs to one test."""
    yield
    limits.failures.clear()
    limits.calls.clear()
    limits.guesses.clear()
    limits.all_guesses.clear()
    authentication._known.clear()
    representations.chain.cache_clear()
    waiting.close()


@pytest.fixture
def caller(db: None, now: datetime) -> Callable[..., Caller]:
    def make(owner: str, *actions: str, **scope: Any) -> Caller:
        token, secret = tokens.create(owner, owner, tokens.Scope(actions=actions, profiles=("*",), ips=("*",), **scope), now, by="test")
        return Caller(secret, token)

    return make


@pytest.fixture
def alice(caller: Callable[..., Caller]) -> Caller:
    return caller("alice", "issue", "read")


@pytest.fixture
def bob(caller: Callable[..., Caller]) -> Caller:
    return caller("bob", "issue", "read")


@pytest.fixture
def charlie(caller: Callable[..., Caller]) -> Caller:
    return caller("charlie", "audit", "log")


@pytest.fixture
def dora(caller: Callable[..., Caller]) -> Caller:
    return caller("dora", "issue")


@pytest.fixture
def eve(caller: Callable[..., Caller]) -> Caller:
    return caller("eve", "renew")


@pytest.fixture
def nobody(db: None) -> Caller:
    return Caller()


@pytest.fixture
def issued(hierarchy: None, alice: Caller, run_pipeline: Callable[[], None]) -> dict[str, Any]:
    """The request object of a certificate that Alice asked for and has."""
    answer = alice.submit("payroll.internal", service="payroll", node="n1").json()
    run_pipeline()
    found: dict[str, Any] = alice.get(f"requests/{answer['id']}/").json()
    assert found["status"] == "issued", found
    return found
