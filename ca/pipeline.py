"""The one door for every kind of signing request.

Owns acceptance: what is refused at once, what becomes a row, and the promise that goes with the row: once `submit` has
returned it, the request ends as a certificate or a rejection, whatever dies in between. Must never sign or append.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from eventlog.bulk import insert_rows, insert_unless_taken

from . import approvals, challenges, holders, issuance, keys, renewal, tasks, tokens
from .crash import point
from .errors import Problem
from .models import Request, State, Token, new_request_id
from .pki import csr as csr_rules
from .pki.violations import Violation
from .policy import Grant, Wanted, decide, decide_ocsp_signer, require, require_renewal
from .profiles import OCSP_SIGNER
from .renewal import Proof
from .shared_commit import SharedCommit

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submission:
    """What a client asks for. `csr` is one DER CertificationRequest; `body_hash` tells two bodies under one
    `idempotency_key` apart."""

    csr: bytes
    profile: str = "server"
    service: str = ""
    node: str = ""
    not_after: datetime | None = None
    idempotency_key: str | None = None
    body_hash: bytes = b""


@dataclass(frozen=True)
class Renewal:
    """The successor that the holder of a certificate asks for. `serial`: 40 hex digits, `csr` as in a Submission, `proof` a
    signature over pki.proofs.renewal_statement; or None with the `client_certificate` (DER) whose key the caller showed in TLS."""

    serial: str
    csr: bytes
    proof: bytes | None
    idempotency_key: str | None = None
    client_certificate: bytes | None = None


def submit(token: Token, submissions: Sequence[Submission], now: datetime) -> list[Request | Problem]:
    """One answer for each submission, in order: the stored request, or why it is refused. All rows are one commit; a
    repeated idempotency key gives the request it gave before. Raises Problem if the token may not issue at all; whether
    it was revoked since the caller recognised it is asked here, in that commit."""
    grant = token.grant()
    require(grant, "issue", now)
    return _answered(grant, [_admitted(grant, submission, now) for submission in submissions])


def submit_ocsp_signer(token: Token, issuer: str, submission: Submission, now: datetime) -> Request | Problem:
    """The CA's own way in, for the certificate of a delegated responder (RFC 6960 §4.2.2.2): the same as `submit`, for the one
    profile that it refuses, and from this very `issuer`, whichever is active. It is no way for others: where the issuer's key
    is used, the key to be certified must be one of this CA's own. Raises Problem as `submit` does."""
    grant = token.grant()
    require(grant, "issue", now)
    (answer,) = _answered(grant, [_admitted(grant, replace(submission, profile=OCSP_SIGNER), now, issuer)])
    return answer


def renew(token: Token | None, asked: Renewal, now: datetime) -> Request | Problem:
    """The request for the successor of a certificate, for whoever shows that one's key, or why it is refused. Without a `token`
    the one decides under which the certificate was issued, as far as it permits that today, and the names stay. An idempotency
    key used before for the same certificate and CSR gives the request it gave before. Raises Problem: notEntitled for a wrong
    proof, an unknown serial and another owner's certificate alike; for the token as `submit` does."""
    if token is not None:
        require_renewal(token.grant(), now)
    old, proof = _shown(asked, token.owner if token else None, now)
    try:
        return _renew((token or tokens.known(old.token)).grant(), token is None, old, proof, asked, now)
    except Problem as problem:
        if token is None and problem.code in ("tokenRevoked", "tokenExpired"):
            raise Problem(
                problem.code, "the token under which the certificate was issued has expired or was revoked: send another of the same owner"
            ) from None
        raise


def _shown(asked: Renewal, owner: str | None, now: datetime) -> tuple[renewal.Old, Proof]:
    """What is renewed, and what shows that its holder asks, as it is stored. Raises Problem."""
    old, csr_sha256 = renewal.find({asked.serial}).get(asked.serial), sha256(asked.csr).digest()
    if asked.proof is not None:
        proof = Proof(asked.serial, asked.proof, csr_sha256)
        return renewal.entitled(proof, old, owner), proof
    held = holders.check(old, asked.client_certificate or b"", owner, now)
    return held, Proof(held.serial, renewal.attestation(held, csr_sha256), csr_sha256)


