"""The one door for every kind of signing request.

Owns acceptance: what is refused at once, what becomes a row, and the promise that goes with the row: once `submit` has
returned it, the request ends as a certificate or a rejection, whatever dies in between. Must never sign or append.
"""

from __future__ import annotations

import secrets
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction

from eventlog.bulk import insert_rows

from . import issuance, tasks, tokens
from .crash import point
from .errors import Problem
from .models import Request, State, Token, new_request_id
from .pki import csr as csr_rules
from .pki.violations import Violation
from .policy import Grant, Wanted, decide, require
from .shared_commit import SharedCommit


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


def submit(token: Token, submissions: Sequence[Submission], now: datetime) -> list[Request | Problem]:
    """One answer for each submission, in order: the stored request, or why it is refused. All rows are one commit; a
    repeated idempotency key gives the request it gave before. Raises Problem if the token may not issue at all; whether
    it was revoked since the caller recognised it is asked here, in that commit."""
    grant = token.grant()
    require(grant, "issue", now)
    answers = [_admitted(grant, submission, now) for submission in submissions]
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
    return answers


def _admitted(grant: Grant, submission: Submission, now: datetime) -> Request | Problem:
    wanted = Wanted(profile=submission.profile, service=submission.service, node=submission.node, not_after=submission.not_after)
    try:
        decide(csr_rules.parse(submission.csr), wanted, grant, issuance.site(), now)
    except Violation as violation:
        return Problem.from_violation(violation)
    except Problem as problem:
        return problem
    return Request(
        id=new_request_id(int(now.timestamp() * 1000), secrets.token_bytes(10)), state=State.RECEIVED, token=grant.token,
        owner=grant.owner, profile=submission.profile, service=submission.service, node=submission.node, csr=submission.csr,
        not_after=submission.not_after, idempotency_key=submission.idempotency_key, body_hash=submission.body_hash,
        created_at=now, updated_at=now,
    )  # fmt: skip


_COLUMNS = (
    "id", "state", "token", "owner", "profile", "service", "node", "csr", "not_after", "idempotency_key", "body_hash",
    "created_at", "updated_at",
)  # fmt: skip


def _check_unrevoked(token: str, live: Container[str]) -> None:
    if token not in live:
        raise Problem("tokenRevoked", "the token was revoked")


@dataclass(frozen=True)
class _Stored:
    """What a commit at the door found: the tokens that are not revoked, and for those of our ids whose idempotency key
    was used before, the earlier request or the Problem."""

    live: Container[str]
    requests: dict[UUID, Request | Problem]


def _by_key(row: Request) -> tuple[str, str]:
    """The one order in which keys are stored: two processes with the same keys in two orders would deadlock."""
    return row.token, row.idempotency_key or ""


def _stored(rows: Sequence[Request]) -> _Stored:
    """Store the rows of unrevoked tokens and wake the pipeline. A crash after the commit loses the wake-up only, which
    `resume` makes good."""
    with transaction.atomic():
        live = tokens.unrevoked({row.token for row in rows})
        accepted = [row for row in rows if row.token in live]
        keyed = sorted((row for row in accepted if row.idempotency_key is not None), key=_by_key)
        insert_rows(Request, _COLUMNS, [[getattr(row, name) for name in _COLUMNS] for row in accepted if row.idempotency_key is None])
        if keyed:
            Request.objects.bulk_create(keyed, ignore_conflicts=True)
        point("web.before_commit")
    point("web.after_commit_before_enqueue")
    tasks.wake()
    return _Stored(live, _earlier(keyed) if keyed else {})


_accept = SharedCommit(_stored)


def _earlier(keyed: Iterable[Request]) -> dict[UUID, Request | Problem]:
    """Read after the commit, so that the winner of a race under one key is seen whoever it was."""
    found: dict[UUID, Request | Problem] = {}
    for row in keyed:
        stored = Request.objects.get(token=row.token, idempotency_key=row.idempotency_key)
        if stored.id != row.id:
            found[row.id] = stored if bytes(stored.body_hash) == row.body_hash else _mismatch()
    return found


def _mismatch() -> Problem:
    return Problem("idempotencyMismatch", "this Idempotency-Key was used before with another body", "Idempotency-Key")
