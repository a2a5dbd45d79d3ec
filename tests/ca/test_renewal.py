"""Who may renew what, what a renewal may change, and that a proof serves once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from django.db import IntegrityError, connection

from ca import blocklist, hierarchy, issuance, pipeline, policy, renewal, revocation, tokens
from ca.errors import Problem
from ca.models import Certificate, Request, Token
from ca.pki import proofs
from ca.policy import lifetime_end
from ca.profiles import PROFILES
from eventlog.models import Event
from tests.api.test_challenge_password import der as with_password
from tests.ca.pki import forge
from tests.material import csr, new_key

pytestmark = pytest.mark.django_db
ABSENT = "0b" * 20
Key = CertificateIssuerPrivateKeyTypes
Make = Callable[..., Token]
Issue = Callable[..., Certificate]
Pipeline = Callable[[], None]


@pytest.fixture
def make(hierarchy: None, now: datetime) -> Make:
    def token(owner: str = "alice", *actions: str, **scope: Any) -> Token:
        scope = {"profiles": ("*",), "wildcards": True, **scope}
        return Token.objects.get(id=tokens.create(owner, owner, tokens.Scope(actions=actions or ("issue",), **scope), now, by="test")[0])

    return token


@pytest.fixture
def alice(make: Make) -> Token:
    return make()


@pytest.fixture
def key() -> Key:
    return new_key()


@pytest.fixture
def issue(alice: Token, now: datetime, run_pipeline: Pipeline) -> Issue:
    """Alice's certificate for pay.internal, on node n1 of the service payroll."""

    def issued(key: Key, name: str = "pay.internal", token: Token = alice, **more: Any) -> Certificate:
        wanted = {"service": "payroll", "node": "n1", **more}
        (request,) = pipeline.submit(token, [pipeline.Submission(csr=csr(name, key=key), **wanted)], now)  # type: ignore[arg-type]
        assert isinstance(request, Request), request
        run_pipeline()
        return Certificate.objects.get(request=request.id)

    return issued


def proof(old: Certificate, key: Key, der: bytes, challenge: bytes | None = None) -> bytes:
    key_id = issuance.issuer_facts(old.issuer).key_id
    statement = proofs.renewal_statement(key_id, old.serial, challenge or bytes(old.renewal_challenge), sha256(der).digest())
    return forge.sign(key, statement)


def ask(old: Certificate, key: Key, now: datetime, der: bytes | None = None, token: Token | None = None, **more: Any) -> Request | Problem:
    der = der or csr("pay.internal")
    return pipeline.renew(token, pipeline.Renewal(old.serial, der, more.pop("proof", proof(old, key, der)), **more), now)


def renewed(request: Request | Problem) -> Certificate:
    assert isinstance(request, Request), request
    return Certificate.objects.get(request=request.id)


def code(answer: Request | Problem) -> str:
    assert isinstance(answer, Problem), answer
    return answer.code


def refused(call: Callable[..., Any], *arguments: Any, **more: Any) -> str:
    """The code of the Problem, raised or returned, that leaves no trace."""
    before = Event.objects.count(), Request.objects.count()
    try:
        answer = call(*arguments, **more)
    except Problem as problem:
        answer = problem
    assert (Event.objects.count(), Request.objects.count()) == before
    return code(answer)


def outcome(request: Request | Problem) -> tuple[str, str]:
    assert isinstance(request, Request), request
    request.refresh_from_db()
    return request.state, (request.error or {}).get("code", "")


# --- what it gives


def test_the_key_alone_renews(issue: Issue, alice: Token, key: Key, now: datetime, run_pipeline: Pipeline) -> None:
    old, later = issue(key), now + timedelta(days=60)
    request = ask(old, key, later)
    run_pipeline()
    new = renewed(request)
    old.refresh_from_db()
    assert (new.replaces, old.replaced_by, new.replaced_by) == (old.serial, new.serial, None)
    same = ("token", "owner", "profile", "service", "node", "names", "key_type")
    assert [getattr(new, name) for name in same] == [getattr(old, name) for name in same]
    assert new.spki_sha256 != old.spki_sha256
    assert new.renewal_challenge != old.renewal_challenge
    assert (old.revoked_at, new.revoked_at) == (None, None)


