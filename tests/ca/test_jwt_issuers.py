"""The table of JWT issuers: what is wrong with it is said with its place, and claims fill places and move nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ca import jwt_issuers
from ca.errors import Problem
from ca.jwt_issuers import Granted, granted, parse
from tests.jwt_issuer import RULE, Issuer

CLUSTER = Issuer(Path("/etc/quicklime/jwks.json"))


def _table(**changes: Any) -> str:
    return json.dumps(CLUSTER.table(**changes))


def _rule(**changes: Any) -> str:
    return _table(rules=[{**RULE, **changes}])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is no JSON"),
        ("{}", "the whole: give a list of issuers"),
        ('[{"name": "a", "name": "b"}]', "a member is there twice"),
        ("[7]", r"\[0\]: give an object with name, issuer"),
        ('[{"name": "k8s"}]', r"\[0\]: issuer, audience, keys, algorithms, rules missing"),
        (_table(subject="x"), r"\[0\]: 'subject' not known"),
        (_table(name="K8s"), r"\[0\].name: 'K8s' is not as it should be: up to 32 lower-case"),
        (_table(issuer=""), r"\[0\].issuer"),
        (_table(audience=["a"]), r"\[0\].audience"),
        (_table(keys="http://issuer.internal/jwks"), r"\[0\].keys: .* the https:// URL"),
        (_table(keys="https://user@issuer.internal/jwks"), r"\[0\].keys"),
        (_table(keys="jwks.json"), r"\[0\].keys"),
        (_table(ca_file="ca.pem"), r"\[0\].ca_file: 'ca.pem' is not as it should be: a file's absolute path"),
        (_table(algorithms=[]), r"\[0\]: give at least one algorithm"),
        (_table(algorithms=["HS256"]), r"\[0\].algorithms\[0\]: 'HS256' .* of RS256"),
        (_table(algorithms=["none"]), r"\[0\].algorithms\[0\]"),
        (_table(algorithms="RS256"), r"\[0\].algorithms: give a list"),
        (_table(rules=[]), r"\[0\]: give at least one algorithm and one rule"),
        (_rule(when=[]), r"\[0\].rules\[0\].when: give an object of claims"),
        (_rule(when={"sub": "x"}), r"\[0\].rules\[0\]: 'sub' .* JSON pointer"),
        (_rule(when={"/sub": True}), r"\[0\].rules\[0\].when./sub\[0\]"),
        (_rule(owner="sub"), r"\[0\].rules\[0\]: 'sub' .* JSON pointer"),
        (_rule(actions=["issue", "destroy"]), r"\[0\].rules\[0\].actions\[1\]: 'destroy' .* of issue, read"),
        (_rule(profiles=["sevrer"]), r"\[0\].rules\[0\].profiles\[0\]"),
        (_rule(profiles=["ocsp-signer"]), r"\[0\].rules\[0\].profiles\[0\]"),
        (_rule(services=["{sub}"]), r"\[0\].rules\[0\].services\[0\]"),
        (_rule(services=["{/sub"]), r"\[0\].rules\[0\].services\[0\]"),
        (_rule(names=["*.internal"]), r"\[0\].rules\[0\].names\[0\]: .* DNS zones"),
        (_rule(names=["{/a~2}.internal"]), r"\[0\].rules\[0\].names\[0\]"),
        (_rule(uris=["spiffe://fleet.example"]), r"\[0\].rules\[0\].uris\[0\]"),
        (_rule(uris=["*"]), r"\[0\].rules\[0\].uris\[0\]"),
        (_rule(ips=["10.0.0.1/8"]), r"\[0\].rules\[0\].ips\[0\]: .* IP ranges"),
        (json.dumps(CLUSTER.table() * 2), "two issuers have the same name"),
        (json.dumps(CLUSTER.table() + CLUSTER.table(name="other")), "two issuers have the same issuer"),
    ],
)
def test_a_wrong_table_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text)


def _grant(claims: dict[str, Any], **rule: Any) -> Granted:
    return granted(parse(_rule(**rule))[0], claims)


def test_claims_fill_the_places_of_a_rule() -> None:
    found = _grant(CLUSTER.claims())
    assert found.owner == "k8s:system:serviceaccount:payments:api"
    assert found.scope == {
        "actions": ("issue", "read", "revoke"), "profiles": ("server",), "services": ("api",), "names": ("api.payments.svc.internal",),
        "uris": ("spiffe://fleet.example/ns/payments/sa/api",), "ips": (),
    }  # fmt: skip


def test_the_first_rule_that_meets_decides() -> None:
    rules = [{**RULE, "when": {"/kubernetes.io/namespace": "mail", "/sub": "a"}, "services": ["first"]}, {**RULE, "services": ["second"]},
             {**RULE, "when": {}, "services": ["*"]}]  # fmt: skip
    (issuer,) = parse(_table(rules=rules))
    services = [
        granted(issuer, CLUSTER.claims(space, sub=sub)).scope["services"] for space, sub in (("mail", "a"), ("mail", "b"), ("x", "a"))
    ]
    assert services == [("first",), ("second",), ("*",)]


@pytest.mark.parametrize("claims", [
    {}, CLUSTER.claims("kube-system"), CLUSTER.claims(**{"kubernetes.io": None}),
    CLUSTER.claims(**{"kubernetes.io": {"namespace": ["mail"]}}),
    {"kubernetes.io/namespace": "mail", "sub": "x"}, {"kubernetes.io": ["mail"], "sub": "x"},
])  # fmt: skip
def test_who_meets_no_rule_is_permitted_nothing(claims: dict[str, Any]) -> None:
    with pytest.raises(Problem, match="forbidden: a JWT of k8s permits nothing here: no rule"):
        _grant(claims)


@pytest.mark.parametrize(
    "value",
    ["*", "", ".", "..", "a.b", "a/b", "-a", "a-", "a b", "a\n", "\u212aa", "é", "{/sub}", "x" * 64, "a\0", 7, None, ["a"], {"a": "b"}],
)
def test_a_claim_is_one_label_or_nothing(value: Any) -> None:
    claims = CLUSTER.claims()
    claims["kubernetes.io"]["serviceaccount"]["name"] = value
    for rule in ({"names": [], "uris": []}, {"services": [], "uris": []}, {"services": [], "names": []}):
        with pytest.raises(Problem, match="forbidden: a JWT of k8s permits nothing here: the claim"):
            _grant(claims, **rule)


@pytest.mark.parametrize("value", ["API", "a_b"])
def test_a_name_is_a_dns_name_with_its_claims(value: str) -> None:
    assert _grant(CLUSTER.claims(account=value), names=[]).scope["services"] == (value,)
    with pytest.raises(Problem, match="the claims make nothing of"):
        _grant(CLUSTER.claims(account=value))


def test_names_and_services_do_not_grow_too_long() -> None:
    with pytest.raises(Problem, match="services may hold"):
        _grant(CLUSTER.claims(account="x" * 60), services=["{/kubernetes.io/serviceaccount/name}.{/kubernetes.io/serviceaccount/name}"])


@pytest.mark.parametrize("sub", ["", None, 7, "a b", "a\n", "é", "x" * 197])
def test_an_owner_is_printable_and_not_too_long(sub: Any) -> None:
    with pytest.raises(Problem, match="the claim /sub, whose"):
        _grant(CLUSTER.claims(sub=sub))
    assert len(_grant(CLUSTER.claims(sub="x" * 196)).owner) == jwt_issuers.MAX_OWNER


def test_an_owner_may_be_another_claim_with_any_name() -> None:
    claims = CLUSTER.claims(**{"https://ci/~owner": "team/app"})
    assert _grant(claims, owner="/https:~1~1ci~1~0owner").owner == "k8s:team/app"
