"""What surrounds every answer: who asks, fixed security headers, and the browser's machinery only where browsers go.

Owns whose word on a client's address and certificate is believed, and the line between people's pages and the paths of programs
(`MACHINES`), which know no session, cookie or message. A signing request is answered in a millisecond or two; sessions, CSRF and a
computed policy were a quarter of that.
"""

from __future__ import annotations

import ipaddress
import ssl
from base64 import b64decode
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.deprecation import MiddlewareMixin

from ca.api import client_certificates

MACHINES = ("/api/", "/log/", "/ocsp", "/crl/", "/livez", "/readyz", "/metrics")
_CHUNK, _DRAINED = 1 << 16, 1 << 26  # bytes
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


def client_certificate(get_response: _Next) -> _Next:
    """Put the TLS client's certificate (DER) where ca.api looks for it. Of a request that a trusted proxy forwards it is the one that the
    proxy names in settings.CLIENT_CERTIFICATE_HEADER, and never the proxy's own; of any other that of the connection, and the header
    is dropped. Before `client_address`, which changes whom the request seems to come from."""

    def middleware(request: HttpRequest) -> HttpResponse:
        meta, header = request.META, "HTTP_" + settings.CLIENT_CERTIFICATE_HEADER.upper().replace("-", "_")
        told, forwarded = meta.pop(header, ""), bool(settings.TRUSTED_PROXIES) and _is_proxy(address(meta.get("REMOTE_ADDR", "")))
        meta[client_certificates.SHOWN] = _told(told) if forwarded else _of_connection(meta.get("gunicorn.socket"))
        return get_response(request)

    return middleware


def bounded(get_response: _Next) -> _Next:
    """Refuse a form larger than settings.DATA_UPLOAD_MAX_MEMORY_SIZE before anything reads it: Django itself writes a file of any length to
    the disk, of whoever has seen one form. A body without a Content-Length is none (PEP 3333), and the machines' views bound their own.
    What may be a wrong file is thrown away first: a browser that is still sending shows no answer."""

    def middleware(request: HttpRequest) -> HttpResponse:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
        if length <= settings.DATA_UPLOAD_MAX_MEMORY_SIZE or request.path_info.startswith(MACHINES):
            return get_response(request)
        while length <= _DRAINED and request.read(_CHUNK):
            pass
        return render(request, "413.html", status=413)

    return middleware


def _of_connection(connection: object) -> bytes | None:
    return connection.getpeercert(binary_form=True) if isinstance(connection, ssl.SSLSocket) else None


def _told(text: str) -> bytes | None:
    """From RFC 9440 §2.1, base64 between colons, or from PEM escaped as in a URL, nginx's $ssl_client_escaped_cert. None for what is
    no certificate, as for none."""
    try:
        if text.startswith(":") and text.endswith(":"):
            return b64decode(text[1:-1], validate=True)
        return ssl.PEM_cert_to_DER_cert(unquote(text))
    except ValueError:
        return None


def _client(peer: str, forwarded: str) -> str:
    """Each proxy appended whom it had the request from. So it is read from the end, as far as those are trusted who wrote it;
    what is no address was written by nobody who knew."""
    client = peer
    for word in reversed(forwarded.split(",")):
        told = address(word.strip())
        if told is None or not _is_proxy(address(client)):
            break
        client = str(told)
    return client


def _is_proxy(peer: _Address | None) -> bool:
    """Whether it is believed whom it forwards."""
    return peer is not None and any(peer in proxies for proxies in settings.TRUSTED_PROXIES)


def address(text: str) -> _Address | None:
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
