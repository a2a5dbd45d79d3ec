"""The log's three addresses behind the API: what they answer, and how they refuse."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eventlog.models import Event

from .conftest import Caller, code

pytestmark = pytest.mark.django_db


def test_entries_tiles_and_checkpoint(issued: dict[str, Any], charlie: Caller) -> None:
    lines = [json.loads(line) for line in b"".join(charlie.get("/log/entries?limit=10000")).splitlines()]  # type: ignore[arg-type]
    assert [line["position"] for line in lines] == list(range(1, Event.objects.count() + 1))
    position = issued["certificate"]["log_position"]
    assert lines[position - 1]["type"] == "certificate.issued"
    after = [json.loads(line) for line in b"".join(charlie.get(f"/log/entries?after={position - 1}&limit=1")).splitlines()]  # type: ignore[arg-type]
    assert after == [lines[position - 1]]
    checkpoint = charlie.get("/log/checkpoint").content.decode().splitlines()
    assert int(checkpoint[1]) >= position
    assert charlie.get(f"/log/tile/0/000.p/{position}").content[-32:] == bytes(Event.objects.get(position=position).leaf_hash)


@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", "limit=0", "limit=10001", "after=1&after=2", "after=%00", "more=1", "after=" + "9" * 30]
)
def test_a_wrong_parameter_is_400(query: str, charlie: Caller) -> None:
    answer = charlie.get(f"/log/entries?{query}")
    assert answer.status_code == 400
    code(answer)


@pytest.mark.parametrize(
    "path", ["0/000.p/256", "0/999", "99/000", "a/000", "0/x000/000", "0/..%2f000", "entries/000.p/0", "0/000.p/", "0/%00"]
)
def test_a_tile_that_is_none_is_404(path: str, charlie: Caller) -> None:
    assert code(charlie.get(f"/log/tile/{path}")) == "notFound"
