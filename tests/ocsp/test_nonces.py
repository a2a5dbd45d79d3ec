"""Answers with a nonce (RFC 9654): made by a worker as the log says at that moment, checked by openssl; and that nobody waits
for long, nothing queues up and no message is believed where they are not to be had."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import kombu.exceptions
import pytest
from asn1crypto import ocsp as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as pyca
from django.db import connection, connections, transaction

from ca import hierarchy, pipeline
from ca.models import Certificate, Request, Token
from ca.pki import ocsp_request, ocsp_response
from ca.pki.ocsp_request import Asked
from eventlog import clock, projections
from ocsp import feed, nonces, tasks
from ocsp.models import Response, Status
from ocsp.nonces import BATCH, MOST, Budget, Fresh, Question
from ocsp.responder.answers import Answer, Desk, refusal
from ocsp.responder.http import Limits, Site
from tests import processes
from tests.material import csr

from .responder.support import responder
from .support import Issue, follow, intended, log, orphaned, revoked

pytestmark = pytest.mark.django_db(transaction=True)
Ask = Callable[[Fresh], Coroutine[Any, Any, Any]]


@pytest.fixture(autouse=True)
def _empty_redis() -> None:
    feed.client().flushall()


@pytest.fixture
def leaf(issue: Issue) -> Certificate:
    (certificate,) = issue()
    follow()
    return certificate


def request_for(leaf: Certificate, directory: Path, algorithm: str = "sha256", nonce: str = "-nonce") -> bytes:
    """As openssl asks; its request stays in `directory`."""
    (directory / "leaf.pem").write_bytes(x509.load_der_x509_certificate(bytes(leaf.der)).public_bytes(Encoding.PEM))
    for name in ("root", "issuing-1"):
        (directory / f"{name}.pem").write_bytes(hierarchy.pem_of(hierarchy.find(name)))
    command = ["openssl", "ocsp", "-issuer", "issuing-1.pem", f"-{algorithm}", "-cert", "leaf.pem", nonce, "-reqout", "request.der"]
    subprocess.run(command, cwd=directory, capture_output=True, check=True)
    return (directory / "request.der").read_bytes()


def verified(answer: bytes, directory: Path) -> str:
    """What openssl says of the answer to the request that it made, the nonce among it."""
    (directory / "answer.der").write_bytes(answer)
    command = ["openssl", "ocsp", "-reqin", "request.der", "-respin", "answer.der", "-CAfile", "root.pem", "-verify_other", "issuing-1.pem"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    return done.stdout + done.stderr


def with_fresh(ask: Ask, rate: float = 100) -> Any:
    async def run() -> Any:
        fresh = Fresh(rate)
        try:
            return await ask(fresh)
        finally:
            await fresh.close()

    return asyncio.run(run())


def asked_again(asked: Asked) -> Any:
    """What one question gets, asked anew until something comes."""
    return processes.eventually(lambda: with_fresh(lambda fresh: fresh.answer(asked)))


def status_of(answer: bytes) -> str:
    (single,) = asn1.OCSPResponse.load(answer, strict=True).basic_ocsp_response["tbs_response_data"]["responses"]
    return str(single["cert_status"].name)


def question(leaf: Certificate, **changes: str) -> Question:
    made = pyca.OCSPRequestBuilder().add_certificate(
        x509.load_der_x509_certificate(bytes(leaf.der)), hierarchy.certificate_of(hierarchy.find("issuing-1")), hashes.SHA256()
    )
    asked = ocsp_request.read(made.build().public_bytes(Encoding.DER))
    return replace(nonces._question(asked._replace(nonce=b"n" * 32)), **changes)  # type: ignore[arg-type]


def put(*questions: Question | bytes) -> None:
    texts = [each if isinstance(each, bytes) else json.dumps(asdict(each)).encode() for each in questions]
    feed.client().rpush(nonces._QUESTIONS, *texts)


def answered(asked: Question) -> bytes | None:
    found: bytes | None = feed.client().lpop(nonces._REPLY + asked.reply)
    return found


# --- with a real worker


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_openssl_finds_its_nonce(algorithm: str, leaf: Certificate, tmp_path: Path) -> None:
    asked = ocsp_request.read(request_for(leaf, tmp_path, algorithm))
    with processes.worker(tmp_path / "worker.log"):
        answer = asked_again(asked)
    told = verified(answer, tmp_path)
    assert "Response verify OK" in told
    assert "nonce" not in told.lower()  # neither missing nor wrong
    parsed = pyca.load_der_ocsp_response(answer)
    assert (parsed.serial_number, parsed.hash_algorithm.name) == (int(leaf.serial, 16), algorithm)
    assert parsed.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == asked.nonce
    assert "nonce" in verified(bytes(Response.objects.get().sha256), tmp_path).lower()  # openssl would have said so


def test_what_the_log_says_at_that_moment_counts(leaf: Certificate, tmp_path: Path) -> None:
    """No projection has read the revocation when the question comes, and no ready answer says it."""
    asked = ocsp_request.read(request_for(leaf, tmp_path))
    with processes.worker(tmp_path / "worker.log"):
        assert status_of(asked_again(asked)) == "good"
        log(datetime.now(UTC), revoked(leaf.serial))
        assert status_of(asked_again(asked)) == "revoked"


def test_a_flood_holds_up_no_issuance(leaf: Certificate, token: Token, tmp_path: Path) -> None:
    """As many as come in, for two seconds; meanwhile certificates are issued as ever."""
    asked = ocsp_request.read(request_for(leaf, tmp_path))

    async def flood(fresh: Fresh) -> list[bytes | None]:
        end, answers = time.monotonic() + 2, list[bytes | None]()
        while time.monotonic() < end:
            answers += await asyncio.gather(*(fresh.answer(asked) for _ in range(50)))
            await asyncio.sleep(0.001)
        return answers

    async def both(fresh: Fresh) -> tuple[float, list[bytes | None]]:
        answers = asyncio.create_task(flood(fresh))
        return await asyncio.to_thread(issued), await answers

    def issued() -> float:
        began = time.monotonic()
        answers = pipeline.submit(token, [pipeline.Submission(csr=csr(f"f{number}.internal")) for number in range(20)], datetime.now(UTC))
        ids = [each.id for each in answers if isinstance(each, Request)]
        processes.eventually(lambda: Request.objects.filter(id__in=ids, state="issued").count() == 20)
        connection.close()
        return time.monotonic() - began

    with processes.worker(tmp_path / "worker.log"):
        asked_again(asked)
        seconds, answers = with_fresh(both, rate=100)
    made = [answer for answer in answers if answer]
    assert 10 <= len(made) <= 300  # a full bucket, and what came in for two seconds
    assert len(answers) > len(made)
    assert {status_of(answer) for answer in made} == {"good"}
    assert seconds < 5


# --- through the responder


def asked_by_openssl(url: str, directory: Path) -> str:
    command = ["openssl", "ocsp", "-issuer", "issuing-1.pem", "-cert", "leaf.pem", "-url", f"{url}/ocsp", "-nonce"]
    command += ["-CAfile", "root.pem", "-verify_other", "issuing-1.pem"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_openssl_asks_the_responder(leaf: Certificate, tmp_path: Path) -> None:
    """With the nonce while a worker lives, unless it is busy for longer than a client waits; without, which openssl says, when
    none lives."""
    request = request_for(leaf, tmp_path)
    with responder(tmp_path, QUICKLIME_OCSP_NONCES="100") as running:
        with processes.worker(tmp_path / "worker.log"):
            processes.eventually(lambda: running.post(request).headers["Cache-Control"] == "no-store")
            told = processes.eventually(lambda: "nonce" not in (said := asked_by_openssl(running.url, tmp_path)).lower() and said)
            assert "leaf.pem: good" in told
            by_get = processes.eventually(lambda: (answer := running.get(request)).headers["Cache-Control"] == "no-store" and answer)
            assert (by_get.status, status_of(by_get.body)) == (200, "good")
            log(datetime.now(UTC), revoked(leaf.serial))
            processes.eventually(lambda: "leaf.pem: revoked" in asked_by_openssl(running.url, tmp_path))
        processes.eventually(lambda: "no nonce in response" in asked_by_openssl(running.url, tmp_path))
        assert running.status(request) == "revoked"


def test_by_default_nonces_are_ignored(leaf: Certificate, tmp_path: Path) -> None:
    request = request_for(leaf, tmp_path)
    with processes.worker(tmp_path / "worker.log"), responder(tmp_path) as running:
        told = asked_by_openssl(running.url, tmp_path)
        assert "leaf.pem: good" in told
        assert "no nonce in response" in told
        assert "max-age" in running.post(request).headers["Cache-Control"]


def test_what_is_given_after_waiting_in_vain_is_looked_up_after_it(leaf: Certificate, tmp_path: Path) -> None:
    """It may have been taken back meanwhile."""
    ready = [Answer(200, b"Content-Length: 4\r\nETag: x\r\nCache-Control: max-age=60\r\n\r\n", b"good"), refusal(ocsp_response.TRY_LATER)]
    desk = SimpleNamespace(answer=lambda request, now: ready.pop(0), again=lambda asked, now: ready.pop(0))

    async def in_vain(asked: Asked) -> None:
        return None

    site = Site(lambda key, owner: None, Limits(), in_vain)
    site.desk = cast(Desk, desk)

    request = request_for(leaf, tmp_path)

    async def ask() -> Answer:
        return await cast(Awaitable[Answer], site._ocsp(request, 0.0))

    assert asyncio.run(ask()) == refusal(ocsp_response.TRY_LATER)


# --- where there is none to be had


def test_without_a_worker_a_client_waits_for_half_a_second_and_the_next_not_at_all(leaf: Certificate, tmp_path: Path) -> None:
    asked = ocsp_request.read(request_for(leaf, tmp_path))

    async def ask(fresh: Fresh) -> tuple[Any, float, Any, float]:
        began = time.monotonic()
        first = await fresh.answer(asked)
        middle = time.monotonic()
        second = await fresh.answer(asked)
        return first, middle - began, second, time.monotonic() - middle

    first, waited, second, then = with_fresh(ask)
    assert (first, second) == (None, None)
    assert nonces.PATIENCE <= waited < 2 * nonces.PATIENCE
    assert then < 0.1


@pytest.mark.parametrize("url", ["unix:///nowhere/redis.sock", "redis://127.0.0.1:1/0"])
def test_without_redis_there_is_no_wait_and_no_exception(url: str, leaf: Certificate, tmp_path: Path, settings: Any) -> None:
    settings.REDIS_URL = url
    asked = ocsp_request.read(request_for(leaf, tmp_path))
    began = time.monotonic()
    assert with_fresh(lambda fresh: fresh.answer(asked)) is None
    assert time.monotonic() - began < 2 * nonces.PATIENCE


@pytest.mark.parametrize("error", [kombu.exceptions.OperationalError("broker"), RuntimeError("shut down"), KeyError("anything")])
def test_whatever_fails_there_is_no_exception_and_the_next_is_spared(
    error: Exception, leaf: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker may be another Redis than the one with the questions."""
    asked, tried = ocsp_request.read(request_for(leaf, tmp_path)), list[int]()

    def wake() -> None:
        tried.append(1)
        raise error

    monkeypatch.setattr(nonces, "_wake", wake)

    async def twice(fresh: Fresh) -> list[bytes | None]:
        return [await fresh.answer(asked) for _ in range(2)]

    assert with_fresh(twice) == [None, None]
    assert len(tried) == 1


