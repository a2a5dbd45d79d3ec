"""Every answer about a certificate's status against the log as it was when it was given (invariant 7), while certificates are
issued and revoked, and the worker, Redis and the responder's processes are taken away one after the other."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as pyca
from django.db import OperationalError, connection
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from ca import hierarchy, pipeline, revocation, tasks, tokens
from ca.models import Certificate, Intent, Token
from ca.pki.ocsp_response import issuer_hashes
from eventlog import head
from eventlog.models import Event
from ocsp import feed
from quicklime_site.celery import app
from tests import processes
from tests.material import many
from tests.ocsp.responder.support import Responder, alive, responder, status_of
from tests.processes import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(240)]
LATEST = 1.0  # seconds after the commit of a revocation, from when on nothing may be good
ASKERS = 3


class Seen(NamedTuple):
    """One answer. `asked` and `answered` on the monotonic clock; `before` and `after` the log's size at these moments."""

    serial: str
    status: str  # good, revoked or the OCSP error
    asked: float
    answered: float
    before: int
    after: int


class Said(NamedTuple):
    """What the log says of a serial, at which positions; `committed` when the revoking commit had returned, monotonic."""

    issued: int | None = None
    revoked: int | None = None
    committed: float | None = None


class HandOver(NamedTuple):
    """A time, monotonic, in which two generations may have answered side by side: each learns of a revocation by itself."""

    begin: float
    end: float


def faults(seen: Sequence[Seen], log: Mapping[str, Said], hand_overs: Sequence[HandOver] = ()) -> list[str]:
    """Each answer that the log does not bear out."""
    found = [f"{fault}: {each}" for each in seen for fault in _of_one(each, log.get(each.serial, Said()))]
    return [*found, *_taken_back(seen, hand_overs)]


def _of_one(each: Seen, said: Said) -> Iterator[str]:
    long_revoked = said.revoked is not None and said.revoked <= each.before and each.asked > (said.committed or 0) + LATEST
    if each.status == "good":
        if said.issued is None or said.issued > each.after:
            yield "good before it was issued"
        if long_revoked:
            yield "good more than a second after it was revoked"
    elif each.status == "revoked":
        if said.revoked is None or said.revoked > each.after:
            yield "revoked before the log said so"
    elif each.status not in ("unauthorized", "try_later"):
        yield "no answer that there is a reason for"
    elif each.status == "unauthorized" and long_revoked:
        yield "unknown more than a second after it was revoked"


def _taken_back(seen: Sequence[Seen], hand_overs: Sequence[HandOver]) -> Iterator[str]:
    """Good, asked for after somebody had been answered revoked, and not while one generation handed over to the next."""
    first: dict[str, float] = {}
    for each in seen:
        if each.status == "revoked":
            first[each.serial] = min(each.answered, first.get(each.serial, each.answered))
    for each in seen:
        handed_over = any(one.begin < each.asked < one.end + LATEST for one in hand_overs)
        if each.status == "good" and each.asked > first.get(each.serial, each.asked) and not handed_over:
            yield f"good after revoked: {each}"


# --- the judge


LOG = {"a": Said(issued=5), "b": Said(issued=5, revoked=8, committed=100.0), "c": Said()}


@pytest.mark.parametrize(
    ("seen", "fault"),
    [
        (Seen("a", "good", 50, 51, 6, 6), None),
        (Seen("a", "good", 50, 51, 3, 4), "good before it was issued"),
        (Seen("c", "good", 50, 51, 9, 9), "good before it was issued"),
        (Seen("d", "good", 50, 51, 9, 9), "good before it was issued"),
        (Seen("b", "good", 100.9, 101.5, 8, 8), None),
        (Seen("b", "good", 101.1, 101.5, 8, 8), "good more than a second after"),
        (Seen("b", "revoked", 99, 99.9, 7, 7), "revoked before the log said so"),
        (Seen("b", "revoked", 99, 101, 7, 8), None),
        (Seen("a", "revoked", 99, 101, 7, 8), "revoked before the log said so"),
        (Seen("b", "unauthorized", 100.9, 101, 8, 8), None),
        (Seen("b", "unauthorized", 101.1, 102, 8, 8), "unknown more than a second after"),
        (Seen("b", "try_later", 101.1, 102, 8, 8), None),
        (Seen("a", "internal_error", 50, 51, 6, 6), "no answer that there is a reason for"),
    ],
)
def test_the_judge_finds_each_kind_of_fault(seen: Seen, fault: str | None) -> None:
    found = faults([seen], LOG)
    assert (len(found) == 0) if fault is None else (fault in found[0])


