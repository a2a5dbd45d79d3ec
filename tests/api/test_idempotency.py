"""One key of one principal gives one request and at most one certificate, however often and at once it is sent."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse

from ca.models import Certificate, Request
from tests.material import csr

from .conftest import Caller, code

Pipeline = Callable[[], None]
CSR = b64encode(csr("payroll.internal")).decode()


@pytest.mark.django_db
def test_the_same_body_in_another_spelling_is_the_same(alice: Caller) -> None:
    first = alice.post("certificates/", {"csr": CSR, "node": "n", "validity_days": 7}, Idempotency_Key="k")
    again = alice.post("certificates/", {"validity_days": 7, "node": "n", "csr": CSR}, Idempotency_Key="k")
    bare = alice.call("POST", "certificates/?validity_days=7&node=n", CSR, "application/pkcs10", Idempotency_Key="k")
    assert first.json() == again.json() == bare.json()
    assert first["Location"] == again["Location"] == bare["Location"]
    assert Request.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change", [{"csr": b64encode(csr("b.internal")).decode()}, {"node": "m"}, {"profile": "client"}, {"validity_days": 8}]
)
def test_another_body_is_422(change: dict[str, Any], alice: Caller) -> None:
    alice.post("certificates/", {"csr": CSR, "node": "n"}, Idempotency_Key="k")
    answer = alice.post("certificates/", {"csr": CSR, "node": "n"} | change, Idempotency_Key="k")
    assert (answer.status_code, code(answer)) == (422, "idempotencyMismatch")
    assert Request.objects.count() == 1


@pytest.mark.django_db
def test_a_key_is_ones_own(alice: Caller, bob: Caller) -> None:
    answers = [caller.post("certificates/", {"csr": CSR}, Idempotency_Key="k").json()["id"] for caller in (alice, bob)]
    assert answers[0] != answers[1]


@pytest.mark.django_db
def test_repeated_after_the_end_it_answers_with_the_end(hierarchy: None, alice: Caller, run_pipeline: Pipeline) -> None:
    alice.post("certificates/", {"csr": CSR}, Idempotency_Key="k")
    run_pipeline()
    again = alice.post("certificates/", {"csr": CSR}, Idempotency_Key="k")
    assert again.status_code == 201
    assert again["Location"] == f"/api/v1/certificates/{again.json()['certificate']['serial']}/"
    run_pipeline()
    assert Certificate.objects.count() == 1


def at_once(count: int, send: Callable[[int], HttpResponse]) -> list[HttpResponse]:
    """`send` 0..count-1 from as many threads; who is told 503, as the pool is smaller than that, comes again."""
    barrier = Barrier(count)

    def one(number: int) -> HttpResponse:
        barrier.wait(30)
        try:
            answer = send(number)
            while answer.status_code == 503:
                answer = send(number)
            return answer
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(one, range(count)))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("keys", [1, 50])
def test_fifty_at_once(keys: int, hierarchy: None, alice: Caller, run_pipeline: Pipeline) -> None:
    answers = at_once(50, lambda number: alice.post("certificates/", {"csr": CSR}, Idempotency_Key=f"k{number % keys}"))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == keys
    assert Request.objects.count() == keys
    run_pipeline()
    assert Certificate.objects.count() == keys


@pytest.mark.django_db(transaction=True)
def test_two_bodies_at_once_under_one_key(alice: Caller) -> None:
    answers = at_once(20, lambda number: alice.post("certificates/", {"csr": CSR, "node": f"n{number % 2}"}, Idempotency_Key="k"))
    assert sorted(answer.status_code for answer in answers) == [202] * 10 + [422] * 10
    assert Request.objects.count() == 1
