"""Certificates to say something about, issued by the pipeline in this process."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from ca import pipeline, tokens
from ca.models import Certificate, Request, Token
from tests.material import csr

from .support import Issue

EVERYTHING = tokens.Scope(actions=("issue", "read"), profiles=("*",), wildcards=True, ips=("*",))


@pytest.fixture
def token(hierarchy: None, now: datetime) -> Token:
    return Token.objects.get(id=tokens.create("test", "alice", EVERYTHING, now, by="test")[0])


@pytest.fixture
def issue(token: Token, now: datetime, run_pipeline: Callable[[], None]) -> Issue:
    """issue(count, **of each submission): so many certificates, in the log and in ca's tables."""

    def work(count: int = 1, **more: Any) -> list[Certificate]:
        asked = pipeline.submit(token, [pipeline.Submission(csr=csr(f"n{number}.internal"), **more) for number in range(count)], now)
        run_pipeline()
        requests = [each.id for each in asked if isinstance(each, Request)]
        found = list(Certificate.objects.filter(request__in=requests).order_by("serial"))
        assert len(found) == count
        return found

    return work
