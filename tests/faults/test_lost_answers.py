"""Each commit and each signing: died before, died after, and done although the answer was an error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError, connection

from ca import issuance, keys, pipeline, tokens
from ca.models import Certificate, Request, Token
from tests import oracle
from tests.material import many

pytestmark = pytest.mark.django_db(transaction=True)
STEPS = {"validate": issuance.validate, "sign": issuance.sign, "challenge": issuance.challenge, "record": issuance.record}


@pytest.fixture
def token(hierarchy: None, now: datetime) -> Token:
    return Token.objects.get(id=tokens.create("test", "alice", tokens.Scope(), now, by="test")[0])


@contextmanager
def failing_commit(done: bool) -> Iterator[None]:
    """The next COMMIT answers an error: done all the same, or not."""
    real = connection._commit  # type: ignore[attr-defined]

    def commit() -> None:
        connection._commit = real  # type: ignore[attr-defined]
        if done:
            real()
        raise OperationalError("server closed the connection unexpectedly")

    connection._commit = commit  # type: ignore[attr-defined]
    try:
        with pytest.raises(OperationalError):
            yield
    finally:
        connection._commit = real  # type: ignore[attr-defined]


def run_from(batch: UUID, now: datetime) -> None:
    """All steps again, as `resume` would have them."""
    issuance.validate(batch, now)
    for step in issuance.STEPS.values():
        step(batch, now)


@pytest.mark.parametrize("done", [False, True], ids=["not persisted", "persisted but answered an error"])
@pytest.mark.parametrize("failing", STEPS)
def test_a_commit_that_answers_an_error(failing: str, done: bool, token: Token, now: datetime) -> None:
    pipeline.submit(token, [pipeline.Submission(csr=der) for der in many(3)], now)
    batch = uuid4()
    for name, step in STEPS.items():
        if name == failing:
            with failing_commit(done):
                step(batch, now)
            break
        step(batch, now)
    run_from(batch, now)
    assert Request.objects.filter(state="issued").count() == 3
    oracle.check()


@pytest.mark.parametrize("done", [False, True], ids=["not persisted", "persisted but answered an error"])
def test_a_submission_whose_commit_answers_an_error(done: bool, token: Token, now: datetime) -> None:
    again = pipeline.Submission(csr=many(1)[0], idempotency_key="k", body_hash=b"1" * 32)
    with failing_commit(done):
        pipeline.submit(token, [again], now)
    assert Request.objects.count() == int(done)
    pipeline.submit(token, [again], now)
    assert Request.objects.count() == 1, "the retry under the same key gives the one request"
    run_from(uuid4(), now)
    oracle.check()


def test_a_signer_that_fails_half_way(token: Token, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.submit(token, [pipeline.Submission(csr=der) for der in many(3)], now)
    batch = uuid4()
    issuance.validate(batch, now)
    real, made = keys.issuer_signer("issuing-1"), []

    class Flaky:
        def sign(self, data: bytes) -> bytes:
            made.append(real.sign(data))
            if len(made) == 2:
                raise OSError("the token was pulled out")
            return made[-1]

    monkeypatch.setattr(keys, "issuer_signer", lambda name: Flaky())
    with pytest.raises(OSError, match="pulled out"):
        issuance.sign(batch, now)
    assert set(Request.objects.values_list("state", flat=True)) == {"validated"}
    monkeypatch.undo()
    run_from(batch, now)
    ends = [bytes(der) for der in Certificate.objects.values_list("der", flat=True)]
    assert all(any(der.endswith(signature) for der in ends) for signature in made), "signing again gave other bytes"
    oracle.check()
