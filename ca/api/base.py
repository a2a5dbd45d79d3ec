"""What every view of the API is: declared, negotiated, with only the query parameters it knows.

Owns the order of checks before a handler runs. Must hold no rule about certificates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.http import HttpResponse
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.views import APIView

from ca.errors import Problem

from . import negotiation
from .limits import TokenRate
from .parsers import BODY_LIMIT

MAX_PARAMETER = 500  # characters of one query parameter


class ApiView(APIView):
    """A view says in `actions` who may call each of its methods (see DenyUnlessDeclared), in `parameters` which query
    parameters each knows, in `produces` its media types, the default first, and in `body_limit` how many bytes it reads."""

    http_method_names = ["get", "head", "post"]
    content_negotiation_class = negotiation.Negotiation
    throttle_classes = [TokenRate]
    actions: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    parameters: ClassVar[Mapping[str, frozenset[str]]] = {}
    produces: ClassVar[Sequence[str]] = (negotiation.JSON,)
    body_limit: ClassVar[int] = BODY_LIMIT
    asks_at_the_door: ClassVar[Sequence[str]] = ()  # methods whose handler has pipeline.submit ask whether the token was revoked

    def declared(self, method: str | None) -> tuple[str, ...]:
        """The actions of which the caller needs one; () if the view declares nothing for `method`."""
        return self.actions.get(_same_as(method), ())

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if not hasattr(self, (request.method or "").lower()) or request.method == "OPTIONS":
            raise exceptions.MethodNotAllowed(request.method or "")
        super().initial(request, *args, **kwargs)
        if request.META["QUERY_STRING"]:
            _check_parameters(request, self.parameters.get(_same_as(request.method), frozenset()))
        if "HTTP_TRANSFER_ENCODING" in request.META:
            raise Problem("lengthRequired", "send a Content-Length; a chunked body is not read", "Transfer-Encoding")


class PublicView(ApiView):
    """A view that needs no token, and so reads none: a stale one does not stand in the way of fetching a root."""

    authentication_classes = []
    actions: ClassVar[Mapping[str, tuple[str, ...]]] = {"GET": ("public",)}


def _same_as(method: str | None) -> str:
    return "GET" if method == "HEAD" else method or ""


def is_plain(text: str) -> bool:
    """Whether a field of the database could hold this: not too long, and nothing that cannot be printed."""
    return len(text) <= MAX_PARAMETER and text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text


def _check_parameters(request: Request, known: frozenset[str]) -> None:
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        names = ", ".join(sorted(ascii(name[:40]) for name in unknown[:10]))
        raise Problem("unknownParameter", f"not known here: {names}; known: {', '.join(sorted(known)) or 'none'}", "query")
    for name, values in request.query_params.lists():
        if len(values) > 1:
            raise Problem("invalidParameter", f"{name} is given {len(values)} times", name)
        if not is_plain(values[0]):
            raise Problem("invalidParameter", f"{name} is longer than {MAX_PARAMETER} characters, or not printable UTF-8", name)


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """`body` as JSON. Not to be cached: what it says may be for this caller only."""
    response = HttpResponse(json.dumps(body), content_type=negotiation.JSON, status=status, headers=headers)
    response["Cache-Control"] = "no-store"
    return response
