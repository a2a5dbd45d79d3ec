"""Exact name rules: each refusal with its code, each acceptance with its canonical form."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ca.pki.names import Name, dns_name, ip_octets, is_below, shown, uri_name
from ca.pki.violations import Violation


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("payroll.internal", "payroll.internal"),
        ("Payroll.INTERNAL", "payroll.internal"),
        ("localhost", "localhost"),
        ("*.payroll.internal", "*.payroll.internal"),
        ("7.internal", "7.internal"),
        ("db-1.a--b.internal", "db-1.a--b.internal"),
        ("host.4you", "host.4you"),
        ("xn--bcher-kva.internal", "xn--bcher-kva.internal"),
        ("XN--BCHER-KVA.internal", "xn--bcher-kva.internal"),
        ("a" * 63 + ".internal", "a" * 63 + ".internal"),
        (".".join(["a" * 49] * 5) + ".abc", ".".join(["a" * 49] * 5) + ".abc"),
    ],
)
def test_dns_names_that_are_names(text: str, value: str) -> None:
    assert dns_name(text, "names[0]") == Name("dns", value)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "nameEmptyLabel"),
        (".", "nameEmptyLabel"),
        (".internal", "nameEmptyLabel"),
        ("a..internal", "nameEmptyLabel"),
        ("a.internal.", "nameEmptyLabel"),
        ("a.internal\n", "nameLabel"),
        ("a\n.internal", "nameLabel"),
        ("a.internal\0", "nameLabel"),
        ("a.internal\0.evil.example", "nameLabel"),
        (" a.internal", "nameLabel"),
        ("a b.internal", "nameLabel"),
        ("a_b.internal", "nameLabel"),
        ("_acme.internal", "nameLabel"),
        ("-a.internal", "nameLabel"),
        ("a-.internal", "nameLabel"),
        ("-", "nameLabel"),
        ("a@b.internal", "nameLabel"),
        ("a,b.internal", "nameLabel"),
        ("a.internal:443", "nameLabel"),
        ("https://a.internal", "nameLabel"),
        ("a" * 64 + ".internal", "nameLabel"),
        ("ab--cd.internal", "nameLabel"),
        ("a." * 126 + "ab", "nameTooLong"),
        ("10.0.0.1", "nameNumeric"),
        ("a.1", "nameNumeric"),
        ("2130706433", "nameNumeric"),
        ("::1", "nameLabel"),
        ("*", "nameWildcard"),
        ("*.", "nameEmptyLabel"),
        ("*.*.internal", "nameWildcard"),
        ("a.*.internal", "nameWildcard"),
        ("a*.internal", "nameWildcard"),
        ("*a.internal", "nameWildcard"),
        ("**.internal", "nameWildcard"),
        ("xn--.internal", "nameLabel"),
        ("xn---.internal", "nameLabel"),
        ("xn--zzzzzzzzz99999.internal", "nameALabel"),
        ("xn--a.internal", "nameALabel"),  # decodes to U+0080, a control character
        ("xn--abc-.internal", "nameLabel"),
        ("xn--internal-.internal", "nameLabel"),
        ("a.xn--bbk-.internal", "nameLabel"),
        ("xn---bbk.internal", "nameALabel"),  # a second spelling of xn--bbk
        ("xn--i-7iq.internal", "nameALabel"),  # I with heart: not in IDNA 2008
        ("b\u00fccher.internal", "nameNotAscii"),
        ("\u212aafka.internal", "nameNotAscii"),  # KELVIN SIGN: lower() makes it "k"
        ("\u0130.internal", "nameNotAscii"),
        ("p\u0430yroll.internal", "nameNotAscii"),  # a Cyrillic a
        ("a\u3002internal", "nameNotAscii"),  # IDEOGRAPHIC FULL STOP
        ("a\uff0einternal", "nameNotAscii"),
        ("payroll\u200b.internal", "nameNotAscii"),
        ("payroll\u202e.internal", "nameNotAscii"),
    ],
)  # fmt: skip
def test_dns_names_that_are_none(text: str, code: str) -> None:
    with pytest.raises(Violation) as refusal:
        dns_name(text, "names[3]")
    assert (refusal.value.code, refusal.value.where) == (code, "names[3]")
    assert refusal.value.detail.isascii()
    assert refusal.value.detail.isprintable()


def test_kelvin_sign_would_pass_if_lower_case_came_first() -> None:
    assert "\u212aafka.internal".lower() == "kafka.internal"


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.text(max_size=40) | st.from_regex(r"(xn--|\*\.)?[a-z0-9.*-]{1,30}", fullmatch=True))
def test_any_text_is_a_canonical_name_or_a_violation(text: str) -> None:
    try:
        name = dns_name(text, "names[0]")
    except Violation:
        return
    assert name.value == text.lower()
    assert Name.parse(str(name)) == name
    assert not set(name.value) - set("abcdefghijklmnopqrstuvwxyz0123456789-.*")


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        (bytes([10, 0, 0, 1]), "10.0.0.1"),
        (bytes([255, 255, 255, 255]), "255.255.255.255"),
        (bytes(15) + b"\1", "::1"),
        (bytes.fromhex("fd00000000000000000000000000abcd"), "fd00::abcd"),
    ],
)
def test_addresses(octets: bytes, value: str) -> None:
    assert ip_octets(octets, "names[0]") == Name("ip", value)


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (b"", "ipLength"),
        (bytes([10, 0, 0]), "ipLength"),
        (bytes([10, 0, 0, 0, 255, 0, 0, 0]), "ipLength"),  # address and mask: what pyca reads as a network
        (bytes(32), "ipLength"),
        (b"10.0.0.1", "ipLength"),
        (bytes(4), "ipNoHost"),
        (bytes(16), "ipNoHost"),
        (bytes([224, 0, 0, 1]), "ipNoHost"),
        (bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 1]), "ipMapped"),
    ],
)
def test_octets_that_are_no_host(octets: bytes, code: str) -> None:
    with pytest.raises(Violation) as refusal:
        ip_octets(octets, "names[0]")
    assert refusal.value.code == code


@pytest.mark.parametrize("text", ["spiffe://fleet.example/payroll", "spiffe://fleet.example/ns/prod/sa/Pay_roll-1.2", "spiffe://a/b"])
def test_spiffe_ids(text: str) -> None:
    assert uri_name(text, "names[0]") == Name("uri", text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("https://fleet.example/payroll", "uriScheme"),
        ("SPIFFE://fleet.example/payroll", "uriScheme"),
        ("file:///etc/passwd", "uriScheme"),
        ("javascript:alert(1)", "uriScheme"),
        ("", "uriScheme"),
        ("spiffe://", "uriSyntax"),
        ("spiffe:///payroll", "uriSyntax"),
        ("spiffe://fleet.example", "uriSyntax"),
        ("spiffe://fleet.example/", "uriSyntax"),
        ("spiffe://fleet.example/a/", "uriSyntax"),
        ("spiffe://fleet.example//a", "uriSyntax"),
        ("spiffe://fleet.example/a/../b", "uriSyntax"),
        ("spiffe://fleet.example/./a", "uriSyntax"),
        ("spiffe://Fleet.example/a", "uriSyntax"),
        ("spiffe://fleet.example:443/a", "uriSyntax"),
        ("spiffe://user@fleet.example/a", "uriSyntax"),
        ("spiffe://fleet.example/a?b", "uriSyntax"),
        ("spiffe://fleet.example/a#b", "uriSyntax"),
        ("spiffe://fleet.example/a%2fb", "uriSyntax"),
        ("spiffe://fleet.example/a b", "uriSyntax"),
        ("spiffe://fleet.example/a\n", "uriSyntax"),
        ("spiffe://fleet.example\n/a", "uriSyntax"),
        ("spiffe://fleet.example/\u0430", "uriSyntax"),
        ("spiffe://" + "a" * 256 + "/a", "uriSyntax"),
        ("spiffe://a/" + "b" * 2048, "uriSyntax"),
    ],
)
def test_uris_that_are_no_spiffe_ids(text: str, code: str) -> None:
    with pytest.raises(Violation) as refusal:
        uri_name(text, "names[0]")
    assert refusal.value.code == code
    assert refusal.value.detail.isprintable()


@pytest.mark.parametrize("text", ["dns:a.internal", "dns:*.internal", "ip:10.0.0.1", "ip:fd00::1", "uri:spiffe://fleet.example/a"])
def test_parse_undoes_str(text: str) -> None:
    assert str(Name.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "a.internal", "dns", "dns:", "dns:A.internal", "ip:10.0.0.01", "ip:FD00::1", "ip:fe80::1%eth0", "ip:1", "email:a@b"],
)  # fmt: skip
def test_parse_takes_canonical_names_only(text: str) -> None:
    with pytest.raises(Violation):
        Name.parse(text)


@pytest.mark.parametrize(
    ("host", "zone", "below"),
    [
        ("a.internal", "internal", True),
        ("internal", "internal", True),
        ("a.b.internal", "b.internal", True),
        ("evilinternal", "internal", False),
        ("a.evilinternal", "internal", False),
        ("internal", "a.internal", False),
        ("internal.evil", "internal", False),
    ],
)
def test_below_goes_by_whole_labels(host: str, zone: str, below: bool) -> None:
    assert is_below(host, zone) is below


def test_wildcards_are_known_by_their_first_label() -> None:
    assert Name("dns", "*.internal").is_wildcard
    assert not Name("dns", "a.internal").is_wildcard
    assert not Name("uri", "*.internal").is_wildcard


def test_shown_text_cannot_forge_a_line() -> None:
    assert shown("a\r\nlevel=critical \x1b[2J\u202e") == r"'a\r\nlevel=critical \x1b[2J\u202e'"
    assert len(shown("x" * 10_000)) == 82