@pytest.mark.parametrize("kind", ["P-384", "Ed25519", "RSA-2048"])
def test_other_kinds_of_keys_renew(issue: Issue, alice: Token, kind: str, now: datetime, run_pipeline: Pipeline) -> None:
    key = forge.key(kind)
    request = ask(issue(key), key, now)
    run_pipeline()
    assert renewed(request).replaces


def test_the_next_one_is_renewed_by_its_own_key_and_challenge(issue: Issue, key: Key, now: datetime, run_pipeline: Pipeline) -> None:
    first, second_key = issue(key), new_key()
    request = ask(first, key, now, csr("pay.internal", key=second_key))
    run_pipeline()
    second, der = renewed(request), csr("pay.internal")
    for wrong in (proof(second, key, der), proof(second, second_key, der, bytes(first.renewal_challenge)), proof(first, second_key, der)):
        assert refused(ask, second, second_key, now, der, proof=wrong) == "notEntitled"
    request = ask(second, second_key, now, der)
    run_pipeline()
    assert renewed(request).replaces == second.serial


@pytest.mark.parametrize("days", [1, 7, 90, 397])
def test_it_lives_as_long_as_before(issue: Issue, key: Key, now: datetime, days: int, run_pipeline: Pipeline) -> None:
    old = issue(key, not_after=lifetime_end(timedelta(days=days), PROFILES["server"], now))
    request = ask(old, key, now - timedelta(minutes=1))  # waits for a minute: that shortens no life
    run_pipeline()
    new = renewed(request)
    assert new.not_after - new.not_before == old.not_after - old.not_before


def test_a_life_that_is_too_long_by_now_is_shortened(
    issue: Issue, key: Key, now: datetime, monkeypatch: pytest.MonkeyPatch, run_pipeline: Pipeline
) -> None:
    old, shorter = issue(key), {"server": replace(PROFILES["server"], maximum=timedelta(days=30))}
    for module in (renewal, policy):
        monkeypatch.setattr(module, "PROFILES", shorter)
    request = ask(old, key, now)
    run_pipeline()
    new = renewed(request)
    assert new.not_after - new.not_before == timedelta(days=30, seconds=-1)


def test_it_comes_from_the_issuer_that_is_active_now(issue: Issue, key: Key, now: datetime, run_pipeline: Pipeline) -> None:
    old = issue(key)
    hierarchy.add_intermediate("issuing-2", "root", now)
    hierarchy.activate("issuing-2", "server", now)
    request = ask(old, key, now)
    run_pipeline()
    assert (old.issuer, renewed(request).issuer) == ("issuing-1", "issuing-2")


# --- the proof


def test_a_proof_serves_one_certificate_one_challenge_and_one_request(issue: Issue, key: Key, now: datetime) -> None:
    old, other, der = issue(key), issue(key, "other.internal"), csr("pay.internal")
    wrong = {
        "another serial": proof(other, key, der),
        "another request": proof(old, key, csr("pay.internal")),
        "another challenge": proof(old, key, der, b"c" * 32),
        "another key": proof(old, new_key(), der),
        "the new key": proof(old, new_key(), der),
        "a revocation": key.sign(  # type: ignore[union-attr, call-arg]
            proofs.revocation_statement(issuance.issuer_facts("issuing-1").key_id, old.serial, "superseded"), ec.ECDSA(hashes.SHA256())
        ),
        "nothing": b"",
        "garbage": b"\x30\x06\x02\x01\x00\x02\x01\x00",
    }
    for what, signature in wrong.items():
        assert refused(ask, old, key, now, der, proof=signature) == "notEntitled", what
    assert isinstance(ask(old, key, now, der), Request), "nothing is spent"


