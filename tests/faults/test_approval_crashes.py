"""Kill -9 of who decides about a request, before and after the commit: it waits as before, or one decision holds, and it ends."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import product
from uuid import UUID

import pytest
from django.db import connections

from ca import approvals, pipeline, tokens, wakeups
from ca.approvals import Approver
from ca.errors import Problem
from ca.models import Certificate, Request, State, Token
from ca.policy import ALWAYS
from eventlog.models import Event
from tests import processes
from tests.material import many

pytestmark = pytest.mark.django_db(transaction=True)
ERIN = Approver("erin", ())
ACTS: dict[str, Callable[..., None]] = {"pipeline.approve": pipeline.approve, "approvals.refuse": approvals.refuse}
BEFORE, AFTER = POINTS = ("approval.before_commit", "approval.committed")
CODE = """
from datetime import UTC, datetime
from uuid import UUID
from ca import approvals, pipeline
from ca.approvals import Approver
{act}(UUID({request!r}), Approver("erin", ()), "ticket 7", datetime.now(UTC))
"""


def waiting(now: datetime, run_pipeline: Callable[[], None], count: int) -> list[UUID]:
    wakeups.client().flushall()
    token = Token.objects.get(id=tokens.create("test", "alice", tokens.Scope(approval=ALWAYS), now, by="ada")[0])
    pipeline.submit(token, [pipeline.Submission(csr=der) for der in many(count)], now)
    run_pipeline()
    assert set(Request.objects.values_list("state", flat=True)) == {State.AWAITING}
    return list(Request.objects.order_by("id").values_list("id", flat=True))


def killed(act: str, request: UUID, point: str) -> int:
    return processes.run(CODE.format(act=act, request=str(request)), QUICKLIME_CRASH=point).returncode


def decisions(request: UUID) -> list[str]:
    kinds = Event.objects.filter(subject=str(request), type__in=("approval.granted", "approval.refused", "request.rejected"))
    return list(kinds.order_by("position").values_list("type", flat=True))


def test_who_decides_is_killed(hierarchy: None, now: datetime, run_pipeline: Callable[[], None]) -> None:
    cases = list(product(ACTS, POINTS))
    requests = waiting(now, run_pipeline, len(cases))
    with ThreadPoolExecutor(len(cases)) as at_once:
        codes = list(at_once.map(lambda case, request: killed(case[0], request, case[1]), cases, requests))
    assert codes == [-9] * len(cases)
    connections.close_all()
    for (act, point), request in zip(cases, requests, strict=True):
        is_waiting = Request.objects.get(id=request).state == State.AWAITING
        assert is_waiting == (point == BEFORE), (act, point)
        assert (decisions(request) == []) == is_waiting, (act, point)
        if is_waiting:
            ACTS[act](request, ERIN, "ticket 7", datetime.now(UTC))
        for other in ACTS.values():
            with pytest.raises(Problem, match="does not wait"):
                other(request, ERIN, "on second thoughts", datetime.now(UTC))
    run_pipeline()
    for (act, _), request in zip(cases, requests, strict=True):
        is_granted = act == "pipeline.approve"
        assert decisions(request) == (["approval.granted"] if is_granted else ["approval.refused", "request.rejected"])
        assert Certificate.objects.filter(request=request).count() == is_granted
