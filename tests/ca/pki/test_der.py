"""The strict DER reader and the writer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from asn1crypto import core
from hypothesis import given, settings
from hypothesis import strategies as st

from ca.pki import der


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "nothing"),
        ("30", "no length"),
        ("3001", "contents cut off"),
        ("3003020100ff", "a byte after the end"),
        ("3080020100 0000", "indefinite length"),
        ("308103020100", "length in the long form though short"),
        ("30820003020100", "length with a leading zero octet"),
        ("30820080" + 64 * "0500", "long length with a leading zero octet"),
        ("308401000000", "length of four octets"),
        ("30820100", "length says more than there is"),
        ("3082", "length cut off"),
        ("3f8101020100", "multi-byte tag"),
        ("31 00", "another type"),
    ],
)
def test_refuses_what_is_not_one_der_object(text: str, why: str) -> None:
    data = bytes.fromhex(text)
    with pytest.raises(der.Malformed):
        der.children(data, der.whole(data))


@pytest.mark.parametrize("inner", ["0281 0100", "02 82 0001 00", "0203 0100", "1f 0100"])
def test_children_are_as_strict(inner: str) -> None:
    data = der.tlv(der.SEQUENCE, bytes.fromhex(inner))
    with pytest.raises(der.Malformed):
        der.children(data, der.whole(data))


def test_fields_must_be_exactly_these() -> None:
    data = der.tlv(der.SEQUENCE, der.integer(1), der.tlv(der.NULL))
    assert [field.tag for field in der.fields(data, der.whole(data), der.INTEGER, der.NULL)] == [der.INTEGER, der.NULL]
    for tags in ((der.INTEGER,), (der.NULL, der.INTEGER), (der.INTEGER, der.NULL, der.NULL)):
        with pytest.raises(der.Malformed):
            der.fields(data, der.whole(data), *tags)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_reader_ends_in_elements_or_malformed(data: bytes) -> None:
    try:
        outer = der.whole(data, data[0] if data else der.SEQUENCE)
        for child in der.children(data, outer):
            assert outer.body <= child.start < child.body <= child.end <= outer.end
    except der.Malformed:
        pass


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.integers(0, 2**200))
def test_integers_are_as_others_write_them(value: int) -> None:
    assert der.integer(value) == core.Integer(value).dump()


@pytest.mark.parametrize("dotted", ["2.5.29.56", "1.3.6.1.5.5.7.48.1.5", "1.2.840.113549.1.9.14", "2.999.16384"])
def test_object_identifiers_are_as_others_write_them(dotted: str) -> None:
    assert der.oid(dotted) == core.ObjectIdentifier(dotted).dump()


@pytest.mark.parametrize("size", [0, 127, 128, 255, 256, 65535, 65536])
def test_lengths_are_as_others_write_them(size: int) -> None:
    data = der.tlv(der.OCTET_STRING, bytes(size))
    assert data == core.OctetString(bytes(size)).dump()
    assert der.contents(data, der.whole(data, der.OCTET_STRING)) == bytes(size)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), b"\x17\x0d260102030405Z"),
        (datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), b"\x17\x0d491231235959Z"),
        (datetime(2050, 1, 1, tzinfo=UTC), b"\x18\x0f20500101000000Z"),
    ],
)
def test_time_changes_its_form_with_2050(moment: datetime, expected: bytes) -> None:
    assert der.time(moment) == expected


@pytest.mark.parametrize(("numbers", "expected"), [((0,), "03020780"), ((0, 2), "030205a0"), ((5, 6), "03020106")])
def test_named_bits_drop_trailing_zeros(numbers: tuple[int, ...], expected: str) -> None:
    assert der.named_bits(*numbers).hex() == expected
