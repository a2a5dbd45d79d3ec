"""The two addresses of a sign-in by the identity provider: the way there, and the way back.

Owns what is kept in the session meanwhile, and the page that says why somebody did not get in, with the other way beside it.
"""

from __future__ import annotations

import hmac
from dataclasses import asdict
from datetime import UTC, datetime
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth import login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from . import oidc
from .oidc import Started
from .oidc_settings import Provider
from .vouched import NotSignedIn

_KEPT, _LONGEST = "oidc", 2_000  # the session's key; characters of a code or state


@require_GET
@never_cache
def begin(request: HttpRequest) -> HttpResponse:
    """To the provider."""
    wanted = request.GET.get("next", "")
    inside = url_has_allowed_host_and_scheme(wanted, allowed_hosts=None, require_https=request.is_secure())
    try:
        url, begun = oidc.start(_provider(), _callback(), wanted if inside else reverse("dashboard:overview"))
    except NotSignedIn as reason:
        return _problem(request, reason)
    request.session[_KEPT] = asdict(begun)
    return HttpResponseRedirect(url)


@require_GET
@never_cache
def done(request: HttpRequest) -> HttpResponse:
    """From the provider. That is another site, from which a browser brings no strict cookie along; so this page has it come once more,
    from here."""
    provider = _provider()
    if _KEPT not in request.session and "again" not in request.GET:
        return render(request, "dashboard/oidc_again.html", {"url": f"?{urlencode({**_given(request), 'again': '1'})}"})
    try:
        begun = _begun(request)
        user = oidc.finish(provider, begun, _given(request)["code"], _callback(), datetime.now(UTC))
    except NotSignedIn as reason:
        return _problem(request, reason)
    login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
    return HttpResponseRedirect(begun.next)


def _begun(request: HttpRequest) -> Started:
    """What was kept, which counts once, and only for the answer to it. Raises NotSignedIn."""
    kept, given = request.session.pop(_KEPT, None), _given(request)
    if kept is None or not hmac.compare_digest(kept["state"].encode(), given["state"].encode()):
        raise NotSignedIn("This sign-in did not begin in this browser, or was answered before.")
    if not given["code"]:
        raise NotSignedIn("The identity provider did not let you in.")
    return Started(**kept)


def _given(request: HttpRequest) -> dict[str, str]:
    return {name: request.GET.get(name, "")[:_LONGEST] for name in ("code", "state")}


def _callback() -> str:
    return f"{settings.PUBLIC_URL}{reverse('oidc_done')}"


def _provider() -> Provider:
    if settings.OIDC is None:
        raise Http404
    provider: Provider = settings.OIDC
    return provider


def _problem(request: HttpRequest, reason: NotSignedIn) -> HttpResponse:
    return render(request, "dashboard/not_signed_in.html", {"reason": str(reason), "title": _provider().title}, status=403)