def test_the_judge_finds_a_revocation_that_was_taken_back() -> None:
    revoked = Seen("b", "revoked", 100.1, 100.2, 8, 8)
    assert faults([revoked, Seen("b", "good", 100.1, 100.3, 8, 8)], LOG) == []
    later = Seen("b", "good", 100.3, 100.4, 8, 8)
    assert "good after revoked" in faults([revoked, later], LOG)[0]
    assert "good after revoked" in faults([revoked, later], LOG, [HandOver(90, 99.2), HandOver(100.4, 101)])[0]
    assert faults([revoked, later], LOG, [HandOver(90, 99.4)]) == []
    long_after = Seen("b", "good", 101.1, 101.2, 8, 8)
    assert "good more than a second after" in faults([revoked, long_after], LOG, [HandOver(90, 101)])[0]


# --- the load


@dataclass
class Load:
    """Issues, revokes and asks in threads until it is told to stop; what was seen, and when each revocation was committed."""

    token: Token
    running: Responder
    stop: threading.Event = field(default_factory=threading.Event)
    seen: list[Seen] = field(default_factory=list)
    committed: dict[str, float] = field(default_factory=dict)
    hand_overs: list[HandOver] = field(default_factory=list)

    def issue(self) -> None:
        chance, csrs = random.Random(1), many(50)
        while not self.stop.wait(0.1):
            with suppress(OperationalError):  # SQLite's writers may wait too long for each other
                batch = chance.sample(csrs, 5)
                pipeline.submit(self.token, [pipeline.Submission(csr=each) for each in batch], datetime.now(UTC))

    def revoke(self) -> None:
        chance = random.Random(2)
        while not self.stop.wait(0.1):
            alive = list(Certificate.objects.filter(owner="alice", revoked_at=None).values_list("serial", flat=True))
            if alive:
                serial = chance.choice(alive)
                with suppress(OperationalError):
                    revocation.by_token(serial, self.token.grant(), "superseded", datetime.now(UTC))
                    self.committed[serial] = time.monotonic()

    def tend(self) -> None:
        """What beat does."""
        while not self.stop.wait(1):
            tasks.resume()
            for name in ("ocsp.follow", "ocsp.presign"):
                with suppress(RedisError, KombuError, OSError):
                    app.send_task(name, retry=False, expires=5)

    def ask(self, seed: int) -> None:
        chance, issuer = random.Random(seed), bytes(hierarchy.find("issuing-1").certificate)
        while not self.stop.wait(0.05):
            for serial in _worth_asking(chance):
                self._ask_once(serial, issuer, chance)

    def _ask_once(self, serial: str, issuer: bytes, chance: random.Random) -> None:
        request = _request(serial, issuer, chance.choice(("sha1", "sha256")))
        before, asked = head.size(), time.monotonic()
        try:
            answer = _post(self.running.port, request)
        except (OSError, HTTPException):  # its process was just killed
            return
        self.seen.append(Seen(serial, status_of(answer), asked, time.monotonic(), before, head.size()))

    def hand_over(self) -> None:
        """Have another generation serve."""
        before, begin = self.running.servers(), time.monotonic()
        self.running.hang_up()
        eventually(lambda: not any(map(alive, before)))
        self.hand_overs.append(HandOver(begin, time.monotonic()))

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """All of it."""
        with self._doing(self.issue, self.revoke, self.tend, *(partial(self.ask, seed) for seed in range(ASKERS))):
            yield

    @contextmanager
    def upkeep(self) -> Iterator[None]:
        """Only what beat does."""
        with self._doing(self.tend):
            yield

    @contextmanager
    def _doing(self, *jobs: Callable[[], None]) -> Iterator[None]:
        self.stop.clear()
        with ThreadPoolExecutor(len(jobs)) as pool:
            futures: list[Future[None]] = [pool.submit(_and_hang_up, job) for job in jobs]
            try:
                yield
            finally:
                self.stop.set()
            for each in futures:
                each.result()


