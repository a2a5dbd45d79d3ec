"""POST certificates/{serial}/revoke/: who is let through, who is kept out, and what neither learns."""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from ca import issuance, tokens
from ca.api import limits
from ca.api.limits import Buckets
from ca.models import Certificate
from ca.pki import proofs
from eventlog.models import Event
from tests.material import csr, new_key

from . import conftest
from .conftest import Caller, code

pytestmark = pytest.mark.django_db
ABSENT = "0b" * 20
OWNER, STRANGER = "192.0.2.1", "198.51.100.1"


def path(serial: str) -> str:
    return f"certificates/{serial}/revoke/"


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bucket fills again, however slow the test is."""
    monkeypatch.setattr(limits, "guesses", Buckets(clock=lambda: 0.0))
    monkeypatch.setattr(limits, "all_guesses", Buckets(clock=lambda: 0.0))


@pytest.fixture
def serial(issued: dict[str, Any]) -> str:
    return str(issued["certificate"]["serial"])


@pytest.fixture
def secret(issued: dict[str, Any]) -> str:
    return str(issued["certificate"]["revocation_secret"])


# --- the three ways


def test_the_secret_needs_no_token(serial: str, secret: str, nobody: Caller, alice: Caller) -> None:
    answer = nobody.post(path(serial), {"reason": "superseded", "secret": secret})
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    shown = answer.json()
    assert (shown["status"], shown["reason"]) == ("revoked", "superseded")
    assert "revocation_secret" not in shown
    assert nobody.post(path(serial), {"reason": "unspecified", "secret": secret}).content == answer.content
    assert alice.get(f"certificates/{serial}/").json() == {**shown, "revocation_secret": secret}


def test_the_serial_may_lack_its_leading_zeros(nobody: Caller, issued: dict[str, Any], secret: str) -> None:
    short = issued["certificate"]["serial"].lstrip("0")
    assert nobody.post(path(short), {"secret": secret}).json()["reason"] == "unspecified"


def test_the_key_needs_no_token(hierarchy: None, alice: Caller, nobody: Caller, run_pipeline: Callable[[], None]) -> None:
    key = new_key()
    request = alice.post("certificates/", {"csr": b64encode(csr("a.internal", key=key)).decode()}).json()["id"]
    run_pipeline()
    certificate = Certificate.objects.get(request=request)
    statement = proofs.revocation_statement(issuance.issuer_facts("issuing-1").key_id, certificate.serial, "keyCompromise")
    proof = b64encode(key.sign(statement, ec.ECDSA(hashes.SHA256()))).decode()
    assert code(nobody.post(path(certificate.serial), {"reason": "superseded", "proof": proof})) == "notEntitled"
    answer = nobody.post(path(certificate.serial), {"reason": "keyCompromise", "proof": proof})
    assert (answer.status_code, answer.json()["reason"]) == (200, "keyCompromise")


def test_a_token(serial: str, secret: str, caller: Callable[..., Caller]) -> None:
    alice, bob, dora = caller("alice", "revoke"), caller("bob", "revoke"), caller("alice", "issue", "read")
    assert code(bob.post(path(serial), {})) == "notFound"
    assert bob.post(path(serial), {}).content == bob.post(path(ABSENT), {}).content
    assert code(dora.post(path(serial), {})) == "forbidden"
    assert code(alice.post(path(serial), {"reason": "privilegeWithdrawn"})) == "reasonForbidden"
    answer = alice.post(path(serial), {"reason": "superseded"})
    assert (answer.status_code, answer.json()["status"]) == (200, "revoked")
    assert "revocation_secret" not in answer.json(), "another token than the one that asked for it"
    operator = caller("operator", "revoke", "audit")
    assert operator.post(path(serial), {"reason": "privilegeWithdrawn"}).json() == answer.json()


def test_a_token_without_a_body(serial: str, caller: Callable[..., Caller]) -> None:
    assert caller("alice", "revoke").call("POST", path(serial)).json()["reason"] == "unspecified"


def test_the_token_that_asked_for_it_still_gets_its_secret(
    hierarchy: None, caller: Callable[..., Caller], run_pipeline: Callable[[], None]
) -> None:
    alice = caller("alice", "issue", "revoke")
    request = alice.submit("a.internal").json()["id"]
    run_pipeline()
    assert "revocation_secret" in alice.post(path(Certificate.objects.get(request=request).serial), {}).json()


def test_a_secret_beside_a_token_is_a_secret(serial: str, secret: str, bob: Caller) -> None:
    assert bob.post(path(serial), {"secret": "guess"}).status_code == 403
    assert bob.post(path(serial), {"secret": secret}).status_code == 200


def test_a_revoked_token(serial: str, caller: Callable[..., Caller], now: Any) -> None:
    alice = caller("alice", "revoke")
    tokens.revoke(alice.id, now, "test", "leaked")
    assert code(alice.post(path(serial), {})) == "tokenInvalid"


# --- bad input


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ([], 400, "malformedJson"),
        ("secret", 400, "malformedJson"),
        (None, 400, "malformedJson"),
        ({"secret": "a", "proof": "AA=="}, 400, "invalidField"),
        ({"secret": "a", "reasn": "superseded"}, 400, "unknownField"),
        ({"secret": 1}, 400, "invalidField"),
        ({"secret": None}, 400, "invalidField"),
        ({"secret": ""}, 400, "invalidField"),
        ({"secret": "x" * 301}, 400, "invalidField"),
        ({"secret": "a", "reason": 1}, 400, "invalidField"),
        ({"secret": "a", "reason": "certificateHold"}, 422, "reasonForbidden"),
        ({"secret": "a", "reason": "privilegeWithdrawn"}, 422, "reasonForbidden"),
        ({"secret": "a", "reason": ""}, 422, "reasonForbidden"),
        ({"proof": "AAAA"}, 400, "missingField"),
        ({"proof": ["AAAA"], "reason": "superseded"}, 400, "invalidField"),
        ({"proof": "", "reason": "superseded"}, 400, "invalidField"),
        ({"proof": "A", "reason": "superseded"}, 400, "invalidField"),
        ({"proof": "AAAA\n", "reason": "superseded"}, 400, "invalidField"),
        ({"proof": "AA-_", "reason": "superseded"}, 400, "invalidField"),
        ({"proof": "ÄÄÄÄ", "reason": "superseded"}, 400, "invalidField"),
        ({"proof": "A" * 1400, "reason": "superseded"}, 400, "invalidField"),
        ({"proof": "AAAA", "reason": "\udcff"}, 400, "malformedJson"),
        ({}, 401, "notAuthenticated"),
        ({"reason": "superseded"}, 401, "notAuthenticated"),
    ],
)
def test_each_wrong_body_has_its_answer(serial: str, nobody: Caller, body: Any, status: int, expected: str) -> None:
    size = Event.objects.count()
    for each in (serial, ABSENT):
        answer = nobody.post(path(each), body, X_Request_Id="same")
        assert (answer.status_code, code(answer)) == (status, expected)
    assert Event.objects.count() == size


def test_other_forms_and_methods(serial: str, nobody: Caller, secret: str) -> None:
    form = nobody.call("POST", path(serial), f"secret={secret}", "application/x-www-form-urlencoded")
    assert code(form) == "unsupportedMediaType"
    assert code(nobody.get(path(serial))) == "methodNotAllowed"
    assert code(nobody.post(path(serial) + "?reason=superseded", {"secret": secret})) == "unknownParameter"
    for wrong in ("xyz", "0" * 41, serial.upper() + "G"):
        assert nobody.post(path(wrong), {"secret": secret}).status_code == 404
    assert not Certificate.objects.exclude(revoked_at=None).exists()


# --- guessing (threats T13)


def test_an_unknown_serial_and_a_wrong_secret_are_answered_alike(
    serial: str, nobody: Caller, stopped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(len(a)) or real(a, b))
    for body in ({"secret": "guess"}, {"proof": "AAAA", "reason": "superseded"}):
        seen = []
        for each in (serial, ABSENT):
            compared.clear()
            with CaptureQueriesContext(
                connection,
            ) as queries:
                answer = nobody.post(path(each), body, X_Request_Id="same")
            asked = [query["sql"].replace(each, "") for query in queries]
            seen.append((answer.status_code, answer.content, dict(answer.headers), list(compared), asked))
        assert seen[0] == seen[1]
        assert seen[0][0] == 403
    for each in (serial, ABSENT):
        for _ in range(limits.GUESSES):
            nobody.post(path(each), {"secret": "guess"})
        compared.clear()
        assert nobody.post(path(each), {"secret": "guess"}).status_code == 429
        assert len(compared) == 2, "late ones cost the same two hashes"


def test_a_thousand_guesses_get_nowhere(serial: str, secret: str, stopped: None) -> None:
    guesser = Caller(address=STRANGER)
    answers = [guesser.post(path(serial), {"secret": f"{secret[:-4]}1{number:03}"}) for number in range(1000)]
    assert [answer.status_code for answer in answers] == [403] * limits.GUESSES + [429] * (1000 - limits.GUESSES)
    assert int(answers[-1]["Retry-After"]) > 1
    assert not Certificate.objects.exclude(revoked_at=None).exists()


def test_who_guesses_locks_nobody_out_of_the_same_address(serial: str, secret: str, stopped: None) -> None:
    shared = Caller(address=STRANGER)
    for _ in range(limits.GUESSES + 1):
        shared.post(path(serial), {"secret": "guess"})
        shared.post(path(serial), {"proof": "AAAA", "reason": "superseded"})
    assert shared.post(path(serial), {"secret": "guess"}).status_code == 429
    assert shared.post(path(serial), {"secret": secret}).status_code == 200


def test_who_guesses_locks_nobody_out_elsewhere(serial: str, secret: str, stopped: None) -> None:
    for number in range(20):
        stranger = Caller(address=f"198.51.100.{number}")
        for _ in range(limits.GUESSES + 1):
            stranger.post(path(serial), {"secret": "guess"})
    assert Caller(address=OWNER).post(path(serial), {"secret": secret}).status_code == 200


def test_an_address_that_tries_many_serials_is_stopped_too(stopped: None, nobody: Caller) -> None:
    answers = [nobody.post(path(f"{number:040x}"), {"secret": "guess"}).status_code for number in range(limits.ALL_GUESSES + 5)]
    assert answers == [403] * limits.ALL_GUESSES + [429] * 5
    assert Caller(address=OWNER).post(path("1"), {"secret": "guess"}).status_code == 403


def test_another_spelling_of_the_serial_or_address_is_no_second_chance(serial: str, stopped: None) -> None:
    for number in range(limits.GUESSES):
        Caller(address=f"2001:db8::{number:x}").post(path("0" * (number % 3) + "b"), {"secret": "guess"})
    assert Caller(address="2001:db8::ffff").post(path("000b"), {"secret": "guess"}).status_code == 429
    assert Caller(address="2001:db8:0:1::1").post(path("000b"), {"secret": "guess"}).status_code == 403


def test_behind_a_proxy_each_client_counts_and_none_picks_its_address(
    serial: str, stopped: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.TRUSTED_PROXIES = (ip_network("10.0.0.5"),)
    monkeypatch.setattr(conftest, "_client", Client())  # with the middleware of these settings
    proxy, stranger = Caller(address="10.0.0.5"), Caller(address=STRANGER)

    def guess(caller: Caller, forwarded: str) -> int:
        return caller.post(path(serial), {"secret": "guess"}, X_Forwarded_For=forwarded).status_code

    through = [guess(proxy, f"192.0.2.{number}, 198.51.100.7") for number in range(limits.GUESSES + 1)]
    assert through == [403] * limits.GUESSES + [429], "what stands before the proxy's own word is the client's"
    assert guess(proxy, "198.51.100.8") == 403
    direct = [guess(stranger, f"192.0.2.{number}") for number in range(limits.GUESSES + 1)]
    assert direct == [403] * limits.GUESSES + [429]


def test_only_failures_count(serial: str, secret: str, nobody: Caller, stopped: None) -> None:
    for _ in range(limits.GUESSES * 2):
        assert nobody.post(path(serial), {"secret": secret}).status_code == 200
        assert nobody.post(path(serial), {"secret": secret, "reason": "certificateHold"}).status_code == 422
        assert nobody.post(path(serial), {}).status_code == 401
    assert nobody.post(path(serial), {"secret": "guess"}).status_code == 403


def test_the_bucket_fills_again(serial: str, secret: str, nobody: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(limits, "guesses", Buckets(clock=lambda: clock[0]))
    for _ in range(limits.GUESSES):
        nobody.post(path(serial), {"secret": "guess"})
    refused = nobody.post(path(serial), {"secret": "guess"})
    assert refused.status_code == 429
    clock[0] += int(refused["Retry-After"])
    assert nobody.post(path(serial), {"secret": "guess"}).status_code == 403
