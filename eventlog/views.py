"""The log over HTTP: C2SP tlog-tiles, and NDJSON for everyone else.

Owns paths and parameters below /log/. Knows no token: whoever routes here has decided that the caller may read the log.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TypeVar

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from . import head, tiles, transfer
from .checkpoints import latest
from .merkle import TILE_WIDTH

MOST, USUAL = 10_000, 1_000  # entries in one answer: at most, and without a limit
_TILE = re.compile(r"(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)

Answer = TypeVar("Answer", bound=HttpResponseBase)


class _Refused(Exception):
    """What the caller asked cannot be answered: status, code, detail."""

    def __init__(self, status: int, code: str, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.title, self.detail = status, code, title, detail


def _bad(detail: str) -> _Refused:
    return _Refused(400, "invalidParameter", "A query parameter has a value of the wrong form", detail)


def _missing(detail: str) -> _Refused:
    return _Refused(404, "notFound", "There is no such thing, or it is not yours to see", detail)


def checkpoint(request: HttpRequest) -> HttpResponseBase:
    """GET /log/checkpoint: the newest signed checkpoint, text."""
    return _answer(request, _checkpoint)


def tile(request: HttpRequest, path: str) -> HttpResponseBase:
    """GET /log/tile/<path>: `<level>/<index>[.p/<width>]`, 32 bytes a hash; or `entries/<index>[.p/<width>]`."""
    return _answer(request, lambda: _tile(path))


def entries(request: HttpRequest) -> HttpResponseBase:
    """GET /log/entries?after=N&limit=M: the events beyond position N, NDJSON as in export_log, streamed."""
    return _answer(request, lambda: _entries(request))


def _answer(request: HttpRequest, make: Callable[[], HttpResponseBase]) -> HttpResponseBase:
    try:
        if request.method not in ("GET", "HEAD"):
            raise _Refused(405, "methodNotAllowed", "This method is not allowed here", "the log is read with GET")
        return make()
    except _Refused as refused:
        return _problem(refused)


def _checkpoint() -> HttpResponse:
    newest = latest()
    if newest is None:
        raise _missing("the log has no checkpoint yet")
    return _cached(HttpResponse(newest.note, content_type="text/plain; charset=utf-8"), "no-cache")


def _tile(path: str) -> HttpResponse:
    level, index, width = _parse_tile(path)
    try:
        content = tiles.bundle(index, width) if level is None else b"".join(tiles.hashes(level, index, width))
    except tiles.NoSuchTile as error:
        raise _missing(str(error)) from None
    return _cached(HttpResponse(content, content_type="application/octet-stream"), "max-age=31536000, immutable")


def _parse_tile(path: str) -> tuple[int | None, int, int]:
    """(level, or None for entries; index; width) of "1/x001/067.p/5"."""
    match = _TILE.fullmatch(path)
    if not match or match[2].startswith("x000/") or len(match[2]) > 29 or int(match[3] or 1) >= TILE_WIDTH:
        raise _missing("not a tile: tile/<level>/<index>[.p/<width>], index in groups such as x001/x234/067")
    level = None if match[1] == "entries" else int(match[1])
    return level, int(match[2].replace("x", "").replace("/", "")), int(match[3] or TILE_WIDTH)


def _entries(request: HttpRequest) -> StreamingHttpResponse:
    after, limit = _number(request, "after", 0), _number(request, "limit", USUAL)
    if not 1 <= limit <= MOST:
        raise _bad(f"limit: a whole number from 1 to {MOST}")
    lines = transfer.export(after, min(after + limit, head.size()))
    return _cached(StreamingHttpResponse(lines, content_type="application/x-ndjson"), "no-cache")


def _number(request: HttpRequest, name: str, default: int) -> int:
    text = request.GET.get(name, str(default))
    if not _NUMBER.fullmatch(text):
        raise _bad(f"{name}: a whole number, zero or more")
    return int(text)


def _cached(response: Answer, rule: str) -> Answer:
    """A log behind tokens must not be served to others by a shared cache."""
    response["Cache-Control"] = f"{'public' if settings.LOG_PUBLIC else 'private'}, {rule}"
    return response


def _problem(refused: _Refused) -> HttpResponse:
    """RFC 9457 §3.1, as everywhere in the API."""
    body = {
        "type": f"urn:quicklime:problem:{refused.code}",
        "title": refused.title,
        "status": refused.status,
        "detail": refused.detail,
        "code": refused.code,
        "errors": [],
    }
    response = HttpResponse(json.dumps(body), content_type="application/problem+json", status=refused.status)
    if refused.status == 405:
        response["Allow"] = "GET, HEAD"
    return response
