from __future__ import annotations

import json
from typing import Any

import pytest
from django.http import HttpResponseBase
from django.test import RequestFactory

from eventlog import views
from eventlog.models import Checkpoint, Event

from .support import NOW, add, naive_root

pytestmark = pytest.mark.django_db
SIZE = 256 + 44


@pytest.fixture
def log() -> None:
    add(*range(SIZE))


def get(path: str, method: str = "GET") -> HttpResponseBase:
    request = RequestFactory().generic(method, f"/log/{path}")
    name = path.split("?")[0]
    if name == "checkpoint":
        return views.checkpoint(request)
    if name == "entries":
        return views.entries(request)
    return views.tile(request, name.removeprefix("tile/"))


def content(response: Any) -> bytes:
    assert response.status_code == 200
    return b"".join(response.streaming_content) if response.streaming else response.content


def problem(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(response.content)
    assert {"type", "title", "status", "detail", "code"} <= body.keys()
    assert body["status"] == status
    return body


def column(name: str) -> list[bytes]:
    return [bytes(value) for value in Event.objects.order_by("position").values_list(name, flat=True)]


def test_checkpoint(log: None):
    response = get("checkpoint")
    assert content(response).decode() == Checkpoint.objects.get().note
    assert response["Content-Type"].startswith("text/plain")
    assert response["Cache-Control"] == "private, no-cache"


def test_no_checkpoint_yet():
    assert problem(get("checkpoint"), 404)["code"] == "notFound"


def test_level_zero_holds_the_leaf_hashes(log: None):
    leaves = column("leaf_hash")
    assert content(get("tile/0/000")) == b"".join(leaves[:256])
    assert content(get("tile/0/001.p/44")) == b"".join(leaves[256:])
    assert content(get("tile/0/000.p/3")) == b"".join(leaves[:3])


def test_level_one_holds_roots_of_complete_tiles_only(log: None):
    assert content(get("tile/1/000.p/1")) == naive_root(column("leaf_hash")[:256])
    problem(get("tile/1/000.p/2"), 404)


def test_entries_bundles(log: None):
    bodies = column("body")
    expected = b"".join(len(body).to_bytes(2, "big") + body for body in bodies)
    assert content(get("tile/entries/000")) + content(get("tile/entries/001.p/44")) == expected


def test_tiles_never_change_and_may_be_kept(log: None, settings: Any):
    assert get("tile/0/000")["Cache-Control"] == "private, max-age=31536000, immutable"
    assert get("tile/0/000")["Content-Type"] == "application/octet-stream"
    settings.LOG_PUBLIC = True
    assert get("tile/0/000")["Cache-Control"].startswith("public,")


NO_TILES = """0/001 0/001.p/45 0/002 0/000.p/0 0/000.p/256 0/000.p/01 0/000.p/-1 0/000.p/ 0/0 0/0000 0/x000/000 0/x000/001 0/x001/000
0/x001/x234/067 0/1/2 00/000 100/000 -1/000 2/000.p/1 63/000.p/1 entries entries/ entries/001 data/000 0/000/ /0/000 0/٠٠٠ .. %00"""


@pytest.mark.parametrize("path", [*NO_TILES.split(), "", "0/000\n", "0/" + "x999/" * 10 + "999"])
def test_no_such_tile(log: None, path: str):
    request = RequestFactory().get("/log/tile/")
    assert problem(views.tile(request, path), 404)["code"] == "notFound"


def lines(response: HttpResponseBase) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content(response).splitlines()]


def test_entries(log: None):
    response = get("entries?after=2&limit=3")
    assert response["Content-Type"] == "application/x-ndjson"
    found = lines(response)
    assert [line["position"] for line in found] == [3, 4, 5]
    row = Event.objects.get(position=3)
    assert found[0] == {
        "position": 3,
        "time": "2026-01-31T08:00:00.000000Z",
        "type": "test.happened",
        "subject": "alice",
        "hash": bytes(row.leaf_hash).hex(),
        "event": json.loads(bytes(row.body)),
    }
    assert row.time == NOW


def test_entries_without_parameters_begin_at_the_first(log: None):
    assert len(lines(get("entries"))) == SIZE
    assert len(lines(get(f"entries?after={SIZE - 1}"))) == 1
    assert lines(get(f"entries?after={SIZE}")) == []
    assert lines(get("entries?after=999999999999999999")) == []


@pytest.mark.parametrize(
    "query",
    [
        "after=-1",
        "after=x",
        "after=",
        "after=1.0",
        "after=٣",
        "after=1e3",
        "after=01",
        "after=" + "9" * 30,
        "limit=0",
        "limit=10001",
        "limit=-5",
        "limit=x",
        "limit=%00",
    ],
)
def test_entries_refuses_bad_parameters(query: str):
    assert problem(get(f"entries?{query}"), 400)["code"] == "invalidParameter"


@pytest.mark.parametrize("path", ["checkpoint", "entries", "tile/0/000"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_reading_only(path: str, method: str):
    response = get(path, method)
    assert problem(response, 405)["code"] == "methodNotAllowed"
    assert response["Allow"] == "GET, HEAD"