def _and_hang_up(job: Callable[[], None]) -> None:
    try:
        job()
    finally:
        connection.close()


def _worth_asking(chance: random.Random) -> list[str]:
    """The newest, issued or only intended, some old ones, the lately revoked, and one that nobody ever thought of."""
    newest = list(Intent.objects.order_by("-position").values_list("serial", flat=True)[:20])
    revoked = list(Certificate.objects.exclude(revoked_at=None).order_by("-revoked_at").values_list("serial", flat=True)[:5])
    some = list(Certificate.objects.values_list("serial", flat=True)[:200])
    found = [*newest, *revoked, *chance.sample(some, min(5, len(some))), f"{chance.getrandbits(158) | 1:040x}"]
    chance.shuffle(found)
    return found


def _request(serial: str, issuer: bytes, algorithm: str) -> bytes:
    name, key = issuer_hashes(issuer, "sha1" if algorithm == "sha1" else "sha256")
    digest = hashes.SHA1() if algorithm == "sha1" else hashes.SHA256()
    return pyca.OCSPRequestBuilder().add_certificate_by_hash(name, key, int(serial, 16), digest).build().public_bytes(Encoding.DER)


def _post(port: int, request: bytes) -> bytes:
    client = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        client.request("POST", "/ocsp", request, {"Content-Type": "application/ocsp-request"})
        return client.getresponse().read()
    finally:
        client.close()


def _log(committed: Mapping[str, float]) -> dict[str, Said]:
    said: dict[str, Said] = {}
    for serial, kind, position in Event.objects.order_by("position").values_list("subject", "type", "position"):
        if kind == "certificate.issued":
            said[serial] = Said(issued=position)
        elif kind == "certificate.revoked":
            said[serial] = said[serial]._replace(revoked=position, committed=committed[serial])
    return said


@pytest.fixture
def token(hierarchy: None, now: datetime) -> Token:
    scope = tokens.Scope(actions=("issue", "read", "revoke"))
    return Token.objects.get(id=tokens.create("test", "alice", scope, now, by="test")[0])


@pytest.mark.parametrize("who", ["issuer", "delegated"])
def test_no_answer_contradicts_the_log(who: str, token: Token, tmp_path: Path) -> None:
    feed.client().flushall()
    options = {"QUICKLIME_OCSP_SIGNER": who}
    with responder(tmp_path, processes=2) as running:
        load = Load(token, running)
        with load.under_way():
            with processes.worker(tmp_path / "worker.log", **options):
                _goes_on()
            time.sleep(1.5)  # nobody signs, and certificates are revoked all the same
            with processes.worker(tmp_path / "worker.log", **options):
                _goes_on()
                feed.client().flushall()
                os.kill(running.servers()[0], signal.SIGKILL)
                _goes_on()
                load.hand_over()
                _goes_on()
        assert faults(load.seen, _log(load.committed), load.hand_overs) == []
        _check_that_all_was_seen(load)
        with processes.worker(tmp_path / "worker.log", **options), load.upkeep():
            _settles(load)


def _goes_on() -> None:
    """Twenty more certificates, and a second at least."""
    before = Certificate.objects.count()
    time.sleep(1)
    eventually(lambda: Certificate.objects.count() >= before + 20, 60)


def _check_that_all_was_seen(load: Load) -> None:
    """Otherwise the judge had nothing to judge."""
    by_status = {status: {each.serial for each in load.seen if each.status == status} for status in ("good", "revoked", "unauthorized")}
    assert min(map(len, by_status.values())) > 10, {status: len(serials) for status, serials in by_status.items()}
    assert len(by_status["good"] & by_status["revoked"]) > 5
    assert by_status["good"] & by_status["unauthorized"], "none was asked for before it was issued"


def _settles(load: Load) -> None:
    """In the end each certificate is what the log says, whatever was lost on the way."""
    issuer = bytes(hierarchy.find("issuing-1").certificate)

    def wrong() -> list[str]:
        certificates = Certificate.objects.filter(profile="server").values_list("serial", "revoked_at")
        expected = {serial: "revoked" if revoked_at else "good" for serial, revoked_at in certificates}
        given = {serial: status_of(_post(load.running.port, _request(serial, issuer, "sha1"))) for serial in expected}
        return [serial for serial, status in expected.items() if given[serial] != status]

    eventually(lambda: not wrong(), 60)
