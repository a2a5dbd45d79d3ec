"""Which media type an answer takes, and which parser reads a body (RFC 9110 §12.5.1).

Owns the reading of Accept and Content-Type. Must never answer an unknown or malformed type with a default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from ca.errors import Problem

JSON, PEM, DER = "application/json", "application/pem-certificate-chain", "application/pkix-cert"
MAX_LENGTH, MAX_RANGES = 2_000, 32
_RANGE = re.compile(r"([!#$%&'*+.^_`|~0-9a-z-]+)/([!#$%&'*+.^_`|~0-9a-z-]+)", re.ASCII)
_QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", re.ASCII)


class Negotiation(BaseContentNegotiation):
    """A body by its exact media type; an answer by the `Accept` header's best match among the view's `produces`, whose
    first is what a client without preference gets. The second of the returned pair is that type."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        content_type = (request.content_type or "").partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == content_type), None)

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        produces: Sequence[str] = request.parser_context["view"].produces
        return next(iter(renderers)), best(request.META.get("HTTP_ACCEPT", ""), produces)


def best(accept: str, produces: Sequence[str]) -> str:
    """The type of `produces` that `accept` likes best, the earlier one among equals. Raises Problem (400, 406)."""
    if not accept or accept in ("*/*", produces[0]):
        return produces[0]
    ranges = _parse(accept)
    liked = max(produces, key=lambda media_type: _liking(media_type, ranges))
    if _liking(liked, ranges) == 0:
        raise Problem("notAcceptable", f"this address answers with {', '.join(produces)}", "Accept")
    return liked


def _parse(accept: str) -> dict[str, float]:
    """Media range → quality."""
    items = accept.lower().split(",")
    if len(accept) > MAX_LENGTH or len(items) > MAX_RANGES:
        raise Problem("invalidHeader", f"Accept has more than {MAX_RANGES} media ranges or {MAX_LENGTH} characters", "Accept")
    return dict(_range(item.strip()) for item in items if item.strip())


def _range(item: str) -> tuple[str, float]:
    media_range, *parameters = (part.strip() for part in item.split(";"))
    quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
    if not _RANGE.fullmatch(media_range) or not _QUALITY.fullmatch(quality):
        raise Problem("invalidHeader", "Accept is not a list of media ranges", "Accept")
    return media_range, float(quality)


def _liking(media_type: str, ranges: dict[str, Any]) -> float:
    """The quality that the most specific matching range gives (RFC 9110 §12.5.1)."""
    for media_range in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        if media_range in ranges:
            return float(ranges[media_range])
    return 0.0
