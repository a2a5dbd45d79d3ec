"""The one mapping from what goes wrong to HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import DisallowedHost, PermissionDenied, RequestDataTooBig, TooManyFieldsSent
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, UnreadablePostError
from django.test import Client
from rest_framework import exceptions

from ca import tokens
from ca.api import problems
from ca.errors import Problem
from ca.keys import KeyFault
from ca.pki.violations import Violation

from .conftest import Caller, code


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (Problem("profileUnknown", "x"), 422, "profileUnknown"),
        (Problem("aRuleOfTomorrow", "x"), 422, "aRuleOfTomorrow"),
        (Violation("csrEncoding", "x"), 400, "csrEncoding"),
        (Violation("keyWeak", "x"), 422, "keyWeak"),
        (exceptions.NotAuthenticated(), 401, "notAuthenticated"),
        (exceptions.PermissionDenied(), 403, "forbidden"),
        (PermissionDenied(), 403, "forbidden"),
        (exceptions.NotFound(), 404, "notFound"),
        (Http404(), 404, "notFound"),
        (exceptions.MethodNotAllowed("X"), 405, "methodNotAllowed"),
        (exceptions.NotAcceptable(), 406, "notAcceptable"),
        (RequestDataTooBig(), 413, "bodyTooLarge"),
        (exceptions.UnsupportedMediaType("x"), 415, "unsupportedMediaType"),
        (exceptions.Throttled(3.2), 429, "tooManyRequests"),
        (UnreadablePostError(), 400, "badRequest"),
        (TooManyFieldsSent(), 400, "badRequest"),
        (DisallowedHost(), 400, "badRequest"),
        (OperationalError("secret"), 503, "unavailable"),
        (InterfaceError("secret"), 503, "unavailable"),
        (KeyFault("secret"), 503, "unavailable"),
    ],
)
def test_each_exception_has_its_status(error: Exception, status: int, expected: str) -> None:
    answer = problems.exception_handler(error, {})
    assert answer is not None
    assert (answer.status_code, code(answer)) == (status, expected)
    assert b"secret" not in answer.content
    assert ("Retry-After" in answer) == (status in (429, 503))
    assert ("WWW-Authenticate" in answer) == (status == 401)


def test_a_fault_of_ours_stays_one() -> None:
    assert problems.exception_handler(DataError(), {}) is None
    assert problems.exception_handler(ZeroDivisionError(), {}) is None


def test_the_wait_is_the_problems_own() -> None:
    assert problems.respond(Problem("tooManyRequests", "x", retry_after=9))["Retry-After"] == "9"
    throttled = problems.exception_handler(exceptions.Throttled(3.2), {})
    assert throttled is not None
    assert throttled["Retry-After"] == "4"


def test_where_it_is_said_if_it_is_known() -> None:
    assert problems.as_dict(Problem("keyWeak", "small", "csr.key"))["errors"] == [{"where": "csr.key", "detail": "small"}]
    assert problems.as_dict(Problem("keyWeak", "small"))["errors"] == []


def test_titles_and_statuses_are_sound() -> None:
    assert all(400 <= rule.status < 600 and rule.title for rule in problems.RULES.values())


@pytest.mark.django_db
def test_database_gone_is_503(alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: Any) -> None:
        raise OperationalError("connection to server at /secret failed")

    monkeypatch.setattr(tokens, "recognise", gone)
    answer = alice.get("certificates/")
    assert (answer.status_code, code(answer)) == (503, "unavailable")
    assert b"secret" not in answer.content


@pytest.mark.django_db
def test_an_unknown_address_and_host_answer_in_kind() -> None:
    client = Client()
    for path in ("/api/", "/api/v2/", "/log/", "/log/nothing"):
        assert code(client.get(path)) == "notFound"
    assert client.get("/nothing")["Content-Type"].startswith("text/html")
    assert code(client.get("/api/v1/issuers/", headers={"Host": "evil.example"})) == "badRequest"


@pytest.mark.django_db
def test_a_fault_of_ours_is_a_problem_too_and_says_nothing(alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(tokens, "recognise", broken)
    client = Client(raise_request_exception=False)
    answer = client.get("/api/v1/certificates/", headers={"Authorization": f"Bearer {alice.secret}"})
    assert (answer.status_code, code(answer)) == (500, "internalError")
    assert b"secret" not in answer.content
