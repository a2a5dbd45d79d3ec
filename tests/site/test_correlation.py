"""The ids of log lines: which a client may choose, how they get from web to worker, and that none outlives what it is about."""

from __future__ import annotations

import json
import logging
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from celery.signals import task_postrun, task_prerun
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from structlog.contextvars import bound_contextvars, get_contextvars

from ca import pipeline, tasks, tokens, wakeups
from ca.models import Request, Token
from quicklime_site import correlation
from tests.material import csr, many


def answered(**headers: str) -> tuple[str, dict[str, Any]]:
    """The id in the answer, and what the view's lines would hold."""
    seen: list[dict[str, Any]] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(get_contextvars())
        return HttpResponse()

    answer = correlation.request_id(view)(RequestFactory().get("/", headers=headers))
    assert get_contextvars() == {}
    return answer["X-Request-Id"], seen[0]


@pytest.mark.parametrize("given", ["a", "0190163d-8694-739b-aea5-966c26f8ad91", "Root=1-67891233-abcdef012345678912345678", "x" * 64])
def test_a_well_formed_id_is_taken_over(given: str) -> None:
    assert answered(**{"X-Request-Id": given}) == (given, {"request_id": given})


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\tb", "a\nb", 'a"b', "a,b", "é", "٣", "<b>", "a\x00"])
def test_any_other_is_replaced_by_one_of_ours(given: str) -> None:
    said, bound = answered(**{"X-Request-Id": given})
    assert bound == {"request_id": said}
    assert len(said) == 16
    assert said.isalnum()


def test_no_two_requests_share_an_id_of_ours() -> None:
    assert answered() != answered()


def test_an_answer_that_is_an_error_has_it_too() -> None:
    assert Client().get("/api/v1/nowhere/", headers={"X-Request-Id": "r-1"}, secure=True)["X-Request-Id"] == "r-1"


def test_a_view_that_raises_leaves_no_id_behind() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        raise LookupError

    with pytest.raises(LookupError):
        correlation.request_id(view)(RequestFactory().get("/"))
    assert get_contextvars() == {}


@pytest.mark.django_db
def test_a_message_takes_the_id_along_and_nothing_else() -> None:
    wakeups.client().flushall()
    with bound_contextvars(request_id="r-1", secret="not for the broker"):
        tasks.wake()
    (message,) = wakeups.client().lrange("validate", 0, -1)
    assert json.loads(message)["headers"]["request_id"] == "r-1"
    assert b"not for the broker" not in message


class _Task:
    def __init__(self, name: str, **request: Any) -> None:
        self.name, self.request = name, request


def begun(name: str, *args: Any, **request: Any) -> dict[str, Any]:
    """What a task's lines hold."""
    task = _Task(name, **request)
    task_prerun.send(sender=task, task_id="t-1", task=task, args=args, kwargs={})
    bound = get_contextvars()
    task_postrun.send(sender=task, task_id="t-1", task=task, args=args, kwargs={}, retval=None, state="SUCCESS")
    assert get_contextvars() == {}
    return bound


def test_a_tasks_lines_say_which_it_is() -> None:
    batch = str(uuid4())
    assert begun("ca.sign", batch, request_id="r-1") == {"task": "ca.sign", "task_id": "t-1", "batch": batch, "request_id": "r-1"}
    assert begun("ocsp.presign", "lease") == {"task": "ocsp.presign", "task_id": "t-1"}
    assert begun("ca.record") == {"task": "ca.record", "task_id": "t-1"}


def test_a_step_within_another_says_which_it_is_and_leaves_the_others_words() -> None:
    batch = str(uuid4())
    outer, own = _Task("ca.validate", request_id="r-1"), {"task": "ca.validate", "task_id": "t-0", "batch": batch, "request_id": "r-1"}
    task_prerun.send(sender=outer, task_id="t-0", task=outer, args=(batch,), kwargs={})
    inner = _Task("ca.sign")
    task_prerun.send(sender=inner, task_id="t-1", task=inner, args=(batch,), kwargs={})
    assert get_contextvars() == own | {"task": "ca.sign", "task_id": "t-1"}
    task_postrun.send(sender=inner, task_id="t-1", task=inner, args=(batch,), kwargs={}, retval=None, state="SUCCESS")
    assert get_contextvars() == own
    task_postrun.send(sender=outer, task_id="t-0", task=outer, args=(batch,), kwargs={}, retval=None, state="SUCCESS")
    assert get_contextvars() == {}


@pytest.mark.parametrize("forged", ["a\nb", {"a": 1}, 7, "x" * 65])
def test_an_id_in_a_forged_message_is_no_id(forged: object) -> None:
    assert "request_id" not in begun("ca.sign", request_id=forged)


def test_every_step_of_the_pipeline_has_its_batch() -> None:
    assert {task.name for task in tasks.TASKS.values()} == correlation._STEPS


@pytest.mark.django_db
def test_a_submission_is_a_line_that_leads_to_its_requests(hierarchy: None, now: datetime, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    token = Token.objects.get(id=tokens.create("test", "alice", tokens.Scope(), now, by="test")[0])
    answers = pipeline.submit(token, [pipeline.Submission(csr=many(1)[0]), pipeline.Submission(csr=csr("x.example.org"))], now)
    submitted = next(record for record in caplog.records if record.message == "submitted")
    assert isinstance(answers[0], Request)
    assert submitted.__dict__["requests"] == [str(answers[0].id)]
    assert submitted.__dict__["refused"] == ["nameOutsideZones"]
    assert submitted.__dict__["token"] == token.id
