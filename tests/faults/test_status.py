"""Kill whoever signs OCSP responses, revoke while nobody can, forget every message: no wrong good, and all of it in the end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from django.db import connection, connections, transaction

from ca import pipeline, tokens, wakeups
from ca.models import Certificate, Token
from eventlog import projections
from ocsp import feed, presign, responses, tasks
from ocsp.models import Feed, Response, Status
from quicklime_site.celery import app
from quicklime_site.schedule import BEAT
from tests import processes
from tests.material import many
from tests.ocsp.support import log, revoked, said

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def serials(hierarchy: None, now: datetime, run_pipeline: Callable[[], None]) -> list[str]:
    """Three certificates with their answers, read by the projection."""
    wakeups.client().flushall()
    token = Token.objects.get(id=tokens.create("test", "alice", tokens.Scope(), now, by="test")[0])
    pipeline.submit(token, [pipeline.Submission(csr=der) for der in many(3)], now)
    run_pipeline()
    projections.catch_up("ocsp")
    wakeups.client().flushall()
    return list(Certificate.objects.order_by("serial").values_list("serial", flat=True))


def all_said(serials: list[str]) -> list[object]:
    rows = set(Response.objects.values_list("serial", flat=True))
    return [said(serial) if serial in rows else "nothing" for serial in serials]


@pytest.mark.parametrize("point", ["ocsp.sign_mid:2", "ocsp.store_mid"])
def test_a_worker_killed_while_it_signs(point: str, serials: list[str], tmp_path: Path) -> None:
    Response.objects.all().delete()
    with processes.worker(tmp_path / "worker.log", QUICKLIME_CRASH=point) as worker:
        tasks.presign_slice.delay()
        assert worker.wait(30) == -9, (tmp_path / "worker.log").read_text()
    assert all_said(serials) == ["nothing"] * 3
    with processes.worker(tmp_path / "worker.log"):

        def done() -> bool:
            tasks.presign_slice.delay()  # as beat does
            return all_said(serials) == [["good", "good"]] * 3

        processes.eventually(done)


@pytest.mark.parametrize("point", ["issued.before_commit", "ocsp.store_mid"])
def test_a_certificate_and_its_answers_are_one_commit(point: str, serials: list[str], now: datetime, tmp_path: Path) -> None:
    token = Token.objects.get()
    with processes.worker(tmp_path / "worker.log", QUICKLIME_CRASH=point) as worker:
        pipeline.submit(token, [pipeline.Submission(csr=many(4)[3])], now)
        assert worker.wait(30) == -9, (tmp_path / "worker.log").read_text()
    assert (Certificate.objects.count(), Response.objects.count()) == (3, 3)
    with processes.worker(tmp_path / "worker.log"):

        def done() -> bool:
            from ca.tasks import resume

            resume.delay()
            return Certificate.objects.count() == 4

        processes.eventually(done)
    assert Response.objects.count() == 4


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_revocation_while_no_worker_lives(forgotten: bool, serials: list[str], now: datetime, tmp_path: Path) -> None:
    log(now, revoked(serials[0]))
    if forgotten:
        wakeups.client().flushall()
    with processes.worker(tmp_path / "worker.log"):
        if forgotten:
            tasks.follow.delay()  # as beat does
        processes.eventually(lambda: all_said(serials)[0] == [("revoked", now, "superseded")] * 2)
    assert all_said(serials)[1:] == [["good", "good"]] * 2


def test_a_worker_killed_while_it_signs_a_revocation(serials: list[str], now: datetime, tmp_path: Path) -> None:
    with processes.worker(tmp_path / "worker.log", QUICKLIME_CRASH="ocsp.store_mid") as worker:
        log(now, revoked(serials[0]))
        assert worker.wait(30) == -9, (tmp_path / "worker.log").read_text()
    assert all_said(serials)[0] == [None, None], "withdrawn before it is signed anew"
    with processes.worker(tmp_path / "worker.log"):
        tasks.follow.delay()
        processes.eventually(lambda: all_said(serials)[0] == [("revoked", now, "superseded")] * 2)


@pytest.mark.usefixtures("other_time")
def test_no_periodic_work_takes_a_revocation_back(serials: list[str], now: datetime) -> None:
    """Whatever beat has done, before the certificates' end and long after it."""
    app.loader.import_default_modules()  # as a worker does
    log(now, revoked(serials[0]))
    end = max(Certificate.objects.values_list("not_after", flat=True))
    for later in (now, now + timedelta(hours=9), end - timedelta(hours=1), end + timedelta(days=400)):
        with time_machine.travel(later, tick=False):
            for entry in BEAT.values():
                app.tasks[entry["task"]]()
    assert list(Status.objects.filter(state="revoked").values_list("serial", "revoked_at", "reason")) == [(serials[0], now, "superseded")]
    assert list(Certificate.objects.exclude(revoked_at=None).values_list("serial", "revoked_at")) == [(serials[0], now)]
    assert "good" not in all_said(serials)[0]
    projections.rebuild("ocsp")
    assert list(Status.objects.filter(state="revoked").values_list("serial", flat=True)) == [serials[0]]


def test_two_slices_at_once_sign_once(serials: list[str], now: datetime) -> None:
    Response.objects.update(refresh_at=now)
    before, barrier = Feed.objects.get().revision, threading.Barrier(2)

    def run() -> None:
        barrier.wait()
        tasks.presign_slice()
        connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not Response.objects.filter(refresh_at__lte=now).exists()
    assert Feed.objects.get().revision == before + 1


def test_who_issues_waits_a_moment_only_for_who_stores(
    serials: list[str], now: datetime, run_pipeline: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer anyway")
    monkeypatch.setattr(responses, "_PATIENCE", 0.1)
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            feed.store([_again(serials[0])])
            locked.set()
            done.wait(30)
        connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    assert locked.wait(10)
    pipeline.submit(Token.objects.get(), [pipeline.Submission(csr=many(4)[3])], now)
    run_pipeline()
    assert (Certificate.objects.count(), Response.objects.count()) == (4, 3)
    done.set()
    thread.join()
    projections.catch_up("ocsp")
    assert presign.sign_slice(now) == presign.FIRST
    assert Response.objects.count() == 4


def _again(serial: str) -> feed.Ready:
    row = Response.objects.get(serial=serial)
    times = row.this_update, row.next_update, row.refresh_at
    return feed.Ready(serial, row.issuer, False, *times, bytes(row.sha1), bytes(row.sha256), _position(serial))


def _position(serial: str) -> int:
    from ocsp.models import Status

    return Status.objects.get(serial=serial).position