def test_an_unknown_serial_is_refused_in_the_same_words_after_the_same_work(
    issue: Issue, key: Key, make: Make, now: datetime, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    old, verified, der = issue(key), [], csr("pay.internal")
    real = proofs.proves
    monkeypatch.setattr(proofs, "proves", lambda public, *rest: verified.append(type(public)) or real(public, *rest))
    bob, answers = make("bob"), []
    good, bad = proof(old, key, der), proof(old, new_key(), der)
    for serial, token, signature in ((old.serial, None, bad), (ABSENT, None, bad), (old.serial, bob, good), (ABSENT, bob, good)):
        with django_assert_num_queries(1), pytest.raises(Problem) as caught:
            pipeline.renew(token, pipeline.Renewal(serial, der, signature), now)
        answers.append(caught.value.as_dict())
    assert answers == [answers[0]] * 4
    assert answers[0]["code"] == "notEntitled"
    assert verified == [verified[0]] * 4


def test_a_malleated_signature_is_the_same_proof_and_gives_nothing_more(
    issue: Issue, key: Key, now: datetime, run_pipeline: Pipeline
) -> None:
    old, der = issue(key), csr("pay.internal")
    first = proof(old, key, der)
    r, s = decode_dss_signature(first)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    second = encode_dss_signature(r, order - s)
    request = ask(old, key, now, der, proof=first)
    for _ in range(2):
        for signature in (first, second, proof(old, key, der)):
            assert refused(ask, old, key, now, der, proof=signature) == "alreadyRenewed"
        run_pipeline()
    assert renewed(request).replaces == old.serial


# --- once


def test_there_is_one_successor(issue: Issue, alice: Token, key: Key, now: datetime, run_pipeline: Pipeline) -> None:
    old = issue(key)
    request = ask(old, key, now)
    assert refused(ask, old, key, now) == "alreadyRenewed"
    assert refused(ask, old, key, now, token=alice) == "alreadyRenewed"
    run_pipeline()
    problem = ask(old, key, now)
    assert (code(problem), renewed(request).serial in str(problem)) == ("alreadyRenewed", True)
    assert refused(ask, old, key, now, token=alice) == "alreadyRenewed"


def test_also_where_only_the_log_is_left(issue: Issue, key: Key, now: datetime, run_pipeline: Pipeline) -> None:
    old = issue(key)
    ask(old, key, now)
    run_pipeline()
    kept = list(Request.objects.all())
    Request.objects.all().delete()
    assert refused(ask, old, key, now) == "alreadyRenewed"
    Request.objects.bulk_create(kept)


def test_the_database_itself_refuses_a_second(issue: Issue, key: Key, now: datetime) -> None:
    request = ask(issue(key), key, now)
    assert isinstance(request, Request)
    request.pk, request.idempotency_key = uuid4(), None
    with pytest.raises(IntegrityError), pipeline.transaction.atomic():
        request.save(force_insert=True)


def test_the_same_key_gives_the_same_request(issue: Issue, alice: Token, key: Key, now: datetime, run_pipeline: Pipeline) -> None:
    old, der = issue(key), csr("pay.internal")
    first = ask(old, key, now, der, idempotency_key="k")
    assert isinstance(first, Request)
    for _ in range(2):
        again = ask(old, key, now, der, idempotency_key="k")  # a fresh proof, as ECDSA gives another signature each time
        assert isinstance(again, Request)
        assert again.id == first.id
        assert refused(ask, old, key, now, idempotency_key="k") == "idempotencyMismatch"
        assert refused(ask, old, key, now, der, idempotency_key="l") == "alreadyRenewed"
        assert refused(ask, old, key, now, der) == "alreadyRenewed"
        assert refused(ask, old, key, now, der, proof=b"0", idempotency_key="k") == "notEntitled"
        run_pipeline()


def test_a_key_of_the_tokens_is_none_of_the_certificates(issue: Issue, alice: Token, key: Key, now: datetime) -> None:
    old, der = issue(key), csr("pay.internal")
    mine = pipeline.submit(alice, [pipeline.Submission(csr=der, idempotency_key="k", body_hash=sha256(der).digest())], now)[0]
    by_proof = ask(old, key, now, der, idempotency_key="k")
    assert isinstance(mine, Request)
    assert isinstance(by_proof, Request)
    assert mine.id != by_proof.id


def test_a_rejected_one_makes_room(issue: Issue, key: Key, now: datetime, run_pipeline: Pipeline) -> None:
    old, blocked = issue(key), new_key()
    bad = ask(old, key, now, csr("pay.internal", key=blocked))
    blocklist.block(forge_sha256(blocked), "weak", now, "test")
    run_pipeline()
    assert outcome(bad) == ("rejected", "keyBlocked")
    good = ask(old, key, now)
    run_pipeline()
    assert renewed(good).replaces == old.serial


def forge_sha256(key: Key) -> bytes:
    return sha256(forge.spki_of(key)).digest()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("keyed", [False, True])
def test_of_twenty_at_once_one_wins(issue: Issue, key: Key, now: datetime, keyed: bool, run_pipeline: Pipeline) -> None:
    old, barrier = issue(key), Barrier(10)
    csrs = [csr("pay.internal") for _ in range(20)]

    def renew(number: int) -> str:
        if number < 10:
            barrier.wait(30)
        try:
            more = {"idempotency_key": f"k{number}"} if keyed else {}
            answer = ask(old, key, now, csrs[number], **more)
            return answer.code if isinstance(answer, Problem) else "accepted"
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(renew, range(20)))
    assert sorted(answers) == ["accepted"] + ["alreadyRenewed"] * 19
    run_pipeline()
    assert Certificate.objects.filter(replaces=old.serial).count() == 1


