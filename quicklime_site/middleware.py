"""What surrounds every answer: fixed security headers, and the browser's machinery only where browsers go.

Owns the line between people's pages and the paths of programs (`MACHINES`), which know no session, cookie or message. A
signing request is answered in a millisecond or two; sessions, CSRF and a computed policy were a quarter of that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

MACHINES = ("/api/", "/log/", "/ocsp", "/crl/", "/livez", "/readyz")
_Next = Callable[[HttpRequest], HttpResponse]


def headers(get_response: _Next) -> _Next:
    """Add settings.HEADERS, the policy for browsers among them, unless the view set its own."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        for name, value in settings.HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return middleware


class _ForPeople(MiddlewareMixin):
    """Passes by what is on a path of programs."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if request.path_info.startswith(MACHINES):
            return self.get_response(request)
        return super().__call__(request)


class Sessions(_ForPeople, SessionMiddleware):
    """Django's, for people."""


class Authentication(_ForPeople, AuthenticationMiddleware):
    """Django's, for people."""


class Messages(_ForPeople, MessageMiddleware):
    """Django's, for people."""
