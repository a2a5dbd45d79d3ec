"""The pages behind the links in a reminder. GET asks, POST acts.

Owns their answers. No login: the signed link is the right to act, so it is kept out of caches, indexes and Referer headers, and
needs no CSRF token: who could forge the call would need the link.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from ca.models import Certificate

from . import silencing

_PRIVATE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex"}
_View = Callable[[HttpRequest, str], HttpResponse]


def _linked(view: _View) -> _View:
    """What all of these pages are."""

    @wraps(view)
    def answer(request: HttpRequest, token: str) -> HttpResponse:
        try:
            response = view(request, token)
        except silencing.BadLink:
            response = render(request, "dashboard/silence_bad_link.html", status=404)
        for name, value in _PRIVATE.items():
            response.headers[name] = value
        return response

    return csrf_exempt(require_http_methods(["GET", "HEAD", "POST"])(answer))


@_linked
def snooze(request: HttpRequest, token: str) -> HttpResponse:
    """Silence one certificate: for a week with `for=week`, else until it is replaced."""
    serial, recipient_hash = silencing.snoozed_by(token)
    until = datetime.now(UTC) + silencing.WHILE if request.POST.get("for") == "week" else None
    if request.method == "POST":
        silencing.snooze(serial, recipient_hash, until)
    certificate = Certificate.objects.filter(serial=serial).first()
    return _page(request, "dashboard/silence_one.html", serial=serial, certificate=certificate, until=until)


@_linked
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """Silence all. Also where a mail program posts `List-Unsubscribe=One-Click` (RFC 8058 §3.1), without cookies."""
    recipient_hash = silencing.unsubscribed_by(token)
    if request.method == "POST":
        silencing.unsubscribe(recipient_hash, datetime.now(UTC))
    return _page(request, "dashboard/silence_all.html")


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    return render(request, template, {"done": request.method == "POST", **context})