@pytest.mark.django_db(transaction=True)
def test_twenty_of_one_key_at_once_are_one(issue: Issue, key: Key, now: datetime, run_pipeline: Pipeline) -> None:
    old, der = issue(key), csr("pay.internal")

    def renew(_: int) -> Any:
        try:
            answer = ask(old, key, now, der, idempotency_key="k")
            return answer.id if isinstance(answer, Request) else answer
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as threads:
        assert len(set(threads.map(renew, range(20)))) == 1
    run_pipeline()


def test_one_commit_may_hold_many_renewals(issue: Issue, key: Key, alice: Token, now: datetime) -> None:
    """As when threads share it: two of one certificate, one of another, and an ordinary request."""
    olds = [issue(key), issue(key, "b.internal")]
    rows = []
    for serial in (olds[1].serial, olds[0].serial, olds[0].serial, None):
        answer = pipeline._admitted(alice.grant(), pipeline.Submission(csr=csr("pay.internal")), now)
        assert isinstance(answer, Request)
        answer.replaces, answer.renewal_proof = serial, b"p" if serial else None
        rows.append(answer)
    stored = pipeline._stored(rows)
    assert Request.objects.filter(state="received").count() == 3
    assert [code(answer) for answer in stored.requests.values()] == ["alreadyRenewed"]
    Request.objects.filter(state="received").delete()


# --- tokens


def test_names_stay_unless_a_token_permits_more(
    issue: Issue, alice: Token, make: Make, key: Key, now: datetime, run_pipeline: Pipeline
) -> None:
    old = issue(key)
    for names in (("db.internal",), ("pay.internal", "db.internal"), ("*.pay.internal",)):
        assert refused(ask, old, key, now, csr(*names)) == "namesChanged", names
        assert refused(ask, old, key, now, csr(*names), token=make("alice", "renew")) == "namesChanged", names
    assert refused(ask, old, key, now, csr("evil.example"), token=alice) == "nameOutsideZones"
    request = ask(old, key, now, csr("pay.internal", "db.internal"), token=alice)
    run_pipeline()
    assert renewed(request).names == ["dns:pay.internal", "dns:db.internal"]


def test_the_order_of_the_names_is_no_change(alice: Token, key: Key, now: datetime, run_pipeline: Pipeline) -> None:
    (first,) = pipeline.submit(alice, [pipeline.Submission(csr=csr("a.internal", "b.internal", key=key))], now)  # type: ignore[arg-type]
    run_pipeline()
    request = ask(renewed(first), key, now, csr("b.internal", "a.internal"))
    run_pipeline()
    assert renewed(request).names == ["dns:b.internal", "dns:a.internal"]


def test_an_owners_other_token_decides_and_is_recorded(
    issue: Issue, alice: Token, make: Make, key: Key, now: datetime, run_pipeline: Pipeline
) -> None:
    old, other = issue(key), make("alice", "renew")
    tokens.revoke(alice.id, now, "test", "leaked")
    assert refused(ask, old, key, now) == "tokenRevoked"
    request = ask(old, key, now, token=other)
    run_pipeline()
    assert (renewed(request).token, renewed(request).owner) == (other.id, "alice")
    narrow = make("alice", "issue", names=("other.internal",))
    assert refused(ask, issue(key, "b.internal", token=make()), key, now, csr("b.internal"), token=narrow) == "nameForbidden"


def test_another_owners_token_takes_nothing_over(issue: Issue, make: Make, key: Key, now: datetime) -> None:
    old = issue(key)
    assert refused(ask, old, key, now, token=make("bob")) == "notEntitled"
    assert refused(ask, old, key, now, token=make("operator", "issue", "audit", "revoke")) == "notEntitled"