def _renew(grant: Grant, by_proof_alone: bool, old: renewal.Old, proof: Proof, asked: Renewal, now: datetime) -> Request | Problem:
    require_renewal(grant, now)
    submission = Submission(
        csr=asked.csr, profile=old.profile, service=old.service, node=old.node, body_hash=proof.csr_sha256,
        idempotency_key=asked.idempotency_key and _scoped(old, asked.idempotency_key),
    )  # fmt: skip
    replacing = _Replacing(old, proof, names_as_before=by_proof_alone or "issue" not in grant.actions)
    (answer,) = _answered(grant, [_admitted(grant, submission, now, replacing=replacing)])
    return (isinstance(answer, Problem) and _repeated(grant, submission)) or answer


def _scoped(old: renewal.Old, key: str) -> str:
    """A key of the certificate's own: who holds it may have no token, and must not meet the keys of who has. Hashed, as a key
    may be as long as the column."""
    return f"renew:{old.serial}:{sha256(key.encode()).hexdigest()}"


def _repeated(grant: Grant, submission: Submission) -> Request | Problem | None:
    """What the idempotency key gave before, if anything: once a certificate is renewed, every call but a repeated one is refused."""
    if submission.idempotency_key is None:
        return None
    return _under_key(grant.token, submission.idempotency_key, submission.body_hash)


def approve(request_id: UUID, approver: approvals.Approver, why: str, now: datetime) -> None:
    """An approver has the request go on. Raises Problem as approvals.grant does."""
    approvals.grant(request_id, approver, why, now)
    tasks.wake()


@dataclass(frozen=True)
class _Replacing:
    """What a renewal replaces, and by which right."""

    old: renewal.Old
    proof: Proof
    names_as_before: bool


def _answered(grant: Grant, answers: list[Request | Problem]) -> list[Request | Problem]:
    """Store the requests among `answers`; an idempotency key that was used before gives the earlier one in its place."""
    rows = [answer for answer in answers if isinstance(answer, Request)]
    if not rows:
        _check_unrevoked(grant.token, tokens.unrevoked({grant.token}))
    else:
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()  # back to the pool: who queues must not hold what the leader needs
        earlier = _accept(rows)
        _check_unrevoked(grant.token, earlier.live)
        point("web.after_enqueue_before_reply")
        answers = [earlier.requests.get(answer.id, answer) if isinstance(answer, Request) else answer for answer in answers]
    _log(grant, answers)
    return answers


def _log(grant: Grant, answers: Sequence[Request | Problem]) -> None:
    """The line that leads from what a client was answered to the requests, by whose ids the worker's lines go on."""
    if log.isEnabledFor(logging.INFO):
        requests = [str(answer.id) for answer in answers if isinstance(answer, Request)]
        refused = [answer.code for answer in answers if isinstance(answer, Problem)]
        log.info("submitted", extra={"token": grant.token, "requests": requests, "refused": refused})


def _admitted(
    grant: Grant, submission: Submission, now: datetime, issuer: str | None = None, replacing: _Replacing | None = None
) -> Request | Problem:
    """`issuer` is given for a delegated responder's request, `replacing` for a renewal, neither for any other."""
    try:
        parsed = csr_rules.parse(submission.csr)
        if replacing is not None:
            _judge_renewal(parsed, replacing, grant, now)
        else:
            _judge(parsed, submission, grant, now, issuer)
    except Violation as violation:
        return Problem.from_violation(violation)
    except Problem as problem:
        return problem
    request_id = new_request_id(int(now.timestamp() * 1000), secrets.token_bytes(10))
    return Request(
        id=request_id, state=State.RECEIVED, token=grant.token, owner=grant.owner, profile=submission.profile,
        issuer=issuer, service=submission.service, node=submission.node, csr=csr_rules.without_password(submission.csr),
        challenge_password_hash=_password_hash(request_id, parsed.challenge_password), not_after=submission.not_after,
        idempotency_key=submission.idempotency_key, body_hash=submission.body_hash, created_at=now, updated_at=now,
        **(_renewing(replacing, submission.csr) if replacing else {}),
    )  # fmt: skip


