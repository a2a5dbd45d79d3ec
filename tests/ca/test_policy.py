"""Who may have which certificate: each rule, each boundary, each code and place."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_network
from typing import Any

import pytest

from ca.errors import Problem
from ca.pki.csr import ParsedCSR, parse
from ca.pki.names import Name
from ca.policy import ACTIONS, Decision, Grant, Site, Wanted, decide, lifetime_end, require
from ca.profiles import LEAF, PROFILES
from tests.material import csr

NOW = datetime(2026, 11, 23, 12, 0, 0, 654321, tzinfo=UTC)
START = datetime(2026, 11, 23, 11, 59, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SITE = Site(
    zones=("internal", "fleet.example"),
    ip_ranges=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
    trust_domains=("fleet.example",),
)
ANYTHING = Grant(
    token="t1", owner="alice", actions=ACTIONS, names=("*",), profiles=("*",), services=("*",), wildcards=True,
    uris=("spiffe://fleet.example",), ips=("*",), expires_at=None, revoked_at=None,
)  # fmt: skip
NOTHING = replace(ANYTHING, actions=(), names=(), profiles=(), services=(), wildcards=False, uris=(), ips=())
SERVER = Wanted(profile="server", service="payroll", node="n1", not_after=None)
_BASE = parse(csr("payroll.internal"))


def asked(*names: str, common_name: str | None = None) -> ParsedCSR:
    """A parsed request for names in canonical form."""
    return replace(_BASE, names=tuple(Name.parse(name) for name in names), common_name=common_name)


def decided(request: ParsedCSR = _BASE, wanted: Wanted = SERVER, grant: Grant = ANYTHING, site: Site = SITE) -> Decision:
    return decide(request, wanted, grant, site, NOW)


def refusal(*arguments: Any, **named: Any) -> tuple[str, str]:
    with pytest.raises(Problem) as found:
        decided(*arguments, **named)
    assert found.value.detail.isascii()
    assert found.value.detail.isprintable()
    return found.value.code, found.value.where


# --- tokens


@pytest.mark.parametrize("action", ACTIONS)
def test_a_token_may_do_what_it_names(action: str) -> None:
    require(replace(NOTHING, actions=(action,)), action, NOW)
    for other in set(ACTIONS) - {action}:
        with pytest.raises(Problem, match="forbidden"):
            require(replace(NOTHING, actions=(action,)), other, NOW)


@pytest.mark.parametrize("action", ["", "*", "Issue", "sign", "admin"])
def test_unknown_actions_are_denied_even_if_granted(action: str) -> None:
    with pytest.raises(Problem, match="forbidden"):
        require(replace(NOTHING, actions=(action,)), action, NOW)


def test_a_token_ends_with_its_expiry() -> None:
    require(replace(ANYTHING, expires_at=NOW + timedelta(microseconds=1)), "issue", NOW)
    for moment in (NOW, NOW - SECOND):
        with pytest.raises(Problem, match="tokenExpired"):
            require(replace(ANYTHING, expires_at=moment), "issue", NOW)


def test_a_revoked_token_is_dead_whatever_else_it_says() -> None:
    with pytest.raises(Problem, match="tokenRevoked"):
        require(replace(ANYTHING, revoked_at=NOW + timedelta(days=1), expires_at=NOW), "issue", NOW)


# --- profile, service, node, key


@pytest.mark.parametrize("profile", LEAF)
def test_leaf_profiles(profile: str) -> None:
    assert decided(wanted=replace(SERVER, profile=profile)).profile is PROFILES[profile]
    assert decided(wanted=replace(SERVER, profile=profile), grant=replace(ANYTHING, profiles=(profile,))).profile.name == profile


@pytest.mark.parametrize("profile", ["", "*", "Server", "server\n", "ocsp-signer", "intermediate", "root", "\u202eserver"])
def test_other_profiles(profile: str) -> None:
    grant = replace(ANYTHING, profiles=("*", profile))
    assert refusal(wanted=replace(SERVER, profile=profile), grant=grant) == ("profileUnknown", "profile")


def test_profiles_that_the_token_lacks() -> None:
    for scope in ((), ("client", "peer"), ("serve",)):
        assert refusal(grant=replace(ANYTHING, profiles=scope)) == ("profileForbidden", "profile")


@pytest.mark.parametrize("text", ["a b", "a\n", "\n", "a/b", "<b>", "=1+1", "a" * 101, "\u00e4", "a\0", "a\u202e"])
@pytest.mark.parametrize("field", ["service", "node"])
def test_services_and_nodes_are_plain_words(field: str, text: str) -> None:
    assert refusal(wanted=replace(SERVER, **{field: text})) == (f"{field}Invalid", field)


@pytest.mark.parametrize("text", ["", "a", "A-1_b.c", "a" * 100])
def test_good_services_and_nodes(text: str) -> None:
    decided(wanted=replace(SERVER, service=text, node=text))


def test_services_that_the_token_lacks() -> None:
    decided(grant=replace(ANYTHING, services=("billing", "payroll")))
    for scope in ((), ("billing",), ("payrol",), ("payroll2",), ("Payroll",)):
        assert refusal(grant=replace(ANYTHING, services=scope)) == ("serviceForbidden", "service")
    assert refusal(wanted=replace(SERVER, service=""), grant=replace(ANYTHING, services=("payroll",)))[0] == "serviceForbidden"


def test_key_kind_must_be_the_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    from ca import policy

    narrow = {"server": replace(PROFILES["server"], key_kinds=("Ed25519",))}
    monkeypatch.setattr(policy, "PROFILES", narrow)
    assert refusal() == ("keyKindForbidden", "csr.key")


# --- names


def test_what_is_granted_is_what_was_asked() -> None:
    request = asked(
        "dns:a.internal", "dns:*.a.internal", "ip:10.1.2.3", "ip:fd00::1", "uri:spiffe://fleet.example/a", common_name="a.internal"
    )
    decision = decided(request)
    assert decision.names == request.names
    assert decision.common_name == "a.internal"


@pytest.mark.parametrize(
    "name",
    [
        "dns:evil.example",
        "dns:evilinternal",
        "dns:internal.evil.example",
        "dns:example",
        "dns:evilfleet.example",
        "dns:*.example",
        "dns:*.com",
    ],
)
def test_names_outside_the_zones(name: str) -> None:
    assert refusal(asked(name)) == ("nameOutsideZones", "names[0]")


@pytest.mark.parametrize(
    "name", ["dns:internal", "dns:a.b.c.internal", "dns:*.internal", "dns:fleet.example", "dns:xn--bcher-kva.internal"]
)
def test_names_below_the_zones(name: str) -> None:
    decided(asked(name))


@pytest.mark.parametrize("bad", ["dns:evil.example", "dns:b.internal", "ip:192.0.2.1", "ip:10.2.0.1", "uri:spiffe://evil.example/a"])
@pytest.mark.parametrize("place", range(4))
def test_each_of_many_names_is_checked(place: int, bad: str) -> None:
    """Let's Encrypt's CAA bug of 2020 checked one of N names N times."""
    names = ["dns:a.internal", "ip:10.1.0.1", "dns:c.a.internal", "dns:d.a.internal"]
    grant = replace(ANYTHING, names=("a.internal",), ips=("10.1.0.0/16",))
    decided(asked(*names), grant=grant)
    names[place] = bad
    assert refusal(asked(*names), grant=grant)[1] == f"names[{place}]"


def test_scope_of_names() -> None:
    grant = replace(ANYTHING, names=("payroll.internal", "b.internal"))
    for name in ("dns:payroll.internal", "dns:x.payroll.internal", "dns:*.payroll.internal", "dns:b.internal"):
        decided(asked(name), grant=grant)
    for name in ("dns:internal", "dns:*.internal", "dns:evilpayroll.internal", "dns:payroll.fleet.example"):
        assert refusal(asked(name), grant=grant) == ("nameForbidden", "names[0]")


def test_no_scope_reaches_beyond_the_zones() -> None:
    assert refusal(asked("dns:evil.example"), grant=replace(ANYTHING, names=("*", "evil.example"))) == ("nameOutsideZones", "names[0]")


def test_wildcards_by_permission_of_token_and_profile() -> None:
    decided(asked("dns:*.internal"))
    assert refusal(asked("dns:*.internal"), grant=replace(ANYTHING, wildcards=False)) == ("wildcardForbidden", "names[0]")
    assert refusal(asked("dns:*.internal"), wanted=replace(SERVER, profile="client")) == ("wildcardForbidden", "names[0]")


@pytest.mark.parametrize("name", ["ip:11.0.0.0", "ip:9.255.255.255", "ip:127.0.0.1", "ip:169.254.169.254", "ip:fe80::1", "ip:fc00::1"])
def test_addresses_outside_the_ranges(name: str) -> None:
    assert refusal(asked(name)) == ("ipOutsideRanges", "names[0]")


def test_scope_of_addresses() -> None:
    grant = replace(ANYTHING, ips=("10.1.0.0/16", "fd00:1::/32", "192.0.2.0/24"))
    for name in ("ip:10.1.0.0", "ip:10.1.255.255", "ip:fd00:1::5"):
        decided(asked(name), grant=grant)
    for name in ("ip:10.2.0.0", "ip:10.0.255.255", "ip:fd00:2::1"):
        assert refusal(asked(name), grant=grant) == ("ipForbidden", "names[0]")
    assert refusal(asked("ip:192.0.2.1"), grant=grant)[0] == "ipOutsideRanges"
    assert refusal(asked("ip:10.1.0.1"), grant=replace(ANYTHING, ips=()))[0] == "ipForbidden"


def test_spiffe_ids_by_trust_domain_and_prefix() -> None:
    grant = replace(ANYTHING, uris=("spiffe://fleet.example/ns/prod/", "spiffe://fleet.example/one"))
    for path in ("ns/prod/a", "ns/prod/a/b", "one", "one/two"):
        decided(asked(f"uri:spiffe://fleet.example/{path}"), grant=grant)
    for path in ("ns/production", "ns/prod", "onetwo", "other"):
        assert refusal(asked(f"uri:spiffe://fleet.example/{path}"), grant=grant) == ("uriForbidden", "names[0]")
    assert refusal(asked("uri:spiffe://evil.example/ns/prod/a")) == ("uriOutsideTrustDomains", "names[0]")
    assert refusal(asked("uri:spiffe://fleet.example/a"), grant=replace(ANYTHING, uris=("*",))) == ("uriForbidden", "names[0]")
    assert refusal(asked("uri:spiffe://fleet.example.evil/a"), grant=grant)[0] == "uriOutsideTrustDomains"


def test_one_spiffe_id_at_most() -> None:
    request = asked("uri:spiffe://fleet.example/a", "uri:spiffe://fleet.example/b")
    assert refusal(request) == ("urisTooMany", "names")


def test_a_certificate_names_something() -> None:
    assert refusal(asked()) == ("namesMissing", "names")
    assert refusal(asked(common_name="payroll.internal")) == ("namesMissing", "names")


@pytest.mark.parametrize(
    ("common_name", "granted"),
    [("payroll.internal", "payroll.internal"), ("Payroll.Internal", "payroll.internal"), ("10.0.0.1", "10.0.0.1"), (None, None)],
)
def test_common_names_that_repeat_a_name(common_name: str | None, granted: str | None) -> None:
    assert decided(asked("dns:payroll.internal", "ip:10.0.0.1", common_name=common_name)).common_name == granted


@pytest.mark.parametrize(
    "common_name",
    [
        "payroll",
        "internal",
        "evil.example",
        "payroll.internal.",
        " payroll.internal",
        "\u212aafka.internal",
        "p\u0430yroll.internal",
        "Alice",
    ],
)
def test_other_common_names(common_name: str) -> None:
    request = asked("dns:payroll.internal", "dns:kafka.internal", common_name=common_name)
    assert refusal(request) == ("commonNameNotInNames", "csr.subject")


# --- validity


@pytest.mark.parametrize("profile", LEAF)
def test_the_default_life_is_whole_days_inclusive(profile: str) -> None:
    decision = decided(wanted=replace(SERVER, profile=profile))
    assert decision.not_before == START
    assert decision.not_after - decision.not_before + SECOND == PROFILES[profile].default
    assert decision.not_after.microsecond == 0


@pytest.mark.parametrize("profile", LEAF)
def test_the_longest_life_and_one_second_more(profile: str) -> None:
    """One second too long was an incident of its own (Mozilla bug 1715455)."""
    last = START + PROFILES[profile].maximum - SECOND
    assert decided(wanted=Wanted(profile, "", "", last)).not_after == last
    assert refusal(wanted=Wanted(profile, "", "", last + SECOND)) == ("validityTooLong", "not_after")


def test_days_asked_for_in_time_are_granted_in_full() -> None:
    """Asked at the door, decided a little later: the longest life still fits."""
    short = PROFILES["short-lived"]
    end = lifetime_end(timedelta(days=7), short, NOW - timedelta(minutes=10))
    assert decided(wanted=Wanted("short-lived", "", "", end)).not_after == end
    assert lifetime_end(timedelta(days=7), short, NOW) == START + timedelta(days=7) - SECOND


def test_the_end_lies_in_the_future() -> None:
    soon = NOW.replace(microsecond=0) + SECOND
    assert decided(wanted=replace(SERVER, not_after=soon)).not_after == soon
    for moment in (NOW.replace(microsecond=0), START, datetime(1970, 1, 1, tzinfo=UTC)):
        assert refusal(wanted=replace(SERVER, not_after=moment)) == ("validityPast", "not_after")


def test_the_end_is_a_whole_second_with_a_zone() -> None:
    assert refusal(wanted=replace(SERVER, not_after=NOW + timedelta(days=1))) == ("validityInvalid", "not_after")
    assert refusal(wanted=replace(SERVER, not_after=datetime(2026, 12, 1))) == ("validityInvalid", "not_after")


def test_another_zone_means_the_same_moment() -> None:
    asked_for = datetime(2026, 12, 1, 2, 0, 0, tzinfo=timezone(timedelta(hours=2)))
    granted = decided(wanted=replace(SERVER, not_after=asked_for)).not_after
    assert (granted.tzinfo, granted) == (UTC, datetime(2026, 12, 1, tzinfo=UTC))


def test_the_end_of_time() -> None:
    assert refusal(wanted=replace(SERVER, not_after=datetime.max.replace(microsecond=0, tzinfo=UTC)))[0] == "validityTooLong"
