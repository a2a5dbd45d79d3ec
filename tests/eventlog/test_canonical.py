from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.canonical import NotCanonical, encode

SAFE = 2**53 - 1
text = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-SAFE, SAFE) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, b"null"),
        (True, b"true"),
        (0, b"0"),
        (-SAFE, b"-9007199254740991"),
        ([], b"[]"),
        ((1, [2]), b"[1,[2]]"),
        ({}, b"{}"),
        ({"b": 1, "a": {"d": False, "c": None}}, b'{"a":{"c":null,"d":false},"b":1}'),
        ('\u20ac$\x0f\nA\'B"\\\\"/', b'"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'),  # RFC 8785 §3.2.2.2
        ("\x00\x07\b\t\n\v\f\r\x1f\x7f\u2028", b'"\\u0000\\u0007\\b\\t\\n\\u000b\\f\\r\\u001f\x7f\xe2\x80\xa8"'),
    ],
)
def test_encoding(value: Any, expected: bytes):
    assert encode(value) == expected


def test_keys_are_sorted_by_utf16_code_units():
    """RFC 8785 §3.2.3: U+1F600 starts with the surrogate D83D and so comes before U+FB33."""
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\x80", "\u00f6"]
    assert list(json.loads(encode(dict.fromkeys(keys, 0)))) == ["\r", "1", "\x80", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        float("inf"),
        SAFE + 1,
        -SAFE - 1,
        "\ud800",
        {"\udfff": 1},
        {1: 1},
        {None: 1},
        {"a": 1, 2: 2},
        b"x",
        {1, 2},
        [0.5],
        {"a": object()},
    ],
)
def test_refused(value: Any):
    with pytest.raises(NotCanonical):
        encode(value)


def test_subclasses_are_refused():
    """An enum or a str subclass may print itself as anything."""

    class Text(str): ...

    with pytest.raises(NotCanonical):
        encode(Text("x"))


@given(values)
def test_it_is_json_and_says_the_same(value: Any):
    assert json.loads(encode(value)) == value


@given(values)
def test_reading_and_writing_again_gives_the_same_bytes(value: Any):
    assert encode(json.loads(encode(value))) == encode(value)


@given(st.dictionaries(text, st.integers(0, 9), max_size=6))
def test_order_of_insertion_does_not_matter(value: dict[str, int]):
    assert encode(value) == encode(dict(reversed(value.items())))
