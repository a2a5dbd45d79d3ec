"""The inventory: found by name, serial, fingerprint, owner and facets, in pages; and the same as a file.

Searching is ca.api.listing's, which looks at a bounded number of rows for each page.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from ca.api import listing, representations
from ca.api.representations import ACTIVE, EXPIRED, REVOKED, Row
from ca.errors import Problem
from ca.profiles import PROFILES
from dashboard import access, asking
from dashboard.roles import Right

from .base import show

FACETS = {"status": (ACTIVE, EXPIRED, REVOKED), "profile": tuple(PROFILES), "expires": ("7", "30", "90")}
KNOWN = ("q", "service", "node", "owner", *FACETS, "cursor")
EXPORTED_AT_MOST = 100_000
COLUMNS = (
    "serial", "names", "status", "owner", "service", "node", "profile", "issuer", "key_type", "not_before", "not_after", "revoked_at",
    "reason", "replaces", "replaced_by", "fingerprint", "log_position",
)  # fmt: skip


@access.page(Right.SEE)
def certificates(request: HttpRequest) -> HttpResponseBase:
    """GET certificates/"""
    now = datetime.now(UTC)
    context: dict[str, Any] = {"facets": FACETS, "asked": {}, "most": EXPORTED_AT_MOST}
    try:
        asked = asking.parameters(request, KNOWN)
        context["asked"] = asked
        page = listing.page(_filters(asked, now), _owner(request, asked), now, access.own(request))
    except Problem as problem:
        return show(request, "certificates.html", {**context, "problem": problem}, now, status=400)
    rows = [{**row, "status": representations.certificate_status(row, now)} for row in page.rows]
    return show(request, "certificates.html", {**context, "rows": rows, "cursor": page.cursor, "window": listing.WINDOW}, now)


def _filters(asked: Mapping[str, str], now: datetime) -> dict[str, str]:
    """The parameters of the list for what was asked here."""
    for name, choices in FACETS.items():
        asking.choice(asked.get(name), choices, name)
    filters = {name: text for name, text in asked.items() if name in listing.PARAMETERS}
    if "expires" in asked:
        until = now + timedelta(days=int(asked["expires"]))
        filters |= {"expires_after": representations.time(now), "expires_before": representations.time(until)}
    return filters


def _owner(request: HttpRequest, asked: Mapping[str, str]) -> str | None:
    """Whose certificates alone: whose were asked for; else the visitor's, who speaks for one owner only, as an index leads there."""
    own = access.own(request)
    return asked.get("owner") or (next(iter(own)) if own is not None and len(own) == 1 else None)


# --- As a file


@access.page(Right.SEE)
def export(request: HttpRequest, form: str) -> HttpResponseBase:
    """GET certificates.csv and certificates.json: the filters of the page, at most EXPORTED_AT_MOST rows, newest first."""
    now = datetime.now(UTC)
    try:
        asked = asking.parameters(request, KNOWN)
        filters, owner, own = _filters(asked, now), _owner(request, asked), access.own(request)
        listing.page({**filters, "limit": "1"}, owner, now, own)  # what cannot be asked fails here, before the first byte
    except Problem as problem:
        return HttpResponse(f"{problem.detail}\n", status=400, content_type="text/plain; charset=utf-8")
    lines, kind = _FORMS[form]
    response = StreamingHttpResponse(lines(_rows(filters, owner, now, own)), content_type=kind)
    response["Content-Disposition"] = asking.attachment(f"certificates-{now:%Y-%m-%d}.{form}")
    return response


def _rows(filters: Mapping[str, str], owner: str | None, now: datetime, own: frozenset[str] | None) -> Iterator[dict[str, Any]]:
    asked, left = {**filters, "limit": str(listing.MAX_LIMIT)}, EXPORTED_AT_MOST
    while left > 0:
        page = listing.page(asked, owner, now, own)
        yield from (_exported(row, now) for row in page.rows[:left])
        left -= len(page.rows)
        if page.cursor is None:
            return
        asked["cursor"] = page.cursor


def _exported(row: Row, now: datetime) -> dict[str, Any]:
    plain = {**row, "status": representations.certificate_status(row, now)}
    return {name: representations.time(value) if isinstance(value := plain[name], datetime) else value for name in COLUMNS}


def _json(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """One array, a certificate on each line."""
    separator = "[\n"
    for row in rows:
        yield separator + json.dumps(row)
        separator = ",\n"
    yield "\n]\n" if separator == ",\n" else "[]\n"


def _csv(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """RFC 4180, in UTF-8."""
    yield _line(COLUMNS)
    for row in rows:
        yield _line([" ".join(value) if isinstance(value, list) else value for value in row.values()])


def _line(values: Any) -> str:
    file = StringIO()
    csv.writer(file).writerow([cell(value) for value in values])
    return file.getvalue()


def cell(value: Any) -> str:
    """A value for a spreadsheet, which would run a text that begins like a formula: such a one is quoted as text (T18). A text begins
    anew where a spreadsheet that expects other separators may end a cell, and some take full-width signs for their own."""
    return _FORMULA.sub("'", "" if value is None else str(value))


_FORMULA = re.compile('(?:^|(?<=[;,\t\r\n"]))(?=[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20])')
_FORMS = {"csv": (_csv, "text/csv; charset=utf-8"), "json": (_json, "application/json")}
