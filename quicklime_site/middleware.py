"""What surrounds every answer: who asks, fixed security headers, and the browser's machinery only where browsers go.

Owns whose word on a client's address is believed, and the line between people's pages and the paths of programs (`MACHINES`),
which know no session, cookie or message. A signing request is answered in a millisecond or two; sessions, CSRF and a computed
policy were a quarter of that.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

MACHINES = ("/api/", "/log/", "/ocsp", "/crl/", "/livez", "/readyz")
_Next = Callable[[HttpRequest], HttpResponse]
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def client_address(get_response: _Next) -> _Next:
    """Make REMOTE_ADDR the client's address where settings.TRUSTED_PROXIES forwarded the request. From everybody else the
    header X-Forwarded-For is a client's own word, and passed over."""
    if not settings.TRUSTED_PROXIES:
        raise MiddlewareNotUsed

    def middleware(request: HttpRequest) -> HttpResponse:
        meta = request.META
        meta["REMOTE_ADDR"] = _client(meta.get("REMOTE_ADDR", ""), meta.get("HTTP_X_FORWARDED_FOR", ""))
        return get_response(request)

    return middleware


def _client(peer: str, forwarded: str) -> str:
    """Each proxy appended whom it had the request from. So it is read from the end, as far as those are trusted who wrote it;
    what is no address was written by nobody who knew."""
    client = peer
    for word in reversed(forwarded.split(",")):
        known, told = _address(client), _address(word.strip())
        if known is None or told is None or not any(known in proxies for proxies in settings.TRUSTED_PROXIES):
            break
        client = str(told)
    return client


def _address(text: str) -> _Address | None:
    """As the client has it: an IPv4 address that came over an IPv6 socket is itself."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


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
