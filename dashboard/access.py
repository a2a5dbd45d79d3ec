"""Who may see the pages: people of the staff who signed in. Nothing else opens them, and nothing here changes anything.

Owns the decorators that every page has. Deny is what is left: a view without one of them is found by a test.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

View = Callable[..., HttpResponseBase]


def page(view: View) -> View:
    """For staff, by GET and HEAD only: a page shows and does nothing."""
    return require_safe(never_cache(_for_staff(view)))


def form(view: View) -> View:
    """For staff; by POST, too, which Django's CSRF check guards."""
    return require_http_methods(["GET", "HEAD", "POST"])(never_cache(_for_staff(view)))


def _for_staff(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path(), "dashboard:login")
        if not (request.user.is_active and request.user.is_staff):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    guarded.for_staff = True  # type: ignore[attr-defined]
    return guarded
