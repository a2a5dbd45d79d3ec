"""Who may revoke what, what the log then says, and that nothing undoes it."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from django.db import connection

from ca import blocklist, challenges, issuance, keys, pipeline, revocation, tokens
from ca.errors import Problem
from ca.models import BlockedKey, Certificate, Request, Token
from ca.pki import proofs, reasons
from ca.policy import Grant
from eventlog.models import Event
from tests import processes
from tests.material import csr, new_key

pytestmark = pytest.mark.django_db
Issue = Callable[..., Certificate]
ABSENT = "0b" * 20


@pytest.fixture
def grant(hierarchy: None, now: datetime) -> Callable[..., Grant]:
    def make(owner: str, *actions: str, **scope: Any) -> Grant:
        made = tokens.Scope(actions=actions, profiles=("*",), **scope)
        return Token.objects.get(id=tokens.create(owner, owner, made, now, by="test")[0]).grant()

    return make


@pytest.fixture
def issue(grant: Callable[..., Grant], now: datetime, run_pipeline: Callable[[], None]) -> Issue:
    def make(name: str = "a.internal", owner: str = "alice", key: ec.EllipticCurvePrivateKey | None = None, **more: Any) -> Certificate:
        request = submit(grant(owner, "issue"), csr(name, key=key), now, **more)
        run_pipeline()
        return Certificate.objects.get(request=request.id)

    return make


def submit(grant: Grant, der: bytes, now: datetime, **more: Any) -> Request:
    (answer,) = pipeline.submit(Token.objects.get(id=grant.token), [pipeline.Submission(csr=der, **more)], now)
    assert isinstance(answer, Request), answer
    return answer


def secret_of(certificate: Certificate) -> str:
    return challenges.revocation_secret(keys.revocation_key(), issuance.issuer_facts(certificate.issuer).key_id, certificate.serial)


def proof(certificate: Certificate, key: ec.EllipticCurvePrivateKey, reason: str) -> bytes:
    statement = proofs.revocation_statement(issuance.issuer_facts(certificate.issuer).key_id, certificate.serial, reason)
    return key.sign(statement, ec.ECDSA(hashes.SHA256()))


def said(*kinds: str) -> list[dict[str, Any]]:
    kinds = kinds or ("certificate.revoked", "revocation.escalated", "key.blocked")
    rows = Event.objects.filter(type__in=kinds).order_by("position").values_list("type", "body")
    return [{"type": kind, **json.loads(bytes(body))["data"]} for kind, body in rows]


def status(certificate: Certificate) -> tuple[datetime | None, str | None]:
    certificate.refresh_from_db()
    return certificate.revoked_at, certificate.reason


def refused(code: str, call: Callable[..., Any], *arguments: Any) -> Problem:
    before = Event.objects.count()
    with pytest.raises(Problem) as caught:
        call(*arguments)
    assert caught.value.code == code
    assert Event.objects.count() == before
    return caught.value


# --- by secret


def test_the_secret_revokes(issue: Issue, now: datetime) -> None:
    certificate = issue()
    revocation.by_secret(certificate.serial, secret_of(certificate).upper().replace("-", " "), "superseded", now)
    assert status(certificate) == (now, "superseded")
    assert said() == [
        {
            "type": "certificate.revoked", "serial": certificate.serial, "issuer": "issuing-1", "reason": "superseded",
            "way": "secret", "by": "", "order": None,
        }
    ]  # fmt: skip


def test_another_certificates_secret_does_not(issue: Issue, now: datetime) -> None:
    one, other = issue(), issue("b.internal")
    refused("notEntitled", revocation.by_secret, one.serial, secret_of(other), "superseded", now)
    for wrong in ("", " ", "\udcff", "x" * 300, secret_of(one)[:-1]):
        refused("notEntitled", revocation.by_secret, one.serial, wrong, "superseded", now)
    assert status(one) == (None, None)


def test_it_does_so_even_if_the_key_it_derives_from_is_lost(issue: Issue, now: datetime, settings: Any) -> None:
    certificate = issue()
    secret, settings.REVOCATION_KEY_FILE = secret_of(certificate), settings.STATE / "lost"
    refused("notEntitled", revocation.by_secret, certificate.serial, "guess", "superseded", now)
    revocation.by_secret(certificate.serial, secret, "superseded", now)
    assert status(certificate) == (now, "superseded")


def test_an_unknown_serial_is_refused_in_the_same_words_after_the_same_work(
    issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    serial, compared = issue().serial, []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or real(a, b))
    answers = []
    for each in (serial, ABSENT):
        with django_assert_num_queries(1):
            answers.append(refused_quietly(revocation.by_secret, each, "guess", "superseded", now).as_dict())
    assert answers[0] == answers[1]
    assert compared == [(32, 32)] * 4


def refused_quietly(call: Callable[..., Any], *arguments: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        call(*arguments)
    return caught.value


# --- by proof


def test_the_key_itself_revokes(issue: Issue, now: datetime) -> None:
    key = new_key()
    certificate = issue(key=key)
    revocation.by_proof(certificate.serial, proof(certificate, key, "cessationOfOperation"), "cessationOfOperation", now)
    assert status(certificate) == (now, "cessationOfOperation")
    assert said()[0]["way"] == "key"
    assert not BlockedKey.objects.exclude(code="caKey").exists()


def test_a_proof_serves_one_certificate_and_one_reason(issue: Issue, now: datetime) -> None:
    key = new_key()
    one, other = issue(key=key), issue("b.internal", key=key)
    refused("notEntitled", revocation.by_proof, one.serial, proof(other, key, "superseded"), "superseded", now)
    refused("notEntitled", revocation.by_proof, one.serial, proof(one, key, "superseded"), "keyCompromise", now)
    refused("notEntitled", revocation.by_proof, one.serial, proof(one, new_key(), "superseded"), "superseded", now)


def test_a_proof_for_an_unknown_serial_is_refused_after_the_same_work(
    issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    certificate, verified = issue(), []
    real = proofs.proves
    monkeypatch.setattr(proofs, "proves", lambda key, *rest: verified.append(type(key)) or real(key, *rest))
    answers = []
    for each in (certificate.serial, ABSENT):
        with django_assert_num_queries(2):
            answers.append(refused_quietly(revocation.by_proof, each, b"0", "superseded", now).as_dict())
    assert answers[0] == answers[1]
    assert verified[0] is verified[1]


def test_a_key_proven_to_be_compromised_takes_all_its_certificates_with_it(
    issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocation, "CHUNK", 2)
    key = new_key()
    of_key = [issue(f"n{number}.internal", owner=f"owner{number % 2}", key=key) for number in range(5)]
    stranger = issue("stranger.internal")
    revocation.by_secret(of_key[4].serial, secret_of(of_key[4]), "superseded", now)
    later = now + timedelta(minutes=1)
    revocation.by_proof(of_key[0].serial, proof(of_key[0], key, "keyCompromise"), "keyCompromise", later)
    assert [status(each) for each in of_key] == [(later, "keyCompromise")] * 4 + [(now, "keyCompromise")]
    assert status(stranger) == (None, None)
    assert len(said("key.blocked")) == 1
    size = Event.objects.count()
    revocation.by_proof(of_key[0].serial, proof(of_key[0], key, "keyCompromise"), "keyCompromise", later)
    assert Event.objects.count() == size


def _die(*arguments: Any) -> None:
    raise KeyboardInterrupt


def test_a_call_that_died_half_way_is_finished_by_the_next(issue: Issue, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_key()
    one, other = issue(key=key), issue("b.internal", key=key)
    with monkeypatch.context() as patch:
        patch.setattr(revocation, "_revoke_all_of_key", _die)
        with pytest.raises(KeyboardInterrupt):
            revocation.by_proof(one.serial, proof(one, key, "keyCompromise"), "keyCompromise", now)
    assert status(other) == (None, None)
    revocation.by_proof(one.serial, proof(one, key, "keyCompromise"), "keyCompromise", now)
    assert status(other) == (now, "keyCompromise")


def test_a_secret_takes_no_other_certificate_with_it(issue: Issue, now: datetime) -> None:
    key = new_key()
    one, other = issue(key=key), issue("b.internal", owner="bob", key=key)
    revocation.by_secret(one.serial, secret_of(one), "keyCompromise", now)
    assert status(other) == (None, None)


# --- by token


def test_an_owners_token_revokes_its_owners_certificates(issue: Issue, grant: Callable[..., Grant], now: datetime) -> None:
    alices, bobs = issue(), issue("b.internal", owner="bob")
    alice = grant("alice", "revoke")
    revocation.by_token(alices.serial, alice, "unspecified", now)
    assert status(alices) == (now, "unspecified")
    assert (said()[0]["way"], said()[0]["by"]) == ("token", alice.token)
    strangers = refused("notFound", revocation.by_token, bobs.serial, alice, "unspecified", now)
    absent = refused("notFound", revocation.by_token, ABSENT, alice, "unspecified", now)
    assert strangers.as_dict() == absent.as_dict()


def test_one_that_also_audits_is_an_operators(issue: Issue, grant: Callable[..., Grant], now: datetime) -> None:
    certificate, operator = issue(), grant("operator", "revoke", "audit")
    revocation.by_token(certificate.serial, operator, "privilegeWithdrawn", now)
    assert (said()[0]["way"], said()[0]["by"]) == ("operator", operator.token)
    refused("reasonForbidden", revocation.by_token, certificate.serial, grant("alice", "revoke"), "privilegeWithdrawn", now)


def test_a_token_that_may_not(issue: Issue, grant: Callable[..., Grant], now: datetime) -> None:
    serial = issue().serial
    refused("forbidden", revocation.by_token, serial, grant("alice", "issue", "read", "audit"), "unspecified", now)
    expired = grant("alice", "revoke", expires_at=now - timedelta(seconds=1))
    refused("tokenExpired", revocation.by_token, serial, expired, "unspecified", now)
    revoked = grant("alice", "revoke")  # as the caller saw it before
    tokens.revoke(revoked.token, now, "test", "leaked")
    refused("tokenRevoked", revocation.by_token, serial, revoked, "unspecified", now)


# --- reasons


@pytest.mark.parametrize("way", list(reasons.PERMITTED))
@pytest.mark.parametrize("reason", [*reasons.CODES, *reasons.NEVER, "", "keycompromise", "1"])
def test_who_may_say_what(way: reasons.Way, reason: str) -> None:
    holders = {"unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation"}
    if reason in holders or (way, reason) == ("operator", "privilegeWithdrawn"):
        revocation.check_reason(reason, way)
        return
    problem = refused_quietly(revocation.check_reason, reason, way)
    assert problem.code == "reasonForbidden"
    assert "permitted here: unspecified, keyCompromise, " in problem.detail
    assert ("privilegeWithdrawn" in problem.detail) == (way == "operator")


def test_a_reason_is_refused_before_anything_is_looked_up(issue: Issue, now: datetime, django_assert_num_queries: Any) -> None:
    serial = issue().serial
    with django_assert_num_queries(0):
        for call, evidence in ((revocation.by_secret, "guess"), (revocation.by_proof, b"0")):
            assert refused_quietly(call, serial, evidence, "certificateHold", now).code == "reasonForbidden"


# --- final


def test_again_is_the_same_and_appends_nothing(issue: Issue, now: datetime) -> None:
    certificate = issue()
    for minutes, reason in enumerate(("superseded", "superseded", "unspecified", "cessationOfOperation")):
        revocation.by_secret(certificate.serial, secret_of(certificate), reason, now + timedelta(minutes=minutes))
    assert status(certificate) == (now, "superseded")
    assert len(said()) == 1


def test_only_a_compromised_key_is_worse(issue: Issue, now: datetime) -> None:
    certificate = issue()
    for minutes, reason in enumerate(("superseded", "keyCompromise", "superseded", "keyCompromise")):
        revocation.by_secret(certificate.serial, secret_of(certificate), reason, now + timedelta(minutes=minutes))
    assert status(certificate) == (now, "keyCompromise")
    assert [event["type"] for event in said()] == ["certificate.revoked", "revocation.escalated", "key.blocked"]
    assert said()[2] == {
        "type": "key.blocked", "spki_sha256": bytes(certificate.spki_sha256).hex(), "code": "keyCompromise", "by": "secret"
    }  # fmt: skip


def test_what_has_expired_is_refused_unless_nothing_is_to_be_done(issue: Issue, now: datetime) -> None:
    expired, revoked = issue(), issue("b.internal")
    revocation.by_secret(revoked.serial, secret_of(revoked), "superseded", now)
    later = expired.not_after + timedelta(days=1)
    refused("certificateExpired", revocation.by_secret, expired.serial, secret_of(expired), "superseded", later)
    refused("notEntitled", revocation.by_secret, expired.serial, "guess", "superseded", later)
    revocation.by_secret(revoked.serial, secret_of(revoked), "superseded", later)
    last_moment = issue("c.internal")
    revocation.by_secret(last_moment.serial, secret_of(last_moment), "superseded", last_moment.not_after)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("reason", ["superseded", "keyCompromise"])
def test_many_at_once_are_one_event(issue: Issue, now: datetime, reason: str) -> None:
    certificate = issue()
    secret = secret_of(certificate)

    def revoke(_: int) -> None:
        try:
            revocation.by_secret(certificate.serial, secret, reason, now)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(revoke, range(16)))
    assert [event["type"] for event in said("certificate.revoked", "revocation.escalated")] == ["certificate.revoked"]
    assert len(said("key.blocked")) == (reason == "keyCompromise")


@pytest.mark.django_db(transaction=True)
def test_a_crash_right_after_the_commit_loses_nothing(issue: Issue, now: datetime) -> None:
    certificate = issue()
    code = f"""
