"""The lint finds every field that is not as planned, and pkilint agrees with every shape of every profile."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ca.pki import der, leaf, lint
from ca.pki.leaf import LeafPlan
from ca.pki.names import Name
from ca.pki.violations import Violation
from ca.profiles import LEAF, PROFILES

from . import forge
from .plans import ALL_KINDS, DNS, NOW, issuer, plan

LEAVES = (*LEAF, "ocsp-signer")


def where(made: LeafPlan, tbs: bytes) -> str:
    with pytest.raises(Violation) as found:
        lint.check(made, tbs)
    assert found.value.code == "lintFailed"
    assert found.value.where.startswith("tbs")
    return found.value.where.removeprefix("tbs").removeprefix(".")


@pytest.mark.parametrize("profile", LEAVES)
@pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519", "RSA-2048"])
def test_what_leaf_builds_passes(profile: str, kind: str) -> None:
    names = ALL_KINDS if PROFILES[profile].requires_name else ()
    for common_name in ("payroll.internal", None) if names else ("OCSP",):
        made = plan(profile, kind, names=names, common_name=common_name)
        tbs = leaf.build(made)
        assert lint.check(made, tbs).tbs == tbs


def test_only_check_makes_linted_bytes() -> None:
    with pytest.raises(TypeError):
        lint.Linted(b"anything", object())
    linted = lint.check(plan(), leaf.build(plan()))
    with pytest.raises(AttributeError):
        linted.tbs = b"other"  # type: ignore[misc]


# --- one test for each field: the bytes say something else than the plan


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("signature", {"issuer": replace(issuer(), signature_algorithm=leaf.SIGNATURE_ALGORITHMS["P-384"])}),
        ("issuer", {"issuer": replace(issuer(), subject=forge.common_name("Issuing 2"))}),
        ("notBefore", {"not_before": NOW - timedelta(seconds=59)}),
        ("notAfter", {"not_after": NOW + timedelta(days=1)}),
        ("serialNumber", {"serial": 2**150}),
        ("subject", {"common_name": "payrol.internal"}),
        ("subject", {"common_name": None}),
        ("subjectPublicKeyInfo", {"spki": forge.spki_of(forge.key("issuer P-256"))}),
        ("subjectPublicKeyInfo", {"spki": forge.spki_of(forge.key("RSA-2048"))}),
        ("extensions[3]", {"issuer": replace(issuer(), key_id=b"another issuer's key")}),
        ("extensions[4]", {"aia_url": "http://evil.example/issuer.der"}),
        ("extensions[4]", {"ocsp_url": "http://evil.example/ocsp"}),
        ("extensions[4]", {"ocsp_url": None}),
        ("extensions[4]", {"aia_url": None, "ocsp_url": None}),
        ("extensions[5]", {"crl_url": "http://pki.internal/crl/issuing-1/4.crl"}),
        ("extensions[5]", {"crl_url": None}),
        ("extensions[2]", {"profile": PROFILES["client"]}),
        ("extensions[2]", {"profile": PROFILES["peer"]}),
        ("extensions[3]", {"profile": replace(PROFILES["server"], no_rev_avail=True)}),
        ("extensions[3]", {"profile": replace(PROFILES["server"], ocsp_no_check=True)}),
        ("extensions[1]", {"profile": replace(PROFILES["server"], key_usage=("digitalSignature", "keyEncipherment"))}),
        ("extensions", {"names": ()}),
        ("subjectAltName", {"names": (Name("dns", "payrol.internal"),)}),
        ("subjectAltName", {"names": (*DNS, Name("dns", "extra.internal"))}),
        ("subjectAltName", {"names": (*DNS, *DNS)}),
        ("subjectAltName", {"names": (Name("uri", "spiffe://fleet.example/payroll"),)}),
    ],
)  # fmt: skip
def test_bytes_of_another_plan(field: str, change: dict[str, object]) -> None:
    assert where(plan(), leaf.build(plan(**change))) == field


def test_names_in_another_order() -> None:
    made = plan(names=ALL_KINDS)
    assert where(made, leaf.build(replace(made, names=ALL_KINDS[::-1]))) == "subjectAltName"


def fields(tbs: bytes) -> list[bytes]:
    return [der.encoded(tbs, field) for field in der.children(tbs, der.whole(tbs))]


def extensions(tbs: bytes) -> list[bytes]:
    inner = fields(tbs)[7]
    (sequence,) = der.children(inner, der.whole(inner, 0xA3))
    return [der.encoded(inner, extension) for extension in der.children(inner, sequence)]


def with_field(index: int, data: bytes) -> Callable[[bytes], bytes]:
    return lambda tbs: der.tlv(0x30, *(data if place == index else field for place, field in enumerate(fields(tbs))))


def with_extensions(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    return lambda tbs: with_field(7, der.tlv(0xA3, der.tlv(0x30, *change(extensions(tbs)))))(tbs)


def put(index: int, data: bytes) -> Callable[[bytes], bytes]:
    return with_extensions(lambda found: [data if place == index else extension for place, extension in enumerate(found)])


_TIMES = (b"\x17\x0d261123115900Z", b"\x17\x0d270221115859Z")


@pytest.mark.parametrize(
    ("field", "tamper"),
    [
        ("version", with_field(0, bytes.fromhex("a003020101"))),
        ("version", with_field(0, bytes.fromhex("a003020103"))),
        ("", with_field(0, b"")),
        ("serialNumber", with_field(1, der.integer(7))),
        ("serialNumber", with_field(1, b"\x02\x01\xff")),
        ("serialNumber", with_field(1, b"\x02\x03\x00\x00\x01")),
        ("", lambda tbs: with_field(1, b"\x02\x15\x00" + fields(tbs)[1][2:])(tbs)),
        ("signature", with_field(2, der.tlv(0x30, der.oid("1.2.840.10045.4.1")))),
        ("signature", with_field(2, der.tlv(0x30, der.oid("1.2.840.10045.4.3.2"), der.tlv(5)))),
        ("issuer", with_field(3, forge.EMPTY_NAME)),
        ("validity", with_field(4, der.tlv(0x30, _TIMES[0], b"\x18\x0f20270221115859Z"))),
        ("validity", with_field(4, der.tlv(0x30, *_TIMES, _TIMES[1]))),
        ("validity", with_field(4, der.tlv(0x30))),
        ("notAfter", with_field(4, der.tlv(0x30, _TIMES[0], b"\x17\x0d270221115900Z"))),
        ("notBefore", with_field(4, der.tlv(0x30, b"\x17\x0d261123115859Z", _TIMES[1]))),
        ("", with_field(4, der.tlv(0x30, _TIMES[0], b"\x17\x0b2702211158Z"))),
        ("", with_field(5, forge.name(("2.5.4.3", 0x13, b"payroll.internal")))),
        ("", with_field(5, forge.name(("2.5.4.3", 0x0C, b"payroll.internal"), ("2.5.4.10", 0x0C, b"Evil")))),
        ("subject", with_field(5, forge.name(("2.5.4.10", 0x0C, b"payroll.internal")))),
        ("", with_field(5, forge.name(("2.5.4.3", 0x0C, b"\xff")))),
        ("subjectPublicKeyInfo", with_field(6, forge.spki_of(forge.key("Ed25519")))),
        ("", lambda tbs: with_field(7, b"\x81\x02\x00\x01" + fields(tbs)[7])(tbs)),  # an issuerUniqueID
        ("", with_field(7, b"")),
        ("", lambda tbs: tbs + b"\0"),
        ("", lambda tbs: tbs[:-1]),
        ("", lambda tbs: b""),
        ("extensions[0]", put(0, forge.extension(forge.BASIC_CONSTRAINTS, bytes.fromhex("30030101ff"), critical=True))),
        ("extensions[0]", put(0, forge.extension(forge.BASIC_CONSTRAINTS, bytes.fromhex("3000")))),
        ("extensions[0]", put(0, forge.extension(forge.BASIC_CONSTRAINTS, bytes.fromhex("3003010100"), critical=True))),
        ("extensions[1]", put(1, forge.extension(forge.KEY_USAGE, bytes.fromhex("03020780")))),
        ("extensions[1]", put(1, forge.extension(forge.KEY_USAGE, bytes.fromhex("03020284"), critical=True))),
        ("extensions[1]", put(1, forge.extension(forge.KEY_USAGE, bytes.fromhex("03020080"), critical=True))),
        ("extensions[2]", put(2, forge.extension(forge.EXT_KEY_USAGE, bytes.fromhex("30060604551d2500")))),
        ("extensions[2]", put(2, forge.extension(forge.EXT_KEY_USAGE, bytes.fromhex("300a06082b06010505070301"), critical=True))),
        ("extensions[3]", put(3, forge.extension("2.5.29.35", bytes.fromhex("3000")))),
        ("extensions[6]", put(6, forge.extension("2.5.29.14", b"\x04\x14" + b"someone else's key!!"))),
        ("extensions[5]", put(5, b"")),
        ("extensions[5]", put(5, forge.extension("2.5.29.31", bytes.fromhex("3000")))),
        ("subjectAltName", put(7, forge.san(forge.dns("payroll.internal"), critical=True))),
        ("subjectAltName", put(7, forge.extension("2.5.29.18", der.tlv(0x30, forge.dns("payroll.internal"))))),
        ("extensions", with_extensions(lambda found: [*found, forge.extension("2.5.29.31", b"\x30\x00")])),
        ("extensions", with_extensions(lambda found: [*found, found[7]])),
        ("extensions[0]", with_extensions(lambda found: found[::-1])),
        ("extensions[3]", with_extensions(lambda found: [*found[:3], *found[4:]])),
        ("extensions", with_extensions(lambda found: found[:3])),
    ],
)  # fmt: skip
def test_tampered_bytes(field: str, tamper: Callable[[bytes], bytes]) -> None:
    made = plan()
    tampered = tamper(leaf.build(made))
    assert tampered != leaf.build(made)
    assert where(made, tampered) == field


def test_a_name_that_breaks_the_rules_is_found_though_it_was_planned() -> None:
    for name in ("a_b.internal", "a.internal.", "A.internal", "10.0.0.1"):
        made = plan(names=(Name("dns", name),), common_name=None)
        with pytest.raises(Violation):
            lint.check(made, leaf.build(made))


def test_critical_names_without_a_subject() -> None:
    made = plan(common_name=None)
    assert where(made, put(7, forge.san(forge.dns("payroll.internal")))(leaf.build(made))) == "subjectAltName"


def test_every_single_flipped_bit_is_found() -> None:
    """No bit of a certificate is without meaning."""
    made = plan(names=ALL_KINDS)
    tbs = leaf.build(made)
    for place in range(len(tbs)):
        mutant = bytearray(tbs)
        mutant[place] ^= 1 << place % 8
        with pytest.raises(Violation):
            lint.check(made, bytes(mutant))


# --- plans that no certificate may follow


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("serialNumber", {"serial": 0}),
        ("serialNumber", {"serial": 1}),
        ("serialNumber", {"serial": 2**63 - 1}),
        ("serialNumber", {"serial": 2**159}),
        ("validity", {"not_after": NOW - timedelta(days=1)}),
        ("validity", {"not_after": NOW - timedelta(minutes=1)}),
        ("validity", {"not_after": NOW - timedelta(minutes=1) + PROFILES["server"].maximum}),
        ("validity", {"issuer": replace(issuer(), not_after=NOW)}),
        ("validity", {"issuer": replace(issuer(), not_before=NOW)}),
        ("subjectPublicKeyInfo", {"profile": replace(PROFILES["server"], key_kinds=("Ed25519",))}),
        ("subject", {"names": (), "common_name": None}),
    ],
)
def test_plans_that_break_their_profile_or_issuer(field: str, change: dict[str, object]) -> None:
    made = plan(**change)
    assert where(made, leaf.build(plan())) == field


def test_the_longest_life_is_inclusive() -> None:
    made = plan(not_after=NOW - timedelta(minutes=1) + PROFILES["server"].maximum - timedelta(seconds=1))
    lint.check(made, leaf.build(made))


# --- shapes


def test_a_shape_is_what_pkilint_judges_alike() -> None:
    shard = "http://pki.internal/crl/issuing-1/17.crl"
    one, two = plan(), plan(serial=2**100, names=(Name("dns", "other.internal"),), common_name="other.internal", crl_url=shard)
    assert lint.shape_of(one) == lint.shape_of(two)
    assert len(lint.shape_of(one).key) == 64
    others = [
        plan("peer"),
        plan(profile=replace(PROFILES["server"], version=2)),
        plan(issuer=replace(issuer(), name="issuing-2")),
        plan(issuer=replace(issuer(), key_id=bytes(20))),
        plan(kind="P-384"),
        plan(names=ALL_KINDS),
        plan(names=(Name("dns", "*.internal"),)),
        plan(common_name=None),
        plan(ocsp_url=None),
        plan(crl_url=None),
        plan(crl_url="http://pki.internal/crl/issuing-1.crl"),
        plan(aia_url="http://elsewhere.internal/a"),
        plan(not_after=datetime(2050, 1, 1, tzinfo=UTC)),
    ]
    keys = {lint.shape_of(made).key for made in others} | {lint.shape_of(one).key, lint.shape_of(one, "next version").key}
    assert len(keys) == len(others) + 2


def test_linter_version_holds_pkilints() -> None:
    assert lint.LINTER_VERSION.startswith("1/pkilint-0.")


# --- pkilint

_NAMES = [*((name,) for name in ALL_KINDS), ALL_KINDS, (Name("dns", "localhost"),), (Name("dns", "xn--bcher-kva.internal"),)]


@pytest.mark.parametrize("profile", LEAVES)
@pytest.mark.parametrize("base", ["http://pki.internal", "http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"])
def test_every_shape_of_every_profile_passes_pkilint(profile: str, base: str) -> None:
    places = {"aia_url": f"{base}/issuers/issuing-1.der", "ocsp_url": f"{base}/ocsp", "crl_url": f"{base}/crl/issuing-1/3.crl"}
    for kind, names in itertools.product(("P-256", "P-384", "Ed25519", "RSA-2048"), _NAMES if PROFILES[profile].requires_name else [()]):
        for common_name in (None, names[0].value) if names else ("OCSP",):
            made = plan(profile, kind, names=names, common_name=common_name, **places)
            assert lint.pkilint_findings(made) == [], (profile, kind, names)


@pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519", "RSA-2048"])
def test_every_kind_of_issuer_passes_pkilint(kind: str) -> None:
    assert lint.pkilint_findings(plan(issuer=issuer(kind))) == []


def test_generalized_time_passes_pkilint() -> None:
    assert lint.pkilint_findings(plan(not_before=datetime(2049, 12, 1, tzinfo=UTC), not_after=datetime(2050, 2, 1, tzinfo=UTC))) == []


@pytest.mark.parametrize(
    ("code", "tamper"),
    [
        ("key_cert_sign|keycertsign|ca_", put(0, forge.extension(forge.BASIC_CONSTRAINTS, bytes.fromhex("30030101ff"), critical=True))),
        ("pkix.authority_key_identifier_extension_absent", with_extensions(lambda found: [*found[:3], *found[4:]])),
        ("pkix.extension_unparsable|decod|invalid", put(7, forge.extension(forge.SAN, b"\x30\x05junk!"))),
        ("pkix.duplicate_extension|duplicate", with_extensions(lambda found: [*found, found[7]])),
        ("san|subject_alternative_name", with_field(5, forge.EMPTY_NAME)),
        ("domain_name", put(7, forge.san(forge.dns("a..internal")))),
        ("serial", with_field(1, b"\x02\x01\xff")),
    ],
)  # fmt: skip
def test_pkilint_finds_what_is_wrong(code: str, tamper: Callable[[bytes], bytes]) -> None:
    tbs = tamper(leaf.build(plan()))
    found = lint.findings(leaf.assemble(tbs, issuer(), b"\0" * 71))
    assert any(part in finding for finding in found for part in code.split("|")), found


def test_the_allowance_is_for_judged_values_only() -> None:
    """A wildcard and a SPIFFE ID pass by name, anything else with the same code does not."""
    made = plan(names=ALL_KINDS, common_name=None)
    certificate = leaf.assemble(leaf.build(made), issuer(), b"\0" * 71)
    blocked = lint.findings(certificate)
    assert {finding.split(" at ")[0] for finding in blocked} == set(lint.ALLOWED)
    assert len(lint.findings(certificate, {"*.payroll.internal"})) == len(blocked) - 1
    assert lint.findings(certificate, {"*.payroll.internal", "spiffe://fleet.example/a"}) == []


def test_a_url_that_is_none_is_not_allowed() -> None:
    for url in ("ftp://localhost/a", "http://user@localhost/a", "http://under_score/a", "http://"):
        assert lint.pkilint_findings(plan(aia_url=url)) != []


def test_pkilint_needs_a_plan_that_passes_check() -> None:
    with pytest.raises(Violation):
        lint.pkilint_findings(plan(serial=1))
