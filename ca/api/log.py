"""The log over HTTP (C2SP tlog-tiles, and NDJSON): eventlog's views, behind the API's authorisation."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpResponseBase
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from eventlog import views

from . import documents
from .authentication import PUBLIC
from .base import ApiView


class LogView(ApiView):
    """Needs the action `log`, or nothing where settings.LOG_PUBLIC says so."""

    def declared(self, method: str | None) -> tuple[str, ...]:
        if method not in ("GET", "HEAD"):
            return ()
        return (PUBLIC,) if settings.LOG_PUBLIC else ("log",)

    def get_authenticators(self) -> list[BaseAuthentication]:
        return [] if settings.LOG_PUBLIC else super().get_authenticators()


class CheckpointView(LogView):
    """GET /log/checkpoint"""

    produces = ("text/plain",)

    @documents.checkpoint
    def get(self, request: Request) -> HttpResponseBase:
        return views.checkpoint(request._request)


class TileView(LogView):
    """GET /log/tile/…"""

    produces = ("application/octet-stream",)

    @documents.tile
    def get(self, request: Request, path: str) -> HttpResponseBase:
        return views.tile(request._request, path)


class EntriesView(LogView):
    """GET /log/entries"""

    produces = ("application/x-ndjson",)
    parameters = {"GET": frozenset({"after", "limit"})}

    @documents.entries
    def get(self, request: Request) -> HttpResponseBase:
        return views.entries(request._request)
