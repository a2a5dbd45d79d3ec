"""Many submissions in one call: one result each, in order."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from ca.api.requests import MAX_BULK
from ca.models import Request
from tests.material import csr, many

from .conftest import Caller, code

pytestmark = pytest.mark.django_db


def items(*names: str) -> list[dict[str, Any]]:
    return [{"csr": b64encode(csr(name)).decode(), "service": name.partition(".")[0]} for name in names]


def test_one_bad_item_spoils_none(hierarchy: None, alice: Caller, run_pipeline: Callable[[], None]) -> None:
    asked = items("a.internal", "www.example.com", "b.internal")
    asked[2:2] = [{"csr": "hello"}, {"csr": 1}, "text", None, {"owner": "bob"}]  # type: ignore[list-item]
    answer = alice.post("certificates/bulk/", {"requests": asked})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["status"] for result in results] == [202, 422, 400, 400, 400, 400, 400, 202]
    assert [result["error"] and result["error"]["code"] for result in results] == [
        None, "nameOutsideZones", "csrText", "invalidField", "malformedJson", "malformedJson", "unknownField", None,
    ]  # fmt: skip
    assert [result["request"] and result["request"]["status"] for result in results] == ["pending", *[None] * 6, "pending"]
    assert [result["error"] and result["error"]["status"] for result in results] == [None, 422, 400, 400, 400, 400, 400, None]

    run_pipeline()
    for result, name in ((results[0], "a.internal"), (results[7], "b.internal")):
        shown = alice.get(f"requests/{result['request']['id']}/").json()
        assert shown["certificate"]["names"] == [f"dns:{name}"]


def test_a_thousand_in_one_commit(alice: Caller, django_assert_max_num_queries: Any) -> None:
    asked = [{"csr": b64encode(each).decode()} for each in many(10)] * (MAX_BULK // 10)
    with django_assert_max_num_queries(8):
        answer = alice.post("certificates/bulk/", {"requests": asked})
    assert [result["status"] for result in answer.json()["results"]] == [202] * MAX_BULK
    assert Request.objects.count() == MAX_BULK


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400), ({"requests": []}, 400), ({"requests": {}}, 400), ({"requests": "x"}, 400), ({"requests": None}, 400),
        ({"requests": [{}], "more": 1}, 400), ({"requests": [1] * (MAX_BULK + 1)}, 413),
    ],
)  # fmt: skip
def test_a_wrong_body(body: Any, status: int, alice: Caller) -> None:
    answer = alice.post("certificates/bulk/", body)
    assert answer.status_code == status
    code(answer)


def test_a_repeated_bulk_gives_the_same_requests(alice: Caller) -> None:
    asked = items("a.internal", "b.internal")
    first, again = (alice.post("certificates/bulk/", {"requests": asked}, Idempotency_Key="k" * 200).json()["results"] for _ in range(2))
    assert first == again
    assert Request.objects.count() == 2
    changed = alice.post("certificates/bulk/", {"requests": [asked[0], asked[1] | {"node": "n"}]}, Idempotency_Key="k" * 200)
    assert [result["status"] for result in changed.json()["results"]] == [202, 422]
    assert changed.json()["results"][1]["error"]["code"] == "idempotencyMismatch"


def test_an_item_cannot_say_it_was_asked_for_by_another(alice: Caller) -> None:
    asked = items("a.internal")
    for field in ("owner", "token", "state", "serial", "id", "idempotency_key", "replaces"):
        answer = alice.post("certificates/bulk/", {"requests": [asked[0] | {field: "x"}]})
        assert json.loads(answer.content)["results"][0]["error"]["code"] == "unknownField"
