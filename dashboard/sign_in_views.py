"""The pages of signing in by name and password, and of changing that password.

Owns what these two do beyond allauth's: other ways beside it, the page that says why somebody did not get in, and that only who has a
password here changes it here.
"""

from __future__ import annotations

from typing import Any

from allauth.account.views import LoginView, PasswordChangeView
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.utils.decorators import method_decorator

from .vouched import NotAsked, NotSignedIn


class SignIn(LoginView):  # type: ignore[misc]  # allauth has no types
    """With the other ways beside it, where there are any."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_context_data(**kwargs), "company": settings.OIDC, "directory": settings.LDAP}

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            answer: HttpResponseBase = super().post(request, *args, **kwargs)
        except NotSignedIn as reason:
            status = 503 if isinstance(reason, NotAsked) else 403
            return render(request, "dashboard/not_signed_in.html", {"reason": str(reason)}, status=status)
        return answer


@method_decorator(login_required, name="dispatch")
class ChangePassword(PasswordChangeView):  # type: ignore[misc]
    """For accounts that have one here."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not (isinstance(request.user, User) and request.user.has_usable_password()):
            raise PermissionDenied
        answer: HttpResponseBase = super().dispatch(request, *args, **kwargs)
        return answer
