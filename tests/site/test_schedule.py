"""The periodic tasks: clocks that differ do not stop them, and what piled up during an outage is soon done."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from celery import current_app

from ca import pipeline, tokens
from ca.models import Request, Token
from eventlog import clock
from ocsp import publishing
from quicklime_site.schedule import BEAT, ROUTES
from tests.material import many


def test_no_message_expires_by_clocks_that_are_still_trusted() -> None:
    assert {name for name, entry in BEAT.items() if entry["options"]["expires"] < 2 * clock.SKEW.total_seconds()} == set()
    assert {entry["task"] for entry in BEAT.values()} <= ROUTES.keys()


@pytest.mark.django_db
def test_what_piled_up_is_soon_done(hierarchy: None, now: datetime, settings: Any, tmp_path: Any, run_pipeline: Callable[[], None]) -> None:
    """As many of each as expire at the latest, with files and shards to look after."""
    settings.STATUS_DIR, settings.CRL_URL, settings.CRL_SHARDS = tmp_path / "status", "http://pki.internal/crl", 4
    token = Token.objects.get(id=tokens.create("test", "alice", tokens.Scope(), now, by="test")[0])
    pipeline.submit(token, [pipeline.Submission(csr=der) for der in many(20)], now)
    run_pipeline()
    tasks = {entry["task"]: int(entry["options"]["expires"] / entry["schedule"]) for entry in BEAT.values()}
    current_app.tasks["ocsp.follow"]()  # the first has something to do
    began = time.monotonic()
    for name in ("ocsp.follow", "ca.resume", "ocsp.presign", "ca.checkpoint"):
        for _ in range(tasks[name]):
            current_app.tasks[name]()
    assert time.monotonic() - began < 30
    assert publishing.behind() == 0
    assert not Request.objects.exclude(state="issued").exists()
