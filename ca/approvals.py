"""Requests that wait for a person's word: what exactly is decided about, and the three ways in which the waiting ends.

    received ──validate: every rule is kept──▶ awaiting_approval ──grant──▶ received ──▶ …
                                                  ├──refuse, with a reason──▶ rejected
                                                  └──nobody decided in time──▶ rejected

Each way is one commit of the row and its event, under the row's lock, so that of two who decide at once the second is told. A crash
before it leaves the request waiting, one after it loses a wake-up at the most, which `resume` makes good. Must never let a
requester decide about its own request, nor sign anything: what was granted is judged by every rule again, where the key is used.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple, Protocol
from uuid import UUID

from django.db import connection, transaction

from eventlog import canonical
from eventlog.append import NewEvent, append
from eventlog.bulk import places, read_rows

from . import wakeups
from .crash import point
from .errors import Problem
from .events import ApprovalGranted, ApprovalRefused, RequestRejected
from .models import Approval, Request, State, Token

BATCH = 256


class Asked(Protocol):
    """A request, as its columns say."""

    token: str
    owner: str
    profile: str
    service: str
    node: str
    not_after: datetime | None
    replaces: str | None
    names_as_before: bool | None

    @property
    def csr(self) -> bytes | memoryview: ...


@dataclass(frozen=True)
class Approver:
    """Who decides: the account's name, and the owners it speaks for."""

    name: str
    owners: Collection[str]


def digest(asked: Asked) -> bytes:
    """SHA-256 over all that was asked for, by whom and for whom: what was approved is this and nothing else."""
    return sha256(
        canonical.encode(
            {
                "csr": sha256(bytes(asked.csr)).hexdigest(), "token": asked.token, "owner": asked.owner, "profile": asked.profile,
                "service": asked.service, "node": asked.node, "not_after": asked.not_after and f"{asked.not_after:%Y-%m-%dT%H:%M:%SZ}",
                "replaces": asked.replaces, "names_as_before": asked.names_as_before,
            }
        )
    ).digest()  # fmt: skip


class Word(NamedTuple):
    """What the log says of a request that needs an approver: the digest of what was asked, and the decision, None without one."""

    asked: bytes
    granted: bool | None


def words(requests: Collection[UUID]) -> dict[UUID, Word]:
    """Those of the requests for which approval was asked."""
    if not requests:
        return {}
    column = Approval._meta.get_field("request")
    keys = [column.get_db_prep_value(request, connection) for request in requests]
    rows = read_rows(Approval, ("request", "asked", "granted"), f"WHERE request IN ({places(keys)})", keys)
    return {request: Word(bytes(asked), granted) for request, asked, granted in rows}


def check_granted(asked: Asked, word: Word | None) -> None:
    """Raises Problem unless what is asked is what was approved: `word`, of `words`."""
    if word is None or not word.granted:
        raise Problem("approvalMissing", "this needs an approver's word, which nobody has given")
    if word.asked != digest(asked):
        raise Problem("notAsApproved", "the request is not the one that was approved")


def check_may_decide(approver: Approver, request: Request) -> None:
    """Nobody decides about a request of its own: of an owner it speaks for, or under a token it made. Raises Problem (ownRequest)."""
    if request.owner in approver.owners or request.owner == approver.name:
        raise Problem("ownRequest", f"you speak for {request.owner}: somebody else is to decide")
    if Token.objects.filter(id=request.token, created_by=approver.name).exists():
        raise Problem("ownRequest", "you made the token that this was asked with: somebody else is to decide")


def grant(request_id: UUID, approver: Approver, why: str, now: datetime) -> None:
    """The request goes on, from its first step. Call `tasks.wake` after it. Raises Problem: notFound, notAwaiting, ownRequest,
    whyMissing, notAsApproved for a row that is not as the log has it."""
    with transaction.atomic():
        row, asked = _decidable(request_id, approver, why, now)
        _end(row, State.RECEIVED, now)
        append([ApprovalGranted(request=str(row.id), asked=asked.hex(), by=approver.name, why=why).new()], now)
        point("approval.before_commit")
    point("approval.committed")


def refuse(request_id: UUID, approver: Approver, why: str, now: datetime) -> None:
    """The request is rejected, and the requester told `why`. Raises Problem as `grant` does."""
    with transaction.atomic():
        row, asked = _decidable(request_id, approver, why, now)
        refused = ApprovalRefused(request=str(row.id), asked=asked.hex(), by=approver.name, why=why).new()
        append([refused, _rejected(row, Problem("approvalRefused", why), now)], now)
        point("approval.before_commit")
    point("approval.committed")


def expire(now: datetime) -> int:
    """Reject what nobody decided about in time; how many of them, at most BATCH."""
    with transaction.atomic():
        late = Request.objects.filter(state=State.AWAITING, decide_by__lte=now).order_by("id")
        rows = list(late.select_for_update(skip_locked=True)[:BATCH])
        problem = Problem("approvalExpired", "nobody decided about it in time: ask again, and whoever is to approve")
        if rows:
            append([_rejected(row, problem, now) for row in rows], now)
    return len(rows)


def _decidable(request_id: UUID, approver: Approver, why: str, now: datetime) -> tuple[Request, bytes]:
    """The request, locked, and its digest."""
    row = Request.objects.select_for_update().filter(id=request_id).first()
    if row is None:
        raise Problem("notFound", "there is no such request")
    if row.state != State.AWAITING or (row.decide_by and row.decide_by <= now):
        raise Problem("notAwaiting", "it does not wait for approval any more: somebody decided, or the time for it is over")
    if not why.strip():
        raise Problem("whyMissing", "say why: it stays in the log", "why")
    check_may_decide(approver, row)
    asked = digest(row)
    if bytes(Approval.objects.values_list("asked", flat=True).get(request=row.id)) != asked:
        raise Problem("notAsApproved", "the request is not as the log says that it was asked for")
    return row, asked


def _rejected(row: Request, problem: Problem, now: datetime) -> NewEvent:
    row.error = problem.as_dict()
    _end(row, State.REJECTED, now)
    transaction.on_commit(lambda: wakeups.announce_done([row.id]))
    return RequestRejected(request=str(row.id), token=row.token, owner=row.owner, **problem.as_dict()).new()


def _end(row: Request, state: State, now: datetime) -> None:
    row.state, row.updated_at, row.decide_by = state, now, None
    row.save(update_fields=["state", "updated_at", "decide_by", "error"])
