"""The API's own description, as OpenAPI and as a page that needs nothing from elsewhere."""

from __future__ import annotations

import json
from functools import cache

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from drf_spectacular.generators import SchemaGenerator
from rest_framework.request import Request

from . import documents
from .base import PublicView
from .negotiation import JSON

OPENAPI = "application/vnd.oai.openapi+json"


@cache
def description() -> bytes:
    """The OpenAPI document. Made once: it costs as much as hundreds of submissions, and anybody may ask for it."""
    schema = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return json.dumps(schema, default=str).encode()


class SchemaView(PublicView):
    """GET schema/"""

    produces = (OPENAPI, JSON)

    @documents.schema
    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(description(), content_type=request.accepted_media_type)


class DocsView(PublicView):
    """GET docs/"""

    produces = ("text/html",)

    @documents.schema
    def get(self, request: Request) -> HttpResponse:
        return render(_plain(request), "ca/docs.html")


def _plain(request: Request) -> HttpRequest:
    return request._request