def test_a_token_that_may_not_renew(issue: Issue, make: Make, key: Key, now: datetime) -> None:
    old = issue(key)
    assert refused(ask, old, key, now, token=make("alice", "read", "revoke", "audit", "log")) == "forbidden"
    assert refused(ask, old, key, now, token=make("alice", "issue", expires_at=now)) == "tokenExpired"
    revoked = make("alice")
    tokens.revoke(revoked.id, now, "test", "leaked")
    assert refused(ask, old, key, now, token=revoked) == "tokenRevoked"


def test_the_first_token_has_to_live(issue: Issue, make: Make, key: Key, now: datetime, run_pipeline: Pipeline) -> None:
    old = issue(key, token=make("alice", "issue", expires_at=now + timedelta(days=1)))
    assert refused(ask, old, key, now + timedelta(days=2)) == "tokenExpired"
    assert isinstance(ask(old, key, now), Request)


def test_the_whole_policy_runs_again(issue: Issue, key: Key, now: datetime, settings: Any, run_pipeline: Pipeline) -> None:
    old = issue(key)
    zones, settings.ZONES = settings.ZONES, ("elsewhere.internal",)
    assert refused(ask, old, key, now) == "nameOutsideZones"
    settings.ZONES = zones
    request = ask(old, key, now)
    settings.ZONES = ("elsewhere.internal",)
    run_pipeline()
    assert outcome(request) == ("rejected", "nameOutsideZones")


def test_what_nobody_may_ask_for_is_not_renewed(issue: Issue, key: Key, now: datetime) -> None:
    old = issue(key)
    Certificate.objects.filter(serial=old.serial).update(profile="ocsp-signer")
    assert refused(ask, old, key, now) == "profileUnknown"
    Certificate.objects.filter(serial=old.serial).update(profile="server")


# --- keys, time, revocation


def test_the_key_stays_or_changes_as_the_profile_says(issue: Issue, key: Key, now: datetime, run_pipeline: Pipeline) -> None:
    again = csr("pay.internal", key=key)  # type: ignore[arg-type]
    request = ask(issue(key), key, now, again)
    run_pipeline()
    assert renewed(request).spki_sha256 == forge_sha256(key)
    assert refused(ask, issue(key, profile="short-lived"), key, now, again) == "keyReused"


@pytest.mark.parametrize("profile", ["server", "short-lived"])
def test_after_its_end_only_within_the_grace(issue: Issue, key: Key, now: datetime, profile: str, run_pipeline: Pipeline) -> None:
    old = issue(key, profile=profile)
    last = old.not_after + PROFILES[profile].renewal_grace
    assert refused(ask, old, key, last + timedelta(seconds=1)) == "renewalTooLate"
    assert isinstance(ask(old, key, last), Request)
    Request.objects.filter(state="received").delete()


LATER: dict[str, dict[str, Any]] = {
    "the same place": {},
    "another node": {"node": "n2"},
    "another service": {"service": "ledger"},
    "another profile": {"profile": "peer"},
    "another name": {"name": "other.internal"},
}


@pytest.mark.parametrize("later", LATER)
def test_after_its_end_only_the_newest_of_its_place(issue: Issue, make: Make, key: Key, now: datetime, later: str) -> None:
    old, ended = issue(key), timedelta(days=1)
    issue(new_key(), token=make("bob"))
    issue(new_key(), **LATER[later])
    answer = ask(old, key, old.not_after + ended)
    if later == "the same place":
        assert (code(answer), Request.objects.filter(state="received").count()) == ("renewalTooLate", 0)
        answer = ask(old, key, old.not_after)  # while it lives its key is as good as another
    assert isinstance(answer, Request)
    Request.objects.filter(state="received").delete()


@pytest.mark.usefixtures("other_time")
def test_who_asked_in_time_is_not_late_for_having_waited(issue: Issue, key: Key, now: datetime) -> None:
    old, batch = issue(key), uuid4()
    request, later = ask(old, key, old.not_after + PROFILES["server"].renewal_grace), old.not_after + timedelta(days=40)
    for step in (issuance.validate, *issuance.STEPS.values()):
        step(batch, later)
    assert outcome(request) == ("issued", "")


def test_nothing_revoked_is_renewed(issue: Issue, key: Key, now: datetime) -> None:
    old = issue(key)
    _revoke(old, now)
    assert refused(ask, old, key, now) == "certificateRevoked"


def _revoke(old: Certificate, now: datetime, reason: str = "superseded") -> None:
    with pipeline.transaction.atomic():
        revocation.revoke([old.serial], revocation.Cause(reason, "operator", "test"), now)


# --- asked again where the key is used

