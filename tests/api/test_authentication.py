"""Authorization headers, and the limits on those who send wrong or too many."""

from __future__ import annotations

from typing import Any

import pytest

from ca.api import limits
from ca.api.limits import Buckets, network

from .conftest import Caller, code

WRONG = "ql_" + "x" * 43


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bucket fills again, however slow the test is."""
    monkeypatch.setattr(limits, "failures", Buckets(clock=lambda: 0.0))
    monkeypatch.setattr(limits, "calls", Buckets(clock=lambda: 0.0))


@pytest.mark.django_db
@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", f"Basic {WRONG}", f"Token {WRONG}", f"Bearer {WRONG}", f"Bearer {WRONG} {WRONG}", f"Bearer\t{WRONG}",
     f"Bearer {WRONG}, Bearer {WRONG}", "Bearer " + "x" * 201, "Bearer \xe4\xf6", f"Bearer {WRONG}\x00", "Bearer *"],
)  # fmt: skip
def test_a_wrong_header_is_401(header: str, nobody: Caller) -> None:
    answer = nobody.get("certificates/", Authorization=header)
    assert (answer.status_code, code(answer)) == (401, "tokenInvalid")
    assert answer["WWW-Authenticate"] == 'Bearer realm="quicklime", error="invalid_token"'


@pytest.mark.django_db
def test_no_header_is_401_without_an_error(nobody: Caller) -> None:
    answer = nobody.get("certificates/")
    assert code(answer) == "notAuthenticated"
    assert answer["WWW-Authenticate"] == 'Bearer realm="quicklime"'


@pytest.mark.django_db
def test_the_scheme_is_case_insensitive(alice: Caller) -> None:
    assert alice.get("certificates/", Authorization=f"bearer  {alice.secret}").status_code == 200


@pytest.mark.django_db
def test_guessing_is_slowed_down_and_locks_nobody_out(stopped: None, alice: Caller, bob: Caller) -> None:
    assert alice.get("certificates/").status_code == 200
    guesser = Caller(WRONG)
    answers = [guesser.get("certificates/").status_code for _ in range(limits.FAILURES + 5)]
    assert answers == [401] * limits.FAILURES + [429] * 5
    refused = guesser.get("certificates/")
    assert code(refused) == "tooManyRequests"
    assert int(refused["Retry-After"]) >= 1
    assert alice.get("certificates/").status_code == 200, "a token that was good here lately is still good"
    assert bob.get("certificates/").status_code == 429, "one that was not has to wait with the guesser"


@pytest.mark.django_db
def test_a_revoked_token_is_no_longer_known(stopped: None, alice: Caller, now: Any) -> None:
    from ca import tokens

    assert alice.get("certificates/").status_code == 200
    tokens.revoke(alice.id, now, "test", "test")
    for _ in range(limits.FAILURES):
        assert alice.get("certificates/").status_code == 401
    assert alice.get("certificates/").status_code == 429


@pytest.mark.django_db
def test_a_token_has_its_rate(stopped: None, alice: Caller, bob: Caller, settings: Any) -> None:
    settings.RATE = 3
    answers = [alice.get("certificates/") for _ in range(5)]
    assert [answer.status_code for answer in answers][:3] == [200] * 3
    assert code(answers[-1]) == "tooManyRequests"
    assert answers[-1]["Retry-After"] == "1"
    assert bob.get("certificates/").status_code == 200


def test_a_bucket_fills_again() -> None:
    time = [0.0]
    buckets = Buckets(clock=lambda: time[0])
    assert [buckets.take("a", 2, 2) for _ in range(3)] == [0.0, 0.0, 0.5]
    assert buckets.wait("a", 2, 2) == 0.5
    assert buckets.take("b", 2, 2) == 0.0
    time[0] = 0.5
    assert [buckets.take("a", 2, 2) for _ in range(2)] == [0.0, 0.5]
    time[0] = 1000.0
    assert [buckets.take("a", 2, 2) for _ in range(3)] == [0.0, 0.0, 0.5], "never more than the burst"


def test_buckets_forget_the_longest_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REMEMBERED", 2)
    buckets = Buckets(clock=lambda: 0.0)
    for key in "abac":
        buckets.take(key, 1, 1)
    assert buckets.wait("a", 1, 1) == 1.0
    assert buckets.wait("b", 1, 1) == 0.0


def test_what_counts_as_one_address() -> None:
    assert network("10.0.0.1") == "10.0.0.1"
    assert network("2001:db8:1:2:3::4") == network("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert network("") == ""
