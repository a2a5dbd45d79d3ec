"""A load of 1,000 requests over HTTPS, in the middle of which every process is killed with -9 in turn."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from typing import Any

import pytest

from tests.material import many
from tests.processes import eventually

from .installation import BEAT, WEB, WORKER, Answer, Client, Installation

pytestmark = pytest.mark.timeout(240)
TOTAL, CLIENTS = 1_000, 6
PATIENCE = 90.0  # seconds for which one submission is repeated, through whatever happens meanwhile
Requests = list[dict[str, Any]]  # as the API shows them


@dataclass(frozen=True)
class Call:
    """What is submitted under one idempotency key: one CSR or several."""

    key: str
    csrs: Sequence[bytes]
    wait: int = 0

    def submit(self, client: Client, wait: int) -> Answer:
        if len(self.csrs) > 1:
            return client.submit_many(self.csrs, self.key, wait)
        return client.submit(self.csrs[0], self.key, wait)


def calls() -> list[Call]:
    """TOTAL requests: of every 50 in a row 30 in bulks of 10, and 20 by themselves, of which every fourth waits."""
    csrs, made = many(TOTAL), []
    for start in range(0, TOTAL, 50):
        made += [Call(f"bulk-{at}", csrs[at : at + 10]) for at in range(start, start + 30, 10)]
        made += [Call(f"single-{at}", csrs[at : at + 1], 2 if at % 4 == 0 else 0) for at in range(start + 30, start + 50)]
    return made


@dataclass
class Load:
    """Makes the calls in CLIENTS threads, each again and again until it is acknowledged, and remembers what was said."""

    installation: Installation
    acknowledged: dict[str, list[str]] = field(default_factory=dict)  # key → request ids
    handed_out: dict[str, str] = field(default_factory=dict)  # request id → PEM

    @property
    def count(self) -> int:
        return sum(map(len, list(self.acknowledged.values())))

    def submit(self, client: Client, call: Call) -> None:
        self._note(call, _until(client, call, call.wait, lambda requests: True))

    def submit_again(self, client: Client, call: Call) -> None:
        """What was acknowledged is issued at last, and no call has other requests than it had at first."""
        before = self.acknowledged[call.key]
        self._note(call, _until(client, call, 5, lambda requests: all(request["status"] == "issued" for request in requests)))
        assert self.acknowledged[call.key] == before

    def in_threads(self, work: Callable[[Client, Call], None], every: Sequence[Call], meanwhile: Callable[[], None] = lambda: None) -> None:
        """Do `work` for every call, and `meanwhile` in this thread."""
        with ExitStack() as stack:
            threads = stack.enter_context(ThreadPoolExecutor(CLIENTS))
            clients = [stack.enter_context(self.installation.client("load")) for _ in range(CLIENTS)]
            shares = [every[number::CLIENTS] for number in range(CLIENTS)]
            running = [threads.submit(_each, partial(work, client), share) for client, share in zip(clients, shares, strict=True)]
            meanwhile()
            for each in running:
                each.result()

    def _note(self, call: Call, requests: Requests) -> None:
        self.acknowledged[call.key] = [request["id"] for request in requests]
        for request in requests:
            if request["certificate"]:
                pem = request["certificate"]["pem"]
                assert self.handed_out.setdefault(request["id"], pem) == pem, "two certificates for one request"


def _each(work: Callable[[Call], None], share: Sequence[Call]) -> None:
    for call in share:
        work(call)


def _until(client: Client, call: Call, wait: int, enough: Callable[[Requests], bool]) -> Requests:
    """The requests of the first acknowledgement that is `enough`; no answer at all, or a 503, is no acknowledgement."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            requests = _acknowledged(call.submit(client, wait))
            if requests and enough(requests):
                return requests
        except (OSError, HTTPException):
            pass
        time.sleep(0.05)
    pytest.fail(f"{call.key} was not acknowledged within {PATIENCE} s")


def _acknowledged(answer: Answer) -> Requests:
    """The accepted requests, none if the whole call was refused for now."""
    if answer.status == 503:
        assert answer.headers["Retry-After"]
        return []
    if answer.status in (201, 202):
        return [answer.body]
    assert answer.status == 200, answer
    assert {result["status"] for result in answer.body["results"]} <= {201, 202}, answer
    return [result["request"] for result in answer.body["results"]]


def faults(installation: Installation) -> list[Callable[[], object]]:
    """Each process, killed; what the supervisor does not start again is started here."""
    found: list[Callable[[], object]] = [partial(installation.kill, kind) for kind in (WORKER, WEB, BEAT)]
    found.append(partial(_through, installation.redis_killed))
    if installation.postgresql:
        found.append(partial(_through, installation.postgresql.away))
        found.append(partial(_in_turn, installation.postgresql.kill, installation.postgresql.start))
    return [*found, partial(_in_turn, partial(installation.stop, signal.SIGKILL), installation.start)]


def _through(fault: Callable[[], Any]) -> None:
    with fault():
        pass


def _in_turn(*steps: Callable[[], object]) -> None:
    for step in steps:
        step()


def test_a_load_through_the_death_of_every_process(installation: Installation) -> None:
    load, every, planned = Load(installation), calls(), faults(installation)

    def hurt() -> None:
        step = TOTAL // (len(planned) + 1)
        for number, fault in enumerate(planned, 1):
            eventually(lambda enough=number * step: load.count >= enough, PATIENCE)
            assert load.count < TOTAL, "the load was over before the fault"
            fault()

    load.in_threads(load.submit, every, meanwhile=hurt)
    load.in_threads(load.submit_again, every)
    assert len({request for ids in load.acknowledged.values() for request in ids}) == len(load.handed_out) == TOTAL
    with installation.client("load") as client:
        assert client.issued() == TOTAL
    installation.judge()