from datetime import UTC, datetime
from ca import revocation
revocation.by_secret("{certificate.serial}", "{secret_of(certificate)}", "superseded", datetime.now(UTC))
"""
    died = processes.run(code, DJANGO_SETTINGS_MODULE="tests.settings", QUICKLIME_CRASH="revoke.committed_before_ocsp")
    assert died.returncode == -9, died.stderr
    assert status(certificate)[1] == "superseded"
    revocation.by_secret(certificate.serial, secret_of(certificate), "superseded", now)
    assert len(said()) == 1


# --- the key is blocked


def test_a_compromised_key_is_never_certified_again(issue: Issue, grant: Callable[..., Grant], now: datetime, run_pipeline: Any) -> None:
    key = new_key()
    certificate = issue(key=key)
    revocation.by_secret(certificate.serial, secret_of(certificate), "keyCompromise", now)
    again = submit(grant("alice", "issue"), csr("b.internal", key=key), now)
    run_pipeline()
    assert Request.objects.get(id=again.id).error["code"] == "keyBlocked"  # type: ignore[index]


def _signed(grant: Grant, der: bytes, now: datetime) -> tuple[Any, Request]:
    request, batch = submit(grant, der, now), uuid4()
    for step in (issuance.validate, issuance.sign, issuance.challenge):
        step(batch, now)
    return batch, request


def test_nor_is_what_was_signed_before_and_not_recorded(issue: Issue, grant: Callable[..., Grant], now: datetime) -> None:
    key = new_key()
    certificate = issue(key=key)
    batch, request = _signed(grant("alice", "issue"), csr("b.internal", key=key), now)
    revocation.by_secret(certificate.serial, secret_of(certificate), "keyCompromise", now)
    issuance.record(batch, now)
    request.refresh_from_db()
    assert (request.state, request.error and request.error["code"]) == ("rejected", "keyBlocked")
    assert Certificate.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_nor_where_the_key_is_blocked_while_it_is_being_recorded(
    grant: Callable[..., Grant], now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer")
    key = new_key()
    batch, request = _signed(grant("alice", "issue"), csr("b.internal", key=key), now)
    spki = issuance.csr_rules.parse(bytes(request.csr)).spki_sha256

    def block() -> None:
        try:
            blocklist.block(spki, "keyCompromise", now, "test")
        finally:
            connection.close()

    def between(name: str) -> None:
        if name == "issued.before_commit" and not BlockedKey.objects.filter(spki_sha256=spki).exists():
            with ThreadPoolExecutor(1) as pool:
                pool.submit(block).result(20)

    monkeypatch.setattr(issuance, "point", between)
    issuance.record(batch, now)
    request.refresh_from_db()
    assert (request.state, request.error and request.error["code"]) == ("rejected", "keyBlocked")
    assert not Certificate.objects.exists()


def test_why_and_when_a_key_was_first_blocked_stays(hierarchy: None, now: datetime) -> None:
    for code in ("keyCompromise", "weak"):
        blocklist.block(b"k" * 32, code, now, "test")
    first = Event.objects.filter(type="key.blocked").order_by("position").values_list("position", flat=True)[0]
    row = BlockedKey.objects.get(spki_sha256=b"k" * 32)
    assert (row.code, row.position) == ("keyCompromise", first)
