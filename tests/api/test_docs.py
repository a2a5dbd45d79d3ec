"""The description and its page: whole, offline, and without anything that the Content-Security-Policy forbids."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from drf_spectacular.generators import EndpointEnumerator, SchemaGenerator
from drf_spectacular.validation import validate_schema

from ca.api.base import ApiView
from ca.api.client_certificates import HOLDER

from .conftest import Caller

pytestmark = pytest.mark.django_db


class Page(HTMLParser):
    """Collects scripts, what is fetched, and everything that a strict policy refuses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.inline: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        self.inline += [name for name, _ in attrs if name.startswith("on") or name == "style"]

    def handle_data(self, data: str) -> None:
        if self._inside in ("script", "style") and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def test_the_page_holds_nothing_inline_and_nothing_from_elsewhere(nobody: Caller) -> None:
    answer = nobody.get("docs/", Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    page = Page(answer.content.decode())
    assert page.inline == []
    assert len(page.fetched) >= 5
    assert all(re.fullmatch(r"/(static|api)/[A-Za-z0-9._/-]+", path) for path in page.fetched), page.fetched
    policy = answer["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy


@pytest.mark.unjudged("closing an answer closes the database connection")
def test_everything_the_page_fetches_is_there(nobody: Caller) -> None:
    for path in Page(nobody.get("docs/").content.decode()).fetched:
        answer = nobody.get(path)
        assert answer.status_code == 200, path
        answer.close()


def test_the_root_leads_to_the_dashboard(nobody: Caller) -> None:
    answer = nobody.get("/")
    assert (answer.status_code, answer["Location"]) == (302, "/dashboard/")


def test_the_description_is_valid_and_nothing_in_it_is_guessed(nobody: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    validate_schema(SchemaGenerator().get_schema(request=None, public=True))  # type: ignore[no-untyped-call]
    said: Any = capsys.readouterr()
    assert "Warning" not in said.err
    assert "Error" not in said.err
    assert nobody.get("schema/").json()["info"]["title"] == "Quicklime"
    assert nobody.get("schema/", Accept="application/json")["Content-Type"] == "application/json"


def test_the_description_says_every_way_to_be_let_in(nobody: Caller) -> None:
    described = nobody.get("schema/").json()
    schemes = described["components"]["securitySchemes"]
    assert {name: scheme["type"] for name, scheme in schemes.items()} == {"token": "http", "jwt": "http", "certificate": "mutualTLS"}
    ways = {
        f"{method} {path.removeprefix('/api/v1/')}": "|".join(sorted(next(iter(way), "") for way in operation.get("security", [])))
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    }
    bearer, holder = "jwt|token", "certificate|jwt|token"
    assert ways["get certificates/{serial}/"] == ways["get certificates/{serial}/receipt/"] == holder
    assert ways["post certificates/{serial}/renew/"] == ways["post certificates/{serial}/revoke/"] == f"|{holder}"
    assert ways["post certificates/{serial}/checkin/"] == f"|{bearer}"
    assert ways["get issuers/"] == ""
    assert ways["post certificates/"] == ways["get services/"] == bearer
    declared = {path for path, view in _views() if HOLDER in view.declared("GET")}
    assert {path for path, said in ways.items() if said == holder} == declared


def _views() -> list[tuple[str, ApiView]]:
    """Those of the API, as the description calls them."""
    found = EndpointEnumerator().get_api_endpoints()
    return [
        (f"get {path.removeprefix('/api/v1/')}", view.cls())
        for path, _, method, view in found
        if method == "GET" and issubclass(view.cls, ApiView)
    ]
