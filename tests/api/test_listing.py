"""The list of certificates: order, pages, every filter alone and together, and what it refuses."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest

from ca.api import listing
from ca.api.listing import page
from ca.errors import Problem
from ca.models import Certificate, CertificateName

from .conftest import Caller, code

pytestmark = pytest.mark.django_db
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def put(*rows: dict[str, Any]) -> None:
    """Certificates at log positions 1, 2, …; each row says what matters to its test."""
    for position, row in enumerate(rows, start=1):
        serial = row.get("serial", f"{position:040x}")
        Certificate.objects.create(
            serial=serial, issuer="issuing-1", request=UUID(int=position), token="t", owner=row.get("owner", "alice"),
            profile=row.get("profile", "server"), service=row.get("service", ""), node=row.get("node", ""),
            names=[f"dns:{name}" for name in row.get("names", ())], not_before=NOW - timedelta(days=10),
            not_after=row.get("not_after", NOW + timedelta(days=10)), key_type="P-256", spki_sha256=b"", der=b"", log_position=position,
            fingerprint=row.get("fingerprint", f"{position:064x}"), renewal_challenge=b"", revocation_secret_hash=b"",
            revoked_at=row.get("revoked_at"),
        )  # fmt: skip
        for name in row.get("names", ()):
            CertificateName.objects.create(name=name, serial=serial, log_position=position)


def positions(owner: str | None = "alice", **parameters: str) -> list[int]:
    return [row["log_position"] for row in page(parameters, owner, NOW).rows]


def walked(owner: str | None = "alice", **parameters: str) -> tuple[list[int], int]:
    """Every position of all pages, and how many pages they were."""
    found: list[int] = []
    pages, cursor = 0, None
    while pages == 0 or cursor is not None:
        one = page(parameters | ({"cursor": cursor} if cursor else {}), owner, NOW)
        found += [row["log_position"] for row in one.rows]
        pages, cursor = pages + 1, one.cursor
    return found, pages


@pytest.mark.unjudged("fills the table by hand")
def test_newest_first_in_pages_that_nothing_new_disturbs() -> None:
    put(*[{}] * 7)
    first = page({"limit": "3"}, None, NOW)
    assert [row["log_position"] for row in first.rows] == [7, 6, 5]
    Certificate.objects.filter(log_position=7).update(log_position=8)
    second = page({"limit": "3", "cursor": first.cursor or ""}, None, NOW)
    assert [row["log_position"] for row in second.rows] == [4, 3, 2]
    assert walked(None, limit="3") == ([8, 6, 5, 4, 3, 2, 1], 3)
    assert walked(None, limit="7") == ([8, 6, 5, 4, 3, 2, 1], 1), "a full last page has no next one"


@pytest.mark.unjudged("fills the table by hand")
def test_every_filter() -> None:
    put(
        {"service": "pay", "node": "n1", "profile": "peer", "names": ["a.internal", "b.internal"], "not_after": NOW - timedelta(days=1)},
        {"service": "pay", "node": "n2", "names": ["a.internal"], "revoked_at": NOW, "serial": "abc" + "0" * 37},
        {"service": "mail", "node": "n1", "names": ["ab.internal"], "fingerprint": "abcd" + "0" * 60},
        {"owner": "bob", "service": "pay", "names": ["a.internal"], "serial": "abc" + "1" * 37},
        {"names": ["10.0.0.1", "spiffe://fleet.example/a"], "not_after": NOW + timedelta(days=90), "revoked_at": None},
    )
    assert positions() == [5, 3, 2, 1]
    assert positions(None) == [5, 4, 3, 2, 1]
    assert positions(service="pay") == [2, 1]
    assert positions(None, service="pay") == [4, 2, 1]
    assert positions(service="pay", node="n1") == [1]
    assert positions(node="n1") == [3, 1]
    assert positions(profile="peer") == [1]
    assert positions(name="a.internal") == [2, 1]
    assert positions(None, name="A.Internal", service="pay", status="active") == [4]
    assert positions(name="dns:b.internal") == [1]
    assert positions(name="10.0.0.1") == positions(name="ip:10.0.0.1") == positions(name="spiffe://fleet.example/a") == [5]
    assert positions(name="internal") == []
    assert positions(status="active") == [5, 3]
    assert positions(status="expired") == [1]
    assert positions(status="revoked") == [2]
    assert positions(expires_before="2030-01-01T00:00:00Z") == [1]
    assert positions(expires_after="2030-01-01T01:00:00+01:00", expires_before="2030-02-01T00:00:00Z") == [3, 2]
    assert positions(q="a") == [3, 2, 1]
    assert positions(q="ab") == [3, 2]
    assert positions(q="abc") == [3, 2]
    assert positions(q="AB:CD") == [3]
    assert positions(None, q="abc") == [4, 3, 2]
    assert positions(q="a.") == [2, 1]
    assert positions(q="10.0") == positions(q="spiffe://") == [5]
    assert positions(q="a", name="b.internal", status="expired") == [1]
    assert positions(q="%") == positions(q="_") == positions(q='"') == positions(q="\\") == positions(q="nothing") == []


@pytest.mark.unjudged("fills the table by hand")
def test_a_common_beginning_is_compared_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: Iterable[dict[str, Any]] = [{"names": [f"web{number}.internal"], "owner": ("alice", "bob")[number % 2]} for number in range(12)]
    put(*rows, {"names": ["db.internal"], "serial": "abc" + "0" * 37}, {"names": ["db.web.internal"], "serial": "abc" + "1" * 37})
    expected = [11, 9, 7, 5, 3, 1]
    assert positions(q="web") == positions(q="WEB") == expected
    assert positions(q="abc") == [14, 13]
    monkeypatch.setattr(listing, "MATCHES", 1)
    assert positions(q="web") == positions(q="WEB") == expected
    assert positions(q="abc") == [14, 13]
    assert walked(q="web", limit="2")[0] == expected


@pytest.mark.unjudged("fills the table by hand")
def test_a_filter_looks_at_one_window_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "WINDOW", 4)
    monkeypatch.setattr(listing, "MATCHES", 4)
    rare = {"profile": "peer", "node": "n", "names": ["a.internal"], "service": "pay"}
    put(rare, *[{"names": ["a.internal"], "service": "pay"}] * 12, rare)
    expected = ([14, 1], 4)
    assert walked(profile="peer") == walked(service="pay", profile="peer") == walked(name="a.internal", profile="peer") == expected
    first = page({"profile": "peer"}, "alice", NOW)
    assert ([row["log_position"] for row in first.rows], first.cursor is not None) == ([14], True), "short, and yet not the last"
    assert walked(q="a", node="n") == expected
    assert walked(None, service="pay", node="n") == ([14, 1], 1), "an index of its own"
    assert walked() == (list(range(14, 0, -1)), 1), "without such a filter there is no window"


def test_pages_lead_to_one_another_over_http(hierarchy: None, alice: Caller, run_pipeline: Any) -> None:
    for number in range(5):
        alice.submit(f"n{number}.internal", service="a b".replace(" ", "-"))
    run_pipeline()
    seen, path = [], "certificates/?service=a-b&limit=2"
    while path:
        shown = alice.get(path).json()
        seen += [row["names"][0] for row in shown["results"]]
        path = shown["next"] and shown["next"].removeprefix("http://testserver")
        if path:
            assert parse_qs(urlsplit(path).query).keys() == {"service", "limit", "cursor"}
    assert sorted(seen) == [f"dns:n{number}.internal" for number in range(5)]
    assert len(seen) == len(set(seen)) == 5


CURSORS = ["", "x", "AAAAAAAAAAA", "________-w_", "AAAAAAAAAAE=", "AAAAAAAAAAF", "AAAAAAAAAAA\n", "1", "-1", "AAAAAAAAAA\u00c1", "A" * 400]


@pytest.mark.parametrize("cursor", CURSORS)
def test_a_cursor_that_is_not_ours(cursor: str) -> None:
    with pytest.raises(Problem) as caught:
        page({"cursor": cursor}, None, NOW)
    assert caught.value.code == "invalidParameter"


@pytest.mark.unjudged("fills the table by hand")
def test_a_cursor_beyond_the_end_is_an_empty_page() -> None:
    put({})
    first = urlsafe_b64encode((1).to_bytes(8, "big")).decode().rstrip("=")
    last = urlsafe_b64encode((2**63 - 1).to_bytes(8, "big")).decode().rstrip("=")
    assert positions(cursor=first) == []
    assert positions(cursor=last) == [1]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("_connector=OR&_negated=1&ordering=a.b", "unknownParameter"),
        ("_connector=OR", "unknownParameter"),
        ("_negated=1", "unknownParameter"),
        ("ordering=a.b", "unknownParameter"),
        ("owner=alice", "unknownParameter"),
        ("owner__startswith=a", "unknownParameter"),
        ("service__contains=a", "unknownParameter"),
        ("der=1", "unknownParameter"),
        ("token=1", "unknownParameter"),
        ("format=api", "unknownParameter"),
        ("page=2", "unknownParameter"),
        ("%00=1", "unknownParameter"),
        ("%F0%9F%98%80=%0D%0A", "unknownParameter"),
        ("Service=pay", "unknownParameter"),
        ("service=a&service=b", "invalidParameter"),
        ("service=%00", "invalidParameter"),
        ("service=a%0D%0Ab", "invalidParameter"),
        ("service=%FF", "invalidParameter"),
        ("service=%ED%A0%80", "invalidParameter"),
        ("q=" + "a" * 501, "invalidParameter"),
        ("q=", "invalidParameter"),
        ("q=%E2%80%AE", "invalidParameter"),
        ("status=good", "invalidParameter"),
        ("status=", "invalidParameter"),
        ("limit=0", "invalidParameter"),
        ("limit=201", "invalidParameter"),
        ("limit=-1", "invalidParameter"),
        ("limit=1e1", "invalidParameter"),
        ("limit=%D9%A1", "invalidParameter"),
        ("limit=9999999999999999999999", "invalidParameter"),
        ("expires_before=tomorrow", "invalidParameter"),
        ("expires_before=2030-01-01T00:00:00%2B99:00", "invalidParameter"),
        ("expires_before=0001-01-01T00:00:00%2B23:00", "invalidParameter"),
        ("expires_after=2030-13-01T00:00:00Z", "invalidParameter"),
        ("expires_after=2030-01-01T00:00:60Z", "invalidParameter"),
        ("cursor=x", "invalidParameter"),
    ],
)
def test_a_wrong_query_is_400(query: str, expected: str, charlie: Caller) -> None:
    answer = charlie.get(f"certificates/?{query}")
    assert (answer.status_code, code(answer)) == (400, expected)


def test_thousands_of_parameters(charlie: Caller) -> None:
    assert charlie.get("certificates/?" + "&".join(f"a{number}=1" for number in range(5000))).status_code == 400


@pytest.mark.parametrize(
    "path", ["issuers/", "issuers/issuing-1/", "certificates/1/", "certificates/1/receipt/", "/log/checkpoint", "schema/"]
)
def test_parameters_elsewhere_are_refused_too(path: str, charlie: Caller) -> None:
    assert code(charlie.get(f"{path}?_connector=OR")) == "unknownParameter"