def test_beyond_the_budget_nobody_is_asked(leaf: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ocsp_request.read(request_for(leaf, tmp_path))
    passed: list[Question] = []

    async def ask(self: Fresh, question: Question) -> bytes:
        passed.append(question)
        return b""

    monkeypatch.setattr(Fresh, "_ask", ask)

    async def many(fresh: Fresh) -> None:
        for _ in range(50):
            assert await fresh.answer(asked) is None

    with_fresh(many, rate=5)
    assert len(passed) == 5
    assert len({question.reply for question in passed}) == 5


def test_the_budget_fills_up_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(nonces, "monotonic", lambda: clock[0])
    budget = Budget(2)

    def taken() -> int:
        return [budget.take() for _ in range(10)].index(False)

    assert taken() == 2
    clock[0] += 0.5
    assert taken() == 1
    clock[0] += 3600
    assert taken() == 2
    slow = Budget(0.25)
    assert [slow.take(), slow.take()] == [True, False]
    clock[0] += 4
    assert [slow.take(), slow.take()] == [True, False]


@pytest.mark.parametrize("changes", [{"nonce": None}, {"serial": 0}, {"serial": -5}, {"serial": 1 << 160}])
def test_what_cannot_be_answered_is_not_asked(changes: dict[str, Any], leaf: Certificate, tmp_path: Path) -> None:
    asked = ocsp_request.read(request_for(leaf, tmp_path))._replace(**changes)
    assert with_fresh(lambda fresh: fresh.answer(asked)) is None
    assert feed.client().keys("quicklime:ocsp:*") == []


def test_the_list_of_questions_has_an_end(leaf: Certificate, tmp_path: Path) -> None:
    asked = ocsp_request.read(request_for(leaf, tmp_path))
    put(*[b"x"] * MOST)
    began = time.monotonic()
    assert with_fresh(lambda fresh: fresh.answer(asked)) is None
    assert time.monotonic() - began < nonces.PATIENCE
    assert feed.client().llen(nonces._QUESTIONS) == MOST
    assert 0 < feed.client().ttl(nonces._QUESTIONS) <= nonces.EXPIRES


def test_a_replayed_answer_is_not_given(leaf: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can write to Redis could put an older one there, from before a revocation."""
    asked = ocsp_request.read(request_for(leaf, tmp_path))

    async def ask(self: Fresh, question: Question) -> bytes:
        return bytes(Response.objects.get().sha256)

    monkeypatch.setattr(Fresh, "_ask", ask)
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    assert with_fresh(lambda fresh: fresh.answer(asked)) is None


# --- what a worker believes


def test_it_answers_what_it_is_asked(leaf: Certificate) -> None:
    asked = question(leaf)
    put(asked)
    assert nonces.answer_waiting(datetime.now(UTC)) is False
    answer = answered(asked)
    assert answer
    assert status_of(answer) == "good"


def test_it_reads_the_log_first(leaf: Certificate) -> None:
    log(datetime.now(UTC), revoked(leaf.serial))
    asked = question(leaf)
    put(asked)
    nonces.answer_waiting(datetime.now(UTC))
    answer = answered(asked)
    assert answer
    assert status_of(answer) == "revoked"


def test_it_answers_so_many_at_once(leaf: Certificate) -> None:
    put(*[question(leaf) for _ in range(BATCH + 1)])
    assert nonces.answer_waiting(datetime.now(UTC)) is True
    assert nonces.answer_waiting(datetime.now(UTC)) is False
    assert len(feed.client().keys(nonces._REPLY + "*")) == BATCH + 1


def test_an_answer_that_nobody_fetches_goes_away(leaf: Certificate) -> None:
    asked = question(leaf)
    put(asked)
    nonces.answer_waiting(datetime.now(UTC))
    assert 0 < feed.client().ttl(nonces._REPLY + asked.reply) <= nonces.EXPIRES


OTHERS: dict[str, dict[str, str]] = {
    "another key": {"key_hash": "00" * 32},
    "another name": {"name_hash": "00" * 32},
    "another hash": {"algorithm": "sha1"},
    "an unissued serial": {"serial": f"{0xABC:040x}"},
}


@pytest.mark.parametrize("what", OTHERS)
def test_it_says_nothing_of_what_is_not_a_certificate_of_that_issuer(what: str, leaf: Certificate) -> None:
    asked = question(leaf, **OTHERS[what])
    put(asked)
    nonces.answer_waiting(datetime.now(UTC))
    assert answered(asked) == b""


@pytest.mark.unjudged("an intent without a request")
def test_it_says_nothing_of_an_intent_alone_nor_of_an_orphan(leaf: Certificate, now: datetime) -> None:
    serial = OTHERS["an unissued serial"]["serial"]
    for event in (intended(serial), orphaned(serial)):
        log(now, event)
        asked = question(leaf, serial=serial)
        put(asked)
        nonces.answer_waiting(datetime.now(UTC))
        assert answered(asked) == b""


def test_it_says_nothing_of_what_has_expired(leaf: Certificate) -> None:
    asked = question(leaf)
    put(asked)
    nonces.answer_waiting(datetime.now(UTC) + timedelta(days=90))
    assert answered(asked) == b""


def test_it_says_nothing_while_the_projection_cannot_read_on(leaf: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(name: str, *, wait: bool) -> None:
        raise RuntimeError("stopped")

    asked = question(leaf)
    put(asked)
    with monkeypatch.context() as patch:
        patch.setattr(nonces.projections, "catch_up", stop)
        with pytest.raises(RuntimeError, match="stopped"):
            nonces.answer_waiting(datetime.now(UTC))
    assert answered(asked) is None


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite's writers queue")
def test_a_rebuild_keeps_no_worker_waiting_and_nothing_old_is_said(leaf: Certificate) -> None:
    log(datetime.now(UTC), revoked(leaf.serial))
    asked, rebuilding, done = question(leaf), threading.Event(), threading.Event()

    def rebuild() -> None:
        with transaction.atomic():
            projections.rebuild("ocsp")
            rebuilding.set()
            done.wait(30)
        connections.close_all()

    thread = threading.Thread(target=rebuild)
    thread.start()
    assert rebuilding.wait(30)
    put(asked)
    nonces.answer_waiting(datetime.now(UTC))
    assert not done.is_set(), "it came back while the rebuild went on"
    assert answered(asked) == b""
    done.set()
    thread.join()
    put(again := question(leaf))
    nonces.answer_waiting(datetime.now(UTC))
    assert status_of(answered(again) or b"") == "revoked"


def test_a_message_by_a_clock_that_is_behind_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {}
    monkeypatch.setattr(nonces.current_app, "send_task", lambda name, **options: sent.update(options))
    nonces._wake()
    assert sent["expires"] >= clock.SKEW.total_seconds()
    assert tasks.fresh.expires >= clock.SKEW.total_seconds()


FORGED = {
    "no JSON": b"\xff\xfe",
    "another type": b"[1, 2]",
    "a number": b"7",
    "deep": b"[" * 100_000,
    "fields missing": b"{}",
    "a field more": {"status": "good"},
    "a number for the serial": {"serial": 5},
    "a short serial": {"serial": "ab"},
    "upper case": {"serial": "A" * 40},
    "a long nonce": {"nonce": "ab" * 129},
    "an empty nonce": {"nonce": ""},
    "half an octet": {"nonce": "a"},
    "an unknown algorithm": {"algorithm": "md5"},
    "no algorithm": {"algorithm": None},
    "another list": {"reply": "quicklime:done"},
    "a digit of another script": {"reply": "٣" * 32},
}


def test_forged_questions_are_dropped_and_the_next_one_is_answered(leaf: Certificate) -> None:
    for forgery, wrong in FORGED.items():
        asked = question(leaf)
        put(wrong if isinstance(wrong, bytes) else json.dumps(asdict(question(leaf)) | wrong).encode(), asked)
        nonces.answer_waiting(datetime.now(UTC))
        assert feed.client().keys("quicklime:ocsp:*") == [(nonces._REPLY + asked.reply).encode()], forgery
        assert answered(asked), forgery


def test_a_question_changes_nothing(leaf: Certificate) -> None:
    before = [list(model.objects.values()) for model in (Status, Response)]
    put(question(leaf))
    nonces.answer_waiting(datetime.now(UTC))
    assert [list(model.objects.values()) for model in (Status, Response)] == before
