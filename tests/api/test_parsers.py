"""The JSON dialect of the API, and what bodies and headers it refuses."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.api.negotiation import best
from ca.api.parsers import BODY_LIMIT, BULK_LIMIT, MAX_DEPTH, strict_json
from ca.errors import Problem
from ca.models import Request

from .conftest import Caller, code

REFUSED = {
    "empty": b"",
    "not JSON": b"hello",
    "two values": b"{} {}",
    "trailing comma": b'{"a":1,}',
    "single quotes": b"{'a':1}",
    "byte order mark": b'\xef\xbb\xbf{"a":1}',
    "Latin-1": b'{"a":"\xe4"}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-16 without mark": '{"a":1}'.encode("utf-16-le"),
    "overlong": b'{"a":"\xc0\x80"}',
    "encoded surrogate": b'{"a":"\xed\xa0\x80"}',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "overflow": b'{"a":1e999}',
    "huge integer": b'{"a":' + b"9" * 20 + b"}",
    "very huge integer": b'{"a":' + b"9" * 50_000 + b"}",
    "duplicate name": b'{"csr":"a","csr":"b"}',
    "duplicate name, escaped": b'{"csr":"a","\\u0063sr":"b"}',
    "duplicate name, deep": b'{"a":[{"b":1,"b":1}]}',
    "NUL": b'{"a":"\\u0000"}',
    "NUL in a name": b'{"\\u0000":1}',
    "raw control character": b'{"a":"\n"}',
    "lone high surrogate": b'{"a":"\\ud800"}',
    "lone low surrogate": b'{"a":["\\udc00x"]}',
    "wrong order of surrogates": b'{"a":"\\udc00\\ud800"}',
    "too deep": b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
    "too deep, objects": b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
    "stack exhausting": b"[" * 30_000,
    "stack exhausting, whole": b"[" * 30_000 + b"]" * 30_000,
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises(Problem) as caught:
        strict_json(REFUSED[name])
    assert caught.value.code == "malformedJson"


def test_taken() -> None:
    assert strict_json(b'{"a":"\\ud83d\\ude00\\\\u0000","b":[1,-2.5,true,null]}') == {"a": "\U0001f600\\u0000", "b": [1, -2.5, True, None]}
    assert strict_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH) is not None
    assert strict_json(b'{"a":9223372036854775807}') == {"a": 2**63 - 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_reads_what_others_write_or_refuses_it(value: Any) -> None:
    try:
        read = strict_json(json.dumps(value).encode())
    except Problem:
        return
    assert read == value


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:\\ud80é0e+-1 ', max_size=40).map(str.encode))
def test_raises_nothing_but_problems(body: bytes) -> None:
    with suppress(Problem):
        strict_json(body)


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(REFUSED.keys() - {"empty"}))
def test_over_http_each_is_400(name: str, alice: Caller) -> None:
    for path in ("certificates/", "certificates/bulk/"):
        answer = alice.call("POST", path, REFUSED[name])
        assert answer.status_code == 400
        code(answer)


@pytest.mark.django_db
@pytest.mark.parametrize("body", [b"1", b'"x"', b"[]", b"null", b"true"])
def test_not_an_object(body: bytes, alice: Caller) -> None:
    for path in ("certificates/", "certificates/bulk/"):
        assert alice.call("POST", path, body).status_code == 400


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "content_type", "limit"),
    [
        ("certificates/", "application/json", BODY_LIMIT),
        ("certificates/", "application/pkcs10", BODY_LIMIT),
        ("certificates/", "application/x-pem-file", BODY_LIMIT),
        ("certificates/bulk/", "application/json", BULK_LIMIT),
    ],
)
def test_bodies_have_a_limit(path: str, content_type: str, limit: int, alice: Caller) -> None:
    answer = alice.call("POST", path, b" " * (limit + 1), content_type)
    assert (answer.status_code, code(answer)) == (413, "bodyTooLarge")
    assert alice.call("POST", path, b" " * limit, content_type).status_code == 400


@pytest.mark.django_db
@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "text/json", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
     "application/json; charset=latin-1", "application/json; charset=utf-16", "json", "*/*", "application/*", "application/json,text/plain",
     "x" * 5000, "application/json\x00"],
)  # fmt: skip
def test_other_media_types_are_415(content_type: str, alice: Caller) -> None:
    answer = alice.call("POST", "certificates/", b'{"csr":"x"}', content_type)
    assert (answer.status_code, code(answer)) == (415, "unsupportedMediaType")


@pytest.mark.django_db
def test_bulk_takes_json_only(alice: Caller) -> None:
    assert alice.call("POST", "certificates/bulk/", b"MAA=", "application/pkcs10").status_code == 415


@pytest.mark.django_db
def test_compressed_and_chunked_bodies(alice: Caller) -> None:
    assert code(alice.post("certificates/", {}, Content_Encoding="gzip")) == "unsupportedMediaType"
    answer = alice.post("certificates/", {}, Transfer_Encoding="chunked")
    assert (answer.status_code, code(answer)) == (411, "lengthRequired")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "value", ["wait=x", "wait=-1", "wait=1.5", "wait=", "wait", "wait=1e3", "wait=\xb2", "foo, WAIT=x", "wait=9999999"]
)
def test_a_wrong_prefer(value: str, alice: Caller) -> None:
    assert code(alice.post("certificates/", {}, Prefer=value)) == "invalidHeader"


@pytest.mark.django_db
@pytest.mark.parametrize("value", ["", "a b", "x" * 201, "caf\xe9", "a\x00b", "\t"])
def test_a_wrong_idempotency_key(value: str, alice: Caller) -> None:
    assert code(alice.post("certificates/", {"csr": "MAA="}, Idempotency_Key=value)) == "invalidHeader"
    assert not Request.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "value", ["x", "/", "a/b;q=x", "a/b;q=2", "a/b;q=1.5", "text", ",a", "a/b/c", "*/*;q=0.1234", "a/b," * 40, "\x00/\x00"]
)
def test_a_wrong_accept(value: str, alice: Caller) -> None:
    assert code(alice.get("certificates/", Accept=value)) == "invalidHeader"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "a/json"), ("*/*", "a/json"), ("b/pem", "b/pem"), ("B/PEM", "b/pem"), ("b/*", "b/pem"), ("b/pem;q=0.5, a/json;q=0.4", "b/pem"),
        ("b/pem;q=0.5, a/json", "a/json"), ("*/*, a/json;q=0", "b/pem"), ("b/pem; level=1", "b/pem"), ("text/html, */*;q=0.1", "a/json"),
        ("b/*;q=0.2, b/pem;q=0, */*;q=0.1", "a/json"), (" , b/pem ,", "b/pem"),
    ],
)  # fmt: skip
def test_accept(accept: str, expected: str) -> None:
    assert best(accept, ["a/json", "b/pem"]) == expected


@pytest.mark.parametrize("accept", ["text/html", "a/json;q=0", "a/json;q=0.000", "*/*;q=0", "a/*;q=0, b/x"])
def test_not_acceptable(accept: str) -> None:
    with pytest.raises(Problem) as caught:
        best(accept, ["a/json", "b/pem"])
    assert caught.value.code == "notAcceptable"
