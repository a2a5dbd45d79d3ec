"""Services over HTTP: which nodes run which generation, and which were left behind.

Owns the service objects and their pages. Must never show a caller what is another owner's, nor tell whether there is such a service.
"""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from django.http import Http404, HttpResponse
from rest_framework.request import Request

from ca.api import listing, pages
from ca.api.authentication import principal
from ca.api.base import ApiView, answer
from ca.api.representations import time
from ca.api.submissions import instant
from ca.checkins import NONE
from ca.errors import Problem

from . import documents, services
from .services import After, Certificate, View

_OF_SERVICES = re.compile(r"~([A-Za-z0-9_-]*)()", re.ASCII)
_OF_NODES = re.compile(r"~([A-Za-z0-9_-]*)(?:\.([0-9a-f]{40}))?", re.ASCII)


class ServicesView(ApiView):
    """GET services/"""

    actions = {"GET": ("read", "audit")}
    parameters = {"GET": frozenset({"at", "limit", "cursor"})}

    @documents.services
    def get(self, request: Request) -> HttpResponse:
        view, limit, (after, _) = _view(request), _limit(request), _after(request, _OF_SERVICES) or ("", None)
        found = services.services(view, after, limit)
        shown = [{**each, "issued_at": time(each["issued_at"])} for each in found.services]
        cursor = None if found.after is None else _cursor(found.after)
        return answer({"at": time(view.moment), "results": shown, "next": pages.following(request, cursor)})


class ServiceView(ApiView):
    """GET services/{name}/"""

    actions = {"GET": ("read", "audit")}
    parameters = {"GET": frozenset({"at", "limit", "cursor"})}

    @documents.service
    def get(self, request: Request, name: str) -> HttpResponse:
        view, limit, after = _view(request), _limit(request), _after(request, _OF_NODES)
        counts = services.service(view, name)
        if not counts["nodes"]:
            raise Http404
        found = services.nodes(view, name, after, limit)
        cursor = None if found.after is None else _cursor(*found.after)
        return answer({
            "service": name, "at": time(view.moment), **counts, "to_be_replaced": services.awaited(view, name),
            "laggards": [generation(each, view.moment) for each in services.laggards(view, name)],
            "results": _nodes(found.nodes, view.moment), "next": pages.following(request, cursor),
        })  # fmt: skip


def _nodes(found: Mapping[str, Sequence[Certificate]], at: datetime) -> list[dict[str, Any]]:
    serials = [each.serial for generations in found.values() for each in generations]
    seen, replace_by = services.seen(serials), services.replace_by(serials)

    def shown(each: Certificate) -> dict[str, Any]:
        wanted = replace_by.get(each.serial)
        return generation(each, at) | _served(each, seen.get(each.serial)) | {"replace_by": wanted and time(wanted)}

    return [{"node": node, "generations": [shown(each) for each in generations]} for node, generations in found.items()]


def generation(each: Certificate, at: datetime) -> dict[str, Any]:
    """The generation object: one certificate of a node as things stood at `at`. `never_renewed`: overdue, and the first of its line."""
    status = each.status(at)
    return {
        "node": each.node,
        "serial": each.serial,
        "line": each.line,
        "generation": each.number,
        "status": status,
        "never_renewed": each.number == 1 and status in (services.LEFT_BEHIND, services.EXPIRED),
        "owner": each.owner,
        "profile": each.profile,
        "names": each.names,
        "not_before": time(each.not_before),
        "not_after": time(each.not_after),
        "renew_by": time(each.renew_by),
        "issued_at": time(each.issued_at),
        "superseded_by": each.superseded_by if status == services.SUPERSEDED else None,
    }


def _served(each: Certificate, word: tuple[str, datetime] | None) -> dict[str, Any]:
    """What the node said of it when it last checked in: `deployed` None where nobody looked."""
    served, seen_at = word or ("", None)
    return {
        "served": None if served == NONE else served or None,
        "deployed": served == each.serial if served else None,
        "seen_at": seen_at and time(seen_at),
    }


def _view(request: Request) -> View:
    caller, text = principal(request), request.query_params.get("at")
    at = None if text is None else instant(text, "at", "invalidParameter")
    return View(None if caller.sees_all else caller.grant.owner, at, datetime.now(UTC))


def _limit(request: Request) -> int:
    return listing.limit(request.query_params.get("limit"))


def _cursor(name: str, serial: str | None = None) -> str:
    """Leads behind the entry `name`, which may be empty; or behind one line of it, see services.After."""
    return "~" + urlsafe_b64encode(name.encode()).decode().rstrip("=") + (f".{serial}" if serial else "")


def _after(request: Request, form: re.Pattern[str]) -> After | None:
    text = request.query_params.get("cursor")
    if text is None:
        return None
    try:
        parts = form.fullmatch(text)
        if not parts:
            raise ValueError
        name = b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True).decode()
        if _cursor(name, parts[2]) != text or not name.isprintable():
            raise ValueError
    except (ValueError, Base64Error):
        raise Problem("invalidParameter", "cursor is not one of ours: take it from a page's `next`", "cursor") from None
    return After(name, parts[2] or None)
