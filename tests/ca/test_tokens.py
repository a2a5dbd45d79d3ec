"""Tokens: what is stored, who is recognised, what revoking does."""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256

import pytest

from ca import tokens
from ca.models import Token
from eventlog.models import Event

pytestmark = pytest.mark.django_db


def _valid(secret: str, now: datetime) -> Token | None:
    token = tokens.recognise(secret)
    return token if token and tokens.is_valid(token, now) else None


def test_a_token_is_recognised_and_stored_only_as_its_hash(now: datetime) -> None:
    token, secret = tokens.create("ci", "alice", tokens.Scope(), now, by="test")
    assert _valid(secret, now) == Token.objects.get(id=token)
    assert len(secret) == 46
    assert secret.encode() not in b"".join(bytes(body) for body in Event.objects.values_list("body", flat=True))
    assert bytes(Token.objects.get().hash) == sha256(secret.encode()).digest()


@pytest.mark.parametrize("wrong", ["", "ql_", "ql_" + "A" * 43, "é", "x" * 10_000])
def test_nothing_else_is_recognised(now: datetime, wrong: str) -> None:
    tokens.create("ci", "alice", tokens.Scope(), now, by="test")
    assert _valid(wrong, now) is None


def test_a_revoked_token_is_not(now: datetime) -> None:
    token, secret = tokens.create("ci", "alice", tokens.Scope(), now, by="test")
    tokens.revoke(token, now, by="test", why="leaked")
    tokens.revoke(token, now, by="test", why="again")
    assert _valid(secret, now) is None
    assert Event.objects.filter(type="token.revoked").count() == 1


def test_an_expired_token_is_not_from_that_second_on(now: datetime) -> None:
    _, secret = tokens.create("ci", "alice", tokens.Scope(expires_at=now + timedelta(days=1)), now, by="test")
    assert _valid(secret, now + timedelta(days=1, seconds=-1))
    assert _valid(secret, now + timedelta(days=1)) is None


def test_unknown_scopes_are_refused() -> None:
    with pytest.raises(ValueError, match="destroy"):
        tokens.Scope(actions=("destroy",))
    with pytest.raises(ValueError, match="sevrer"):
        tokens.Scope(profiles=("sevrer",))


def test_revoking_a_stranger_says_so(now: datetime) -> None:
    with pytest.raises(tokens.NoSuchToken):
        tokens.revoke("0" * 16, now, by="test", why="")
