"""The four steps, run in this process: what each does, and does not do when it is not its turn."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.db import connection

from ca import blocklist, challenges, hierarchy, issuance, keys, pipeline, shapes, tokens
from ca.errors import Problem
from ca.models import Certificate, Intent, Issuer, Request, Shape, State, Token
from ca.pki import lint
from ca.policy import Decision, lifetime_end
from ca.profiles import PROFILES
from eventlog import clock
from eventlog.models import Event
from tests import oracle
from tests.material import csr, new_key

pytestmark = pytest.mark.django_db
EVERYTHING = tokens.Scope(actions=("issue", "read"), profiles=("*",), wildcards=True, ips=("*",))


@pytest.fixture
def token(hierarchy: None, now: datetime) -> Token:
    return Token.objects.get(id=tokens.create("test", "alice", EVERYTHING, now, by="test")[0])


def submit(token: Token, now: datetime, *csrs: bytes, **more: Any) -> list[Request]:
    answers = pipeline.submit(token, [pipeline.Submission(csr=der, **more) for der in csrs], now)
    assert all(isinstance(answer, Request) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Request)]


def types() -> list[str]:
    return [kind for kind in Event.objects.order_by("position").values_list("type", flat=True) if not kind.startswith(("issuer", "token"))]


def states() -> list[str]:
    return list(Request.objects.order_by("id").values_list("state", flat=True))


def test_a_request_becomes_a_certificate_in_the_log(token: Token, now: datetime, run_pipeline: Any) -> None:
    (request,) = submit(token, now, csr("pay.internal", common_name="pay.internal"), service="payroll", node="payroll-1")
    run_pipeline()
    certificate = Certificate.objects.get(request=request.id)
    assert (certificate.owner, certificate.service, certificate.node) == ("alice", "payroll", "payroll-1")
    assert certificate.names == ["dns:pay.internal"]
    assert types() == ["issuance.intended", "certificate.issued"]
    oracle.check()


def test_each_step_moves_only_rows_whose_turn_it_is(token: Token, now: datetime) -> None:
    submit(token, now, csr("a.internal"))
    batch = uuid4()
    for early in (issuance.record, issuance.challenge, issuance.sign):
        early(batch, now)
    assert states() == ["received"]
    assert issuance.validate(batch, now) == 1
    issuance.record(batch, now)
    assert states() == ["validated"]
    for step in issuance.STEPS.values():
        step(batch, now)
        step(batch, now)
    assert states() == ["issued"]
    assert types() == ["issuance.intended", "certificate.issued"]
    oracle.check()


def test_the_intent_is_in_the_log_before_the_key_is_used(token: Token, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(token, now, csr("a.internal"))
    batch = uuid4()
    monkeypatch.setattr(keys, "issuer_signer", lambda name: pytest.fail("validate signs nothing"))
    issuance.validate(batch, now)
    assert types() == ["issuance.intended"]


def test_one_bad_request_in_a_batch_is_rejected_alone(token: Token, now: datetime, run_pipeline: Any) -> None:
    key = new_key()
    _, bad, _ = submit(token, now, csr("a.internal"), csr("b.internal", key=key), csr("c.internal"))
    spki = issuance.csr_rules.parse(bytes(bad.csr)).spki_sha256
    blocklist.block(spki, "keyCompromise", now, by="test")
    run_pipeline()
    assert sorted(states()) == ["issued", "issued", "rejected"]
    assert Request.objects.get(id=bad.id).error["code"] == "keyBlocked"
    oracle.check()


def test_the_cas_own_keys_are_never_certified(token: Token, now: datetime, run_pipeline: Any) -> None:
    issuer = keys.issuer_signer("issuing-1")
    subject = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    named = subject.add_extension(x509.SubjectAlternativeName([x509.DNSName("a.internal")]), critical=False)
    (request,) = submit(token, now, issuer.sign_request(named).public_bytes(Encoding.DER))
    run_pipeline()
    assert Request.objects.get(id=request.id).error["detail"].endswith("(caKey)")


def test_a_token_revoked_after_acceptance_gets_nothing(token: Token, now: datetime, run_pipeline: Any) -> None:
    submit(token, now, csr("a.internal"))
    tokens.revoke(token.id, now, by="test", why="leaked")
    run_pipeline()
    assert states() == ["rejected"]
    assert types() == ["request.rejected"]
    oracle.check()


def test_a_token_revoked_before_the_signature_orphans_the_intent(token: Token, now: datetime) -> None:
    submit(token, now, csr("a.internal"))
    batch = uuid4()
    issuance.validate(batch, now)
    tokens.revoke(token.id, now, by="test", why="leaked")
    for step in issuance.STEPS.values():
        step(batch, now)
    assert types() == ["issuance.intended", "issuance.orphaned", "request.rejected"]
    assert not Certificate.objects.exists()
    oracle.check()


def test_bytes_changed_by_hand_after_the_intent_are_not_signed(token: Token, now: datetime) -> None:
    (request,) = submit(token, now, csr("a.internal"))
    batch = uuid4()
    issuance.validate(batch, now)
    tbs = bytearray(Request.objects.get(id=request.id).tbs)
    tbs[-1] ^= 1
    Request.objects.filter(id=request.id).update(tbs=bytes(tbs))
    issuance.sign(batch, now)
    assert Request.objects.get(id=request.id).error["code"] == "notAsIntended"
    assert "issuance.orphaned" in types()


def test_bytes_announced_for_one_issuer_are_not_signed_by_anothers_key(token: Token, now: datetime) -> None:
    (request,) = submit(token, now, csr("a.internal"))
    batch = uuid4()
    issuance.validate(batch, now)
    Request.objects.filter(id=request.id).update(issuer="root")
    issuance.sign(batch, now)
    stored = Request.objects.get(id=request.id)
    assert (stored.state, stored.error["code"]) == ("rejected", "notAsIntended")
    assert not stored.signature


def test_a_key_blocked_after_the_intent_is_not_certified(token: Token, now: datetime) -> None:
    bad, good = submit(token, now, csr("a.internal"), csr("b.internal"))
    batch = uuid4()
    issuance.validate(batch, now)
    blocklist.block(issuance.csr_rules.parse(bytes(bad.csr)).spki_sha256, "keyCompromise", now, by="test")
    for step in issuance.STEPS.values():
        step(batch, now)
    assert Request.objects.get(id=bad.id).error["code"] == "keyBlocked"
    assert Request.objects.get(id=good.id).state == "issued"
    assert types()[2:] == ["key.blocked", "issuance.orphaned", "request.rejected", "certificate.issued"]


def test_signing_again_gives_the_same_bytes(token: Token, now: datetime) -> None:
    (request,) = submit(token, now, csr("a.internal"))
    batch = uuid4()
    issuance.validate(batch, now)
    issuance.sign(batch, now)
    first = bytes(Request.objects.get(id=request.id).signature)
    Request.objects.update(state=State.VALIDATED, signature=None)  # as after a crash between signature and commit
    issuance.sign(batch, now)
    assert bytes(Request.objects.get(id=request.id).signature) == first


def test_a_clock_behind_the_log_signs_nothing(token: Token, now: datetime) -> None:
    submit(token, now, csr("a.internal"))
    with pytest.raises(issuance.ClockBehind, match="set the clock"):
        issuance.validate(uuid4(), now - timedelta(hours=1))
    assert states() == ["received"]


def test_a_clock_that_steps_back_between_intent_and_signature(token: Token, now: datetime) -> None:
    submit(token, now, csr("a.internal"))
    batch = uuid4()
    issuance.validate(batch, now)
    with pytest.raises(issuance.ClockBehind):
        issuance.sign(batch, now - timedelta(days=700))
    assert states() == ["validated"]


@pytest.mark.skipif(connection.vendor == "sqlite", reason="the same host, the same clock")
@pytest.mark.parametrize("off", [timedelta(minutes=6), timedelta(minutes=-6)])
def test_a_clock_that_is_not_the_database_servers_signs_nothing(token: Token, now: datetime, off: timedelta) -> None:
    submit(token, now, csr("a.internal"))
    batch = uuid4()
    for step, state in ((issuance.validate, "received"), (issuance.sign, "validated"), (issuance.record, "challenged")):
        with pytest.raises((clock.ClockApart, issuance.ClockBehind), match="set the clock"):
            step(batch, now + off)
        assert states() == [state]
        step(batch, now)
        if state == "validated":
            issuance.challenge(batch, now)
    assert states() == ["issued"]


@pytest.mark.unjudged("shortens an issuer's life in its row")
def test_validity_beyond_the_issuer_is_refused_not_cut(token: Token, now: datetime, run_pipeline: Any) -> None:
    late = Issuer.objects.get(name="issuing-1")
    Issuer.objects.update(not_after=now)
    issuance.issuer_facts.cache_clear()
    decision_end = late.not_after
    assert decision_end > now
    facts = issuance.issuer_facts("issuing-1")
    decision = Decision(PROFILES["server"], (), None, now, facts.not_after + timedelta(seconds=1))
    with pytest.raises(Problem) as caught:
        issuance.within_issuer(decision, facts)
    assert caught.value.code == "validityBeyondIssuer"


def test_a_shape_that_fails_pkilint_signs_nothing(token: Token, now: datetime, run_pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes._passed.clear()
    monkeypatch.setattr(lint, "pkilint_findings", lambda plan: ["pkix.something_wrong"])
    (request,) = submit(token, now, csr("a.internal"))
    run_pipeline()
    assert Request.objects.get(id=request.id).error["code"] == "shapeRefused"
    assert len(shapes.refused()) == 1
    assert types() == ["request.rejected"]
    shapes._passed.clear()


def test_a_shape_of_long_description_stops_nothing(token: Token, now: datetime, run_pipeline: Any, settings: Any) -> None:
    """The description holds names and URLs out of the settings; a column too short for it would fail every batch for ever."""
    settings.AIA_URL = f"http://{'pki.' * 60}internal/{'a' * 60}"
    shapes._passed.clear()
    submit(token, now, csr("a.internal"))
    run_pipeline()
    assert states() == ["issued"]


def test_a_verdict_of_many_findings_still_fits_an_event(
    token: Token, now: datetime, run_pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes._passed.clear()
    monkeypatch.setattr(lint, "pkilint_findings", lambda plan: ["pkix.something_wrong at a long path: and why"] * 2_000)
    submit(token, now, csr("a.internal"))
    run_pipeline()
    assert states() == ["rejected"]
    shapes._passed.clear()


def test_a_verdict_is_remembered(token: Token, now: datetime, run_pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes._passed.clear()
    submit(token, now, csr("a.internal"))
    run_pipeline()
    assert Shape.objects.get().passed
    monkeypatch.setattr(lint, "pkilint_findings", lambda plan: pytest.fail("asked again"))
    shapes._passed.clear()  # as in another process
    submit(token, now, csr("b.internal"))
    run_pipeline()
    assert states() == ["issued", "issued"]


def test_the_sample_asks_pkilint_again(
    token: Token, now: datetime, run_pipeline: Any, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.PKILINT_SAMPLE = 3
    shapes._passed.clear()
    asked: list[Any] = []
    monkeypatch.setattr(lint, "pkilint_findings", lambda plan: asked.append(plan) or [])
    submit(token, now, *(csr(f"n{number}.internal") for number in range(7)))
    run_pipeline()
    assert len(asked) == 3, "the new shape, then the third and the sixth"


def test_a_fault_of_ours_in_one_request_spares_the_others(
    token: Token, now: datetime, run_pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = issuance.leaf.build

    def build(plan: Any) -> bytes:
        if plan.names[0].value == "b.internal":
            raise RuntimeError("a fault")
        return real(plan)

    monkeypatch.setattr(issuance.leaf, "build", build)
    submit(token, now, csr("a.internal"), csr("b.internal"), csr("c.internal"))
    run_pipeline()
    assert sorted(states()) == ["issued", "issued", "rejected"]
    assert "internalError" in json.dumps(list(Request.objects.values_list("error", flat=True)))


def test_a_key_that_cannot_be_opened_holds_up_its_own_issuer_only(
    token: Token, now: datetime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And is tried, and complained of, once for all that need it."""
    hierarchy.add_intermediate("issuing-2", "root", now)
    hierarchy.activate("issuing-2", "client", now)
    held = submit(token, now, csr("a.internal"), csr("b.internal"), profile="client")
    submit(token, now, csr("c.internal"))
    batch = uuid4()
    issuance.validate(batch, now)
    tried: list[str] = []

    def opened(name: str) -> Any:
        tried.append(name)
        if name == "issuing-2":
            raise keys.KeyFault("wrong passphrase")
        return opens(name)

    opens = keys.issuer_signer
    with monkeypatch.context() as patched:
        patched.setattr(keys, "issuer_signer", opened)
        issuance.sign(batch, now)
    assert set(Request.objects.values_list("issuer", "state")) == {("issuing-1", "signed"), ("issuing-2", "validated")}
    assert tried == ["issuing-1", "issuing-2"]
    (complaint,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert complaint.getMessage() == "2 requests wait for the key of issuing-2: wrong passphrase"
    assert complaint.__dict__["requests"] == sorted(str(request.id) for request in held)
    issuance.sign(batch, now)
    assert states() == ["signed"] * 3


def test_a_good_sample_does_not_take_back_a_refusal(
    token: Token, now: datetime, run_pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes._passed.clear()
    submit(token, now, csr("a.internal"))
    run_pipeline()
    Shape.objects.update(passed=False, findings=["pkix.something"])  # as another worker found
    monkeypatch.setattr(shapes.settings, "PKILINT_SAMPLE", 1)
    submit(token, now, csr("b.internal"))
    run_pipeline()
    assert shapes.refused()
    shapes._passed.clear()


def test_a_web_host_whose_clock_is_a_little_ahead_does_not_make_the_longest_time_too_long(
    token: Token, now: datetime, run_pipeline: Any
) -> None:
    ahead = now + timedelta(seconds=20)
    longest = lifetime_end(PROFILES["server"].maximum, PROFILES["server"], ahead)
    submit(token, ahead, csr("a.internal"), not_after=longest)
    batch = uuid4()
    issuance.validate(batch, now)
    assert states() == ["validated"]
    for step in issuance.STEPS.values():
        step(batch, now)


def test_a_fault_in_reading_one_request_spares_the_others(
    token: Token, now: datetime, run_pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(token, now, csr("a.internal"), csr("b.internal"))
    real, calls = issuance.csr_rules.parse, []

    def parse(der: bytes, verify: bool = True) -> Any:
        calls.append(der)
        if len(calls) == 1:
            raise RuntimeError("a fault")
        return real(der, verify)

    monkeypatch.setattr(issuance.csr_rules, "parse", parse)
    run_pipeline()
    assert sorted(states()) == ["issued", "rejected"]


def test_the_revocation_secret_is_nowhere_but_derivable(token: Token, now: datetime, run_pipeline: Any) -> None:
    submit(token, now, csr("a.internal"))
    run_pipeline()
    certificate = Certificate.objects.get()
    issuer = Issuer.objects.get(name=certificate.issuer)
    secret = challenges.revocation_secret(keys.revocation_key(), bytes(issuer.key_id), certificate.serial)
    assert challenges.secret_hash(secret) == bytes(certificate.revocation_secret_hash)
    written = b"".join(bytes(body) for body in Event.objects.values_list("body", flat=True))
    assert secret.encode() not in written
    assert secret not in repr(list(Request.objects.values()))


def test_serials_are_159_random_bits(token: Token, now: datetime, run_pipeline: Any) -> None:
    submit(token, now, *(csr(f"n{number}.internal") for number in range(20)))
    run_pipeline()
    serials = list(Intent.objects.values_list("serial", flat=True))
    assert len(set(serials)) == 20
    assert all(len(serial) == 40 and 0 < int(serial, 16) < 2**159 for serial in serials)
    assert max(int(serial, 16) for serial in serials) > 2**150


def test_the_event_says_what_the_certificate_says(token: Token, now: datetime, run_pipeline: Any) -> None:
    submit(token, now, csr("a.internal", "10.1.2.3"))
    run_pipeline()
    data = json.loads(bytes(Event.objects.get(type="certificate.issued").body))["data"]
    certificate = x509.load_der_x509_certificate(b64decode(data["certificate"]))
    assert data["names"] == ["dns:a.internal", "ip:10.1.2.3"]
    assert data["not_before"] == certificate.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert data["not_after"] == certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert data["key_type"] == "P-256"
