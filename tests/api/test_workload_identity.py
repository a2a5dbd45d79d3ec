"""JWTs of configured issuers as bearer tokens: a workload gets its own names, and nobody gets anything by a JWT that is not right."""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey

from ca import issuance, jwks, jwt_issuers, tokens
from ca.models import Request, State, Token
from eventlog.models import Event
from tests.jwt_issuer import ISSUER, RULE, Issuer, part, rsa_key, signed

from .conftest import Caller, code

pytestmark = pytest.mark.django_db
OWN = "api.payments.svc.internal"


@pytest.fixture
def cluster(tmp_path: Path, settings: Any) -> Issuer:
    issuer = Issuer(tmp_path / "jwks.json")
    issuer.rotate("2026-01")
    settings.JWT_ISSUERS = jwt_issuers.parse(json.dumps(issuer.table()))
    return issuer


@pytest.fixture
def pod(cluster: Issuer, db: None) -> Caller:
    return Caller(cluster.jwt())


def later(cluster: Issuer, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time has come to look at the issuer's keys anew."""
    keys = jwks.of(settings.JWT_ISSUERS[0])
    now = keys._clock() + jwks.FRESH + 1
    monkeypatch.setattr(keys, "_clock", lambda: now)


# --- what it grants


def test_a_pod_gets_the_names_of_its_own_service(hierarchy: None, pod: Caller, cluster: Issuer, run_pipeline: Callable[[], None]) -> None:
    answer = pod.submit(OWN, "spiffe://fleet.example/ns/payments/sa/api", service="api", node="api-0")
    assert answer.status_code == 202
    run_pipeline()
    request = pod.get(f"requests/{answer.json()['id']}/").json()
    assert request["status"] == "issued", request
    assert request["certificate"]["owner"] == "k8s:system:serviceaccount:payments:api"
    assert "revocation_secret" in request["certificate"]
    again = Caller(cluster.jwt())
    assert again.get(f"certificates/{request['certificate']['serial']}/").status_code == 200, "its next JWT is the same owner's"
    assert again.post(f"certificates/{request['certificate']['serial']}/revoke/", {}).status_code == 200


@pytest.mark.parametrize(
    ("names", "fields", "expected"),
    [
        (["web.payments.svc.internal"], {"service": "api"}, "nameForbidden"),
        (["api.mail.svc.internal"], {"service": "api"}, "nameForbidden"),
        (["payments.svc.internal"], {"service": "api"}, "nameForbidden"),
        (["*." + OWN], {"service": "api"}, "wildcardForbidden"),
        ([OWN, "10.0.0.1"], {"service": "api"}, "ipForbidden"),
        (["spiffe://fleet.example/ns/payments/sa/api2"], {"service": "api"}, "uriForbidden"),
        ([OWN], {"service": "web"}, "serviceForbidden"),
        ([OWN], {}, "serviceForbidden"),
        ([OWN], {"service": "api", "profile": "client"}, "profileForbidden"),
    ],
)
def test_and_nothing_beside(pod: Caller, names: list[str], fields: dict[str, str], expected: str) -> None:
    answer = pod.submit(*names, **fields)
    assert (answer.status_code, code(answer)) == (422, expected)


def test_another_pod_sees_nothing_of_it(issued: dict[str, Any], pod: Caller, cluster: Issuer) -> None:
    serial = issued["certificate"]["serial"]
    assert pod.get(f"certificates/{serial}/").status_code == 404
    assert pod.get("certificates/").json()["results"] == []
    assert pod.post(f"certificates/{serial}/revoke/", {}).status_code == 404
    assert pod.get("/log/entries").status_code == 403


def test_its_right_is_written_down_once_and_no_secret_with_it(pod: Caller) -> None:
    assert [pod.get("certificates/").status_code for _ in range(3)] == [200] * 3
    (event,) = Event.objects.filter(type="token.created")
    data = json.loads(bytes(event.body))["data"]
    claims = json.loads(urlsafe_b64decode(str(pod.secret).split(".")[1] + "=="))
    assert (data["label"], data["by"], data["names"], data["wildcards"]) == ("JWT of k8s", "JWT of k8s", [OWN], False)
    assert datetime.fromisoformat(data["expires_at"]) == datetime.fromtimestamp(claims["exp"], UTC)
    assert str(pod.secret).rpartition(".")[2].encode() not in bytes(event.body)


def test_a_verified_stranger_is_told_that_no_rule_is_for_him(cluster: Issuer, nobody: Caller) -> None:
    answer = Caller(cluster.jwt(cluster.claims("kube-system"))).get("certificates/")
    assert (answer.status_code, code(answer)) == (403, "forbidden")
    assert not Token.objects.exists()


# --- revoked, expired, changed


def test_what_it_stands_for_can_be_revoked_and_is_looked_at_where_the_key_is_used(
    hierarchy: None, pod: Caller, now: datetime, run_pipeline: Callable[[], None]
) -> None:
    asked = pod.submit(OWN, service="api").json()["id"]
    tokens.revoke(Token.objects.get(label="JWT of k8s").id, now, by="test", why="the node was taken")
    run_pipeline()
    row = Request.objects.get(id=asked)
    assert (row.state, (row.error or {})["code"]) == (State.REJECTED, "tokenRevoked")
    assert code(pod.get("certificates/")) == "tokenInvalid"
    assert code(pod.submit(OWN, service="api")) == "tokenRevoked"


def test_it_ends_with_the_jwt_at_the_door_and_where_the_key_is_used(hierarchy: None, pod: Caller, now: datetime, other_time: None) -> None:
    from uuid import uuid4

    asked = pod.submit(OWN, service="api").json()["id"]
    batch = uuid4()
    issuance.validate(batch, now)
    issuance.sign(batch, now + timedelta(hours=2))
    row = Request.objects.get(id=asked)
    assert (row.state, (row.error or {})["code"]) == (State.REJECTED, "tokenRevoked")


def test_a_rule_that_changed_ends_what_it_granted(pod: Caller, cluster: Issuer, settings: Any) -> None:
    assert pod.get("certificates/").status_code == 200
    settings.JWT_ISSUERS = jwt_issuers.parse(json.dumps(cluster.table(rules=[{**RULE, "names": []}])))
    assert code(pod.get("certificates/")) == "tokenInvalid"
    settings.JWT_ISSUERS = ()
    assert code(pod.get("certificates/")) == "tokenInvalid"


def test_keys_rotate(cluster: Issuer, settings: Any, monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    first = Caller(cluster.jwt())
    assert first.get("certificates/").status_code == 200
    cluster.rotate("2026-02", key=rsa_key())
    later(cluster, settings, monkeypatch)
    second = Caller(cluster.jwt())
    assert second.get("certificates/").status_code == 200, "a new key, of another kind, is found at its first use"
    assert first.get("certificates/").status_code == 200, "while the old one is still published"
    cluster.rotate("2026-03", keep=False)
    later(cluster, settings, monkeypatch)
    assert Caller(cluster.jwt()).get("certificates/").status_code == 200
    assert code(first.get("certificates/")) == code(second.get("certificates/")) == "tokenInvalid"


def test_keys_that_cannot_be_had_are_503_and_no_wrong_token(cluster: Issuer, settings: Any, tmp_path: Path, alice: Caller) -> None:
    settings.JWT_ISSUERS = jwt_issuers.parse(json.dumps(cluster.table(keys=str(tmp_path / "not-there.json"))))
    for _ in range(25):
        answer = Caller(cluster.jwt()).get("certificates/")
        assert (answer.status_code, code(answer)) == (503, "unavailable")
        assert int(answer["Retry-After"]) == jwks.AGAIN
    assert alice.get("certificates/").status_code == 200, "everybody else gets in"


# --- attacks


def _now() -> int:
    return int(time.time())


CLAIMS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.example"},
    "issuer with a slash": {"iss": ISSUER + "/"},
    "issuers": {"iss": [ISSUER]},
    "another audience": {"aud": ["https://api.other"]},
    "audience as part": {"aud": "https://ca.internal.evil.example"},
    "no audience": {"aud": None},
    "audience as object": {"aud": {"https://ca.internal": True}},
    "expired": {"exp": _now() - 1},
    "no end": {"exp": None},
    "end as text": {"exp": str(_now() + 60)},
    "end as truth": {"exp": True},
    "never ends": {"exp": _now() + 366 * 86400},
    "ends in no year": {"exp": 10**400},
    "not a number": {"exp": float("nan")},
    "infinite": {"exp": float("inf")},
    "not yet": {"nbf": _now() + 600},
    "made in the future": {"iat": _now() + 600},
    "not before as text": {"nbf": "0"},
}


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_that_are_not_right(cluster: Issuer, name: str, nobody: Caller) -> None:
    _refused(cluster.jwt(cluster.claims(**CLAIMS[name])))


def _refused(jwt: str) -> None:
    answer = Caller(jwt).get("certificates/")
    assert (answer.status_code, code(answer)) == (401, "tokenInvalid")
    assert not Token.objects.filter(label__startswith="JWT").exists()
    assert "2026-01" not in answer.content.decode()


def _hmac(issuer: Issuer, algorithm: str) -> str:
    """The public key, which everybody has, as the secret of an HMAC. joserfc refuses to make one."""
    (key,) = issuer.keys.values()
    words = f"{part({'alg': algorithm, 'kid': '2026-01'})}.{part(issuer.claims())}"
    mac = hmac.digest(key.as_pem(private=False), words.encode(), "sha256")  # type: ignore[union-attr]
    return f"{words}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def _own(issuer: Issuer) -> ECKey:
    return ECKey.generate_key("P-256")


FORGED: dict[str, Callable[[Issuer], str]] = {
    "none": lambda issuer: f"{part({'alg': 'none', 'kid': '2026-01'})}.{part(issuer.claims())}.",
    "none with something": lambda issuer: f"{part({'alg': 'none', 'kid': '2026-01'})}.{part(issuer.claims())}.AA",
    "NONE": lambda issuer: f"{part({'alg': 'nOnE', 'kid': '2026-01'})}.{part(issuer.claims())}.AA",
    "the public key as a secret": lambda issuer: _hmac(issuer, "HS256"),
    "and said to be ES256": lambda issuer: _hmac(issuer, "ES256"),
    "another key": lambda issuer: signed({"alg": "ES256", "kid": "2026-01"}, issuer.claims(), _own(issuer)),
    "an unknown key": lambda issuer: signed({"alg": "ES256", "kid": "mine"}, issuer.claims(), _own(issuer)),
    "a path as kid": lambda issuer: signed({"alg": "ES256", "kid": "../../../dev/null"}, issuer.claims(), _own(issuer)),
    "a list as kid": lambda issuer: issuer.jwt(kid=["2026-01"]),
    "no kid": lambda issuer: issuer.jwt(kid=None),
    "its own key in the header": lambda issuer: _with_key(issuer, "jwk"),
    "its own key by reference": lambda issuer: _with_key(issuer, "jku"),
    "critical": lambda issuer: issuer.jwt(crit=["b64"], b64=True),
    "unencoded": lambda issuer: issuer.jwt(crit=["b64"], b64=False),
    "no signature": lambda issuer: issuer.jwt().rpartition(".")[0] + ".",
    "half a signature": lambda issuer: issuer.jwt()[:-43],
    "a zero signature": lambda issuer: issuer.jwt().rpartition(".")[0] + "." + "A" * 86,
    "other words": lambda issuer: _swapped(issuer, issuer.claims(account="web")),
    "words alone": lambda issuer: issuer.jwt().rpartition(".")[0],
    "five parts": lambda issuer: issuer.jwt() + ".AA.AA",
    "no claims": lambda issuer: issuer.jwt("text"),
    "a list": lambda issuer: issuer.jwt([issuer.claims()]),
    "two subjects": lambda issuer: issuer.jwt(json.dumps(issuer.claims())[:-1] + ', "sub": "system:admin"}'),
    "deep": lambda issuer: issuer.jwt("[" * 4000),
    "another algorithm of the kind": lambda issuer: issuer.jwt(alg="ES384"),
}


def _with_key(issuer: Issuer, member: str) -> str:
    key = _own(issuer)
    value = key.as_dict(private=False) if member == "jwk" else "https://127.0.0.1:9/jwks"
    return signed({"alg": "ES256", "kid": "2026-01", member: value}, issuer.claims(), key)


def _swapped(issuer: Issuer, claims: dict[str, Any]) -> str:
    head, _, signature = issuer.jwt().split(".")
    return f"{head}.{part(claims)}.{signature}"


@pytest.mark.parametrize("name", FORGED)
def test_forged(cluster: Issuer, name: str, nobody: Caller) -> None:
    _refused(FORGED[name](cluster))


def test_pss_is_not_pkcs1_though_the_key_would_do(cluster: Issuer, nobody: Caller) -> None:
    cluster.rotate("2026-01", keep=False, key=rsa_key())
    _refused(signed({"alg": "PS256", "kid": "2026-01"}, cluster.claims(), rsa_key()))


def test_another_signature_of_the_same_words_is_the_same_token(pod: Caller) -> None:
    """An ECDSA signature (r, s) has a twin (r, n - s), and base64 has more than one spelling."""
    assert pod.get("certificates/").status_code == 200
    words, _, signature = str(pod.secret).rpartition(".")
    raw = urlsafe_b64decode(signature + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    assert Caller(f"{words}.{urlsafe_b64encode(twin).rstrip(b'=').decode()}").get("certificates/").status_code == 200
    assert Token.objects.filter(label="JWT of k8s").count() == 1


def test_one_issuer_does_not_speak_for_another(cluster: Issuer, tmp_path: Path, settings: Any, nobody: Caller) -> None:
    other = Issuer(tmp_path / "ci.json")
    other.rotate("ci-1")
    ci = other.table(name="ci", issuer="https://ci.internal", rules=[{**RULE, "when": {}}])
    settings.JWT_ISSUERS = jwt_issuers.parse(json.dumps([*cluster.table(), *ci]))
    _refused(other.jwt())  # signed by ci's key, says that it is the cluster's
    answer = Caller(other.jwt(other.claims(iss="https://ci.internal"))).get("certificates/")
    assert answer.status_code == 200
    assert Token.objects.get().owner == "ci:system:serviceaccount:payments:api"


def test_liars_are_slowed_down(cluster: Issuer, nobody: Caller) -> None:
    answers = [Caller(cluster.jwt(cluster.claims(exp=1))).get("certificates/").status_code for _ in range(22)]
    assert answers[:20] == [401] * 20
    assert answers[-1] == 429
