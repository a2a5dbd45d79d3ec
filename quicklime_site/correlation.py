"""Which request, task and batch a log line is about.

Owns the ids that all lines of a request or task carry, `request_id`, `task`, `task_id` and `batch`, and their way from web to
worker, a header of Celery's messages. They are names to search by and prove nothing: whoever calls may choose the id of its
request, within _ID. Must never hold anything else that a client sent.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from celery import Task
from celery.signals import before_task_publish, setup_logging, task_postrun, task_prerun
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from structlog import contextvars

from . import logs

HEADER = "X-Request-Id"
_ID = re.compile(r"[A-Za-z0-9._=-]{1,64}", re.ASCII)
_FIELD = "request_id"
_STEPS = frozenset(f"ca.{step}" for step in ("validate", "sign", "challenge", "record"))
_LONGEST = 64  # characters of a batch's id: a message may hold anything
_around: list[dict[str, Any]] = []  # what was bound when each running task began, each within the one before; a worker has one thread


def request_id(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: give each request an id, the client's own if it is well-formed, and say it in the answer."""

    def middleware(request: HttpRequest) -> HttpResponse:
        chosen = _well_formed(request.META.get("HTTP_X_REQUEST_ID")) or secrets.token_hex(8)
        bound = contextvars.bind_contextvars(**{_FIELD: chosen})
        try:
            response = get_response(request)
        finally:
            contextvars.reset_contextvars(**bound)
        response.headers[HEADER] = chosen
        return response

    return middleware


def _well_formed(text: object) -> str | None:
    return text if isinstance(text, str) and _ID.fullmatch(text) else None


@before_task_publish.connect
def _send(headers: MutableMapping[str, Any], **_: Any) -> None:
    """Of several requests that one message serves, the one that sent it."""
    found = contextvars.get_contextvars().get(_FIELD)
    if found:
        headers[_FIELD] = found


@task_prerun.connect
def _begin(task: Task[Any, Any], task_id: str, args: Sequence[Any], **_: Any) -> None:
    """A message may come from anybody who reaches Redis."""
    _around.append(contextvars.get_contextvars())
    found = {"task": task.name, "task_id": task_id[:_LONGEST]}
    if task.name in _STEPS and args:
        found["batch"] = str(args[0])[:_LONGEST]
    if request := _well_formed(task.request.get(_FIELD)):
        found[_FIELD] = request
    contextvars.bind_contextvars(**found)


@task_postrun.connect
def _end(**_: Any) -> None:
    contextvars.clear_contextvars()
    contextvars.bind_contextvars(**_around.pop())


@setup_logging.connect
def _configure(**_: Any) -> None:
    """Celery would set the level, and more, by flags of its own."""
    logs.configure(settings.LOGGING)