MEANWHILE: dict[str, Callable[[Certificate, Token, Request, datetime], None]] = {
    "certificateRevoked": lambda old, token, request, now: _revoke(old, now),
    "tokenRevoked": lambda old, token, request, now: tokens.revoke(token.id, now, "test", "leaked"),
    "keyBlocked": lambda old, token, request, now: blocklist.block(bytes(old.spki_sha256), "keyCompromise", now, "test"),
}


@pytest.mark.parametrize("expected", MEANWHILE)
@pytest.mark.parametrize("after", [0, 1])
def test_what_happens_meanwhile_counts(
    expected: str, after: int, issue: Issue, alice: Token, key: Key, now: datetime, run_pipeline: Pipeline
) -> None:
    """`after` so many steps."""
    old, batch = issue(key), uuid4()
    request = ask(old, key, now)
    assert isinstance(request, Request)
    steps = [issuance.validate, *issuance.STEPS.values()]
    for number, step in enumerate(steps):
        if number == after:
            MEANWHILE[expected](old, alice, request, now)
        step(batch, now)
    assert outcome(request) == ("rejected", expected)
    assert not Certificate.objects.exclude(serial=old.serial).exists()
    assert Event.objects.filter(type="issuance.orphaned").count() == after


ROW: dict[str, Any] = {
    "another proof": {"renewal_proof": b"0"},
    "no proof": {"renewal_proof": None},
    "another request": {"csr": csr("pay.internal")},
    "another request's hash": {"csr_sha256": b"h" * 32},
    "another owner": {"owner": "bob"},
    "an absent certificate": {"replaces": ABSENT},
}


@pytest.mark.unjudged("changes rows by hand")
@pytest.mark.parametrize("what", ROW)
@pytest.mark.parametrize("after", [0, 1])
def test_a_row_changed_by_hand_is_not_signed(what: str, after: int, issue: Issue, key: Key, now: datetime) -> None:
    old, batch = issue(key), uuid4()
    request = ask(old, key, now)
    assert isinstance(request, Request)
    for number, step in enumerate((issuance.validate, *issuance.STEPS.values())):
        if number == after:
            Request.objects.filter(id=request.id).update(**ROW[what])
        step(batch, now)
    assert outcome(request) == ("rejected", "notEntitled")
    assert not request.signature


@pytest.mark.unjudged("changes rows by hand")
def test_nor_one_whose_names_the_key_alone_does_not_give(
    issue: Issue, alice: Token, key: Key, now: datetime, run_pipeline: Pipeline
) -> None:
    request = ask(issue(key), key, now, csr("db.internal"), token=alice)
    Request.objects.filter(state="received").update(names_as_before=True)
    run_pipeline()
    assert outcome(request) == ("rejected", "namesChanged")


@pytest.mark.unjudged("makes a second successor by hand")
def test_nor_one_that_is_renewed_already(issue: Issue, key: Key, now: datetime, run_pipeline: Pipeline) -> None:
    old = issue(key)
    request = ask(old, key, now)
    Certificate.objects.filter(serial=old.serial).update(replaced_by=ABSENT)
    run_pipeline()
    assert outcome(request) == ("rejected", "alreadyRenewed")


def test_one_bad_renewal_in_a_batch_spoils_none(issue: Issue, key: Key, alice: Token, now: datetime, run_pipeline: Pipeline) -> None:
    olds = [issue(key), issue(key, "b.internal"), issue(key, "c.internal")]
    requests = [ask(old, key, now, csr(old.names[0].removeprefix("dns:"))) for old in olds]
    requests += pipeline.submit(alice, [pipeline.Submission(csr=csr("d.internal"))], now)
    _revoke(olds[1], now)
    run_pipeline()
    assert [outcome(request)[0] for request in requests] == ["issued", "rejected", "issued", "issued"]


def test_a_password_in_the_request_does_not_spoil_the_proof(issue: Issue, key: Key, now: datetime, run_pipeline: Pipeline) -> None:
    """What is stored lacks it, so its hash is no more the one that was signed."""
    old, der = issue(key), with_password("J8-kx0Qm7Zr4Tn2Vb9Lc6Wd1Yf3Hg5Sj", "pay.internal")
    request = ask(old, key, now, der)
    run_pipeline()
    assert isinstance(request, Request)
    assert bytes(Request.objects.get(id=request.id).csr) != der
    assert renewed(request).challenge_password_hash is not None
