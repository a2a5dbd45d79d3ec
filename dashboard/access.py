"""Who may see which page, and whose things on it.

Owns the decorators that every page has, which name the rights (dashboard.roles) that open it, and the question whose things a visitor
sees. Deny is what is left: a view without one of them is found by a test.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from . import roles
from .roles import Right

View = Callable[..., HttpResponseBase]


def page(*rights: Right) -> Callable[[View], View]:
    """For whoever has one of `rights`, by GET and HEAD only: a page shows and does nothing."""
    return lambda view: require_safe(never_cache(_guarded(view, rights)))


def form(*rights: Right) -> Callable[[View], View]:
    """For whoever has one of `rights`; by POST, too, which Django's CSRF check guards."""
    return lambda view: require_http_methods(["GET", "HEAD", "POST"])(never_cache(_guarded(view, rights)))


def _guarded(view: View, rights: tuple[Right, ...]) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            to_login = redirect_to_login(request.get_full_path(), "account_login")
            return (
                to_login if "HX-Request" not in request.headers else HttpResponse(status=204, headers={"HX-Redirect": to_login["Location"]})
            )
        if roles.may(request.user, *rights):
            return view(request, *args, **kwargs)
        return not_permitted(request)

    guarded.rights = rights  # type: ignore[attr-defined]
    return guarded


def not_permitted(request: HttpRequest) -> HttpResponse:
    """For whoever is signed in: where a second factor is all that is lacking, to the page that adds one. Raises PermissionDenied."""
    if roles.standing(request.user).lacks_factor:
        return redirect("mfa_index")
    raise PermissionDenied


def own(request: HttpRequest) -> frozenset[str] | None:
    """The owners whose things this visitor may see, and no others; None: everybody's."""
    return None if roles.may(request.user, Right.SEE_ALL) else roles.owners(request.user)


def check_own(request: HttpRequest, owner: str) -> None:
    """Raises Http404 for what is not the visitor's to see: whether there is such a thing is not said either."""
    mine = own(request)
    if mine is not None and owner not in mine:
        raise Http404


def rights(request: HttpRequest) -> dict[str, Any]:
    """For templates: `may.see_all` and the like, so that no page leads where its visitor may not go, and `lacks_factor`."""
    user = getattr(request, "user", None)
    found = roles.standing(user) if user else roles.NOBODY
    return {"may": {right.replace("-", "_"): True for right in found.rights}, "lacks_factor": found.lacks_factor}