def _judge(parsed: csr_rules.ParsedCSR, submission: Submission, grant: Grant, now: datetime, issuer: str | None) -> None:
    if issuer is not None:
        decide_ocsp_signer(issuer, submission.not_after, now)
    else:
        wanted = Wanted(profile=submission.profile, service=submission.service, node=submission.node, not_after=submission.not_after)
        decide(parsed, wanted, grant, issuance.site(), now)


def _judge_renewal(parsed: csr_rules.ParsedCSR, replacing: _Replacing, grant: Grant, now: datetime) -> None:
    renewal.check_renewable(replacing.old, now)
    renewal.check_changes(replacing.old, parsed, replacing.names_as_before)
    decide(parsed, renewal.wanted(replacing.old, now), grant, issuance.site(), now)


def _renewing(replacing: _Replacing, csr: bytes) -> dict[str, Any]:
    """The columns of a renewal. The proof covers the CSR as it was sent, with the password that is not stored."""
    changed = csr_rules.without_password(csr) != csr
    return {
        "replaces": replacing.old.serial,
        "renewal_proof": replacing.proof.signature,
        "csr_sha256": replacing.proof.csr_sha256 if changed else None,
        "names_as_before": replacing.names_as_before,
    }


def _password_hash(request: UUID, password: str | None) -> bytes | None:
    """None for a password that is too weak to revoke anything."""
    if password is None or challenges.estimated_bits(password) < challenges.STRONG:
        return None
    return challenges.password_hash(keys.revocation_key(), request, password)


_COLUMNS = (
    "id", "state", "token", "owner", "profile", "issuer", "service", "node", "csr", "challenge_password_hash", "not_after",
    "idempotency_key", "body_hash", "created_at", "updated_at", "replaces", "renewal_proof", "csr_sha256", "names_as_before",
)  # fmt: skip


def _check_unrevoked(token: str, live: Container[str]) -> None:
    if token not in live:
        raise Problem("tokenRevoked", "the token was revoked")


@dataclass(frozen=True)
class _Stored:
    """What a commit at the door found: the tokens that are not revoked, and for those of our ids whose idempotency key
    was used before, or whose certificate is being renewed already, the earlier request or the Problem."""

    live: Container[str]
    requests: dict[UUID, Request | Problem]


def _values(row: Request) -> list[Any]:
    return [getattr(row, name) for name in _COLUMNS]


def _is_contested(row: Request) -> bool:
    """Whether another row may have taken its place: its idempotency key, or the one renewal of its certificate."""
    return row.idempotency_key is not None or row.replaces is not None


def _place(row: Request) -> tuple[str, str, str]:
    """The one order in which these are stored: two processes with the same places in two orders would deadlock."""
    return row.replaces or "", row.token, row.idempotency_key or ""


def _stored(rows: Sequence[Request]) -> _Stored:
    """Store the rows of unrevoked tokens and wake the pipeline. A crash after the commit loses the wake-up only, which
    `resume` makes good."""
    with transaction.atomic():
        live = tokens.unrevoked({row.token for row in rows})
        accepted = [row for row in rows if row.token in live]
        contested = sorted(filter(_is_contested, accepted), key=_place)
        insert_rows(Request, _COLUMNS, [_values(row) for row in accepted if not _is_contested(row)])
        kept = insert_unless_taken(Request, _COLUMNS, map(_values, contested))
        point("web.before_commit")
    point("web.after_commit_before_enqueue")
    tasks.wake()
    return _Stored(live, {row.id: _first(row) for row, is_kept in zip(contested, kept, strict=True) if not is_kept})


_accept = SharedCommit(_stored)


def _first(row: Request) -> Request | Problem:
    """Who has the row's idempotency key; if that is nobody, another renewal was faster. Read after the commit, so that the winner
    of a race is seen whoever it was."""
    key = row.idempotency_key
    return (key and _under_key(row.token, key, bytes(row.body_hash))) or renewal.taken()


def _under_key(token: str, key: str, body_hash: bytes) -> Request | Problem | None:
    stored = Request.objects.filter(token=token, idempotency_key=key).first()
    return stored if stored is None or bytes(stored.body_hash) == body_hash else _mismatch()


def _mismatch() -> Problem:
    return Problem("idempotencyMismatch", "this Idempotency-Key was used before with another body", "Idempotency-Key")
