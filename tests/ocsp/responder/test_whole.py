"""The responder as a process of its own, over a real database, as relying parties meet it."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from cryptography import x509
from django.db import connection

from ca import hierarchy
from ocsp import presign
from ocsp.models import Feed, Response
from quicklime_site import measuring
from tests.ocsp.support import Issue, follow, log, revoked
from tests.processes import eventually

from .support import SHA1, SHA256, Responder, alive, cert_id, escaped, request, responder, status_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


def told() -> int:
    """How many answers were good, as /metrics says it."""
    samples = [each for metric in measuring.shared().metrics() for each in metric.samples]
    good = [each.value for each in samples if (each.name, each.labels) == ("quicklime_ocsp_responses_total", {"outcome": "good"})]
    return int(sum(good))


def test_it_answers_for_both_hashes_by_get_and_post(running: Responder, leaves: list[x509.Certificate], issuer: x509.Certificate) -> None:
    for algorithm, name in ((SHA1, "sha1"), (SHA256, "sha256")):
        asked = request(leaves[0], issuer, algorithm)
        by_post, by_get = running.post(asked), running.get(asked)
        assert by_post.status == by_get.status == 200
        assert by_post.body == by_get.body
        assert cert_id(by_post.body) == (name, leaves[0].serial_number)
    assert running.status(request(leaves[0], issuer)) == "good"


def test_a_revocation_is_seen_within_a_second_though_no_worker_lives(
    running: Responder, leaves: list[x509.Certificate], issuer: x509.Certificate, now: datetime
) -> None:
    asked = [request(leaf, issuer, algorithm) for leaf in leaves[:2] for algorithm in (SHA1, SHA256)]
    assert {running.status(each) for each in asked} == {"good"}
    log(now, revoked(f"{leaves[0].serial_number:040x}"))
    began = time.monotonic()
    eventually(lambda: running.status(asked[0]) == "try_later", 5)
    assert time.monotonic() - began < 1
    assert [running.status(each) for each in asked] == ["try_later", "try_later", "good", "good"]
    Response.objects.filter(serial=f"{leaves[0].serial_number:040x}").update(revision=10**6)  # a good one that was late
    Feed.objects.filter(id=1).update(revision=10**6)
    eventually(lambda: running.status(request(leaves[2], issuer)) == "good")
    time.sleep(0.7)  # longer than from one look to the next: the late one has been read
    assert running.status(asked[0]) == "try_later"


def test_revoked_is_answered_as_soon_as_it_is_signed(
    running: Responder, leaves: list[x509.Certificate], issuer: x509.Certificate, now: datetime
) -> None:
    log(now, revoked(f"{leaves[0].serial_number:040x}"))
    follow()
    presign.sign_due(now, now)
    eventually(lambda: running.status(request(leaves[0], issuer)) == "revoked", 5)
    assert running.status(request(leaves[0], issuer, SHA256)) == "revoked"


def test_a_new_certificate_and_the_next_issuer_are_known(running: Responder, issuer: x509.Certificate, issue: Issue, now: datetime) -> None:
    (other,) = issue(1)
    eventually(lambda: running.status(request(x509.load_der_x509_certificate(bytes(other.der)), issuer)) == "good", 5)
    hierarchy.add_intermediate("issuing-2", "root", now)
    follow()
    eventually(lambda: running.ask("GET", "/issuers/issuing-2.der").status == 200, 5)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_graceful_restart_drops_no_request(
    tmp_path: Path, leaves: list[x509.Certificate], issuer: x509.Certificate, processes: int
) -> None:
    before_all = told()
    with responder(tmp_path, processes) as running:
        asked, stop, answers, failed = request(leaves[0], issuer), threading.Event(), [], []

        def load(keep: bool) -> None:
            client = HTTPConnection("127.0.0.1", running.port, timeout=20)
            while not stop.is_set():
                try:
                    client.request("POST", "/ocsp", asked, {"Content-Type": "application/ocsp-request"})
                    response = client.getresponse()
                    answers.append((response.status, response.read()))
                    if not keep or response.will_close:
                        client.close()
                except (OSError, HTTPException) as error:
                    failed.append(error)
                    client.close()
            client.close()

        threads = [threading.Thread(target=load, args=(number % 2 == 0,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            before, count = running.servers(), len(answers)
            running.hang_up()
            eventually(lambda before=before: not any(map(alive, before)) and len(running.servers()) == processes)
            eventually(lambda count=count: len(answers) > count + 100)
        stop.set()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(set(answers)) == 1
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(6) == 0
    assert told() == before_all + len(answers), "each generation adds its last counts before it ends"


def test_a_server_that_dies_is_started_again_on_its_socket(
    running: Responder, leaves: list[x509.Certificate], issuer: x509.Certificate
) -> None:
    (server,) = running.servers()
    os.kill(server, signal.SIGKILL)
    assert running.status(request(leaves[0], issuer)) == "good"  # it waited in the socket meanwhile
    assert running.servers() != [server]


def test_servers_outlive_their_feeder_until_there_is_another(
    running: Responder, leaves: list[x509.Certificate], issuer: x509.Certificate
) -> None:
    (feeder,), (server,) = running.children(), running.servers()
    os.kill(feeder, signal.SIGKILL)
    while alive(server):
        assert running.status(request(leaves[0], issuer)) == "good"
    assert eventually(running.servers) != [server]
    assert running.status(request(leaves[0], issuer)) == "good"
    assert "ended (status -9)" in running.said


def test_nothing_outlives_the_master(running: Responder) -> None:
    processes = [running.process.pid, *running.children(), *running.servers()]
    running.process.kill()
    running.process.wait()
    eventually(lambda: not any(map(alive, processes[1:])), 5)


def test_an_orderly_end_takes_no_time_and_answers_what_is_under_way(
    running: Responder, leaves: list[x509.Certificate], issuer: x509.Certificate
) -> None:
    before = told()
    silent, asking = (HTTPConnection("127.0.0.1", running.port, timeout=20) for _ in range(2))
    for connected in (silent, asking):
        connected.request("GET", "/livez")
        assert connected.getresponse().read() == b"ok\n"  # and stays connected
    running.process.send_signal(signal.SIGTERM)
    asking.request("GET", escaped(request(leaves[0], issuer)))
    assert status_of(asking.getresponse().read()) == "good"
    assert running.process.wait(6) == 0  # a silent client is not waited for
    silent.close()
    asking.close()
    assert running.said == ""
    assert told() == before + 1, "it is counted as well"


def test_redis_away_costs_half_a_second(tmp_path: Path, leaves: list[x509.Certificate], issuer: x509.Certificate, now: datetime) -> None:
    with responder(tmp_path, REDIS_URL="redis://127.0.0.1:1/0") as running:
        assert running.status(request(leaves[0], issuer)) == "good"
        log(now, revoked(f"{leaves[0].serial_number:040x}"))
        began = time.monotonic()
        eventually(lambda: running.status(request(leaves[0], issuer)) == "try_later", 5)
        assert time.monotonic() - began < 1
        assert running.said.count("Redis is away") == 1


@pytest.mark.skipif(connection.vendor == "sqlite", reason="a file answers or fails")
def test_a_session_that_hangs_is_left_while_others_revoke(
    tmp_path: Path, leaves: list[x509.Certificate], issuer: x509.Certificate, now: datetime
) -> None:
    with responder(tmp_path, PGAPPNAME="a responder's") as running:
        assert running.status(request(leaves[0], issuer)) == "good"
        eventually(lambda: _sessions("a responder's"), 5)
        (session,) = _sessions("a responder's")
        os.kill(session, signal.SIGSTOP)
        try:
            log(now, revoked(f"{leaves[0].serial_number:040x}"))
            eventually(lambda: running.status(request(leaves[0], issuer)) == "try_later", 10)
            assert running.said.count("the database is away") == 1
            eventually(lambda: running.said.count("the database is back") == 1, 5)
        finally:
            os.kill(session, signal.SIGCONT)


def _sessions(application: str) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE application_name = %s", [application])
        return [pid for (pid,) in cursor.fetchall()]
