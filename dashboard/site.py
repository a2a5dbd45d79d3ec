"""The admin site: for whoever sees everything anyway, through the one sign-in.

Owns who may enter, and the page that shows the rules with where they come from, as none of them is changed here. What can be done is for
each act to ask.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.text import capfirst

from ca import issuance
from ca.models import Activation
from ca.profiles import PROFILES, Profile

from . import access, roles
from .admin_base import ReadOnly
from .roles import ROLES, Right


class Site(AdminSite):
    """Django's, with our roles in place of `is_staff`. It has no "view site": the dashboard is a link of its own."""

    site_url = None
    enable_nav_sidebar = False

    def has_permission(self, request: HttpRequest) -> bool:
        return roles.may(request.user, Right.SEE_ALL)

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """GET: what there is, in the order of dashboard.admin, each with what can be done about it."""
        lists = [
            (capfirst(str(model._meta.verbose_name_plural)), reverse(f"admin:{each.prefix}_changelist"), each.about)
            for model, each in self._registry.items()
            if isinstance(each, ReadOnly)
        ]
        return super().index(request, {"title": "Administration", "lists": lists, **(extra_context or {})})

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:  # type: ignore[override]
        """Leads to the one place where somebody changes their password."""
        return HttpResponseRedirect(reverse("account_change_password"))

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Leads to the dashboard's; whoever is signed in and may not enter is told so."""
        if self.has_permission(request):
            return HttpResponseRedirect(reverse("admin:index"))
        if request.user.is_authenticated:
            return access.not_permitted(request)
        return redirect_to_login(request.GET.get("next") or reverse("admin:index"), "account_login")

    def get_urls(self) -> list[URLPattern | URLResolver]:
        return [path("policy/", self.admin_view(self.policy), name="policy"), *super().get_urls()]

    def policy(self, request: HttpRequest) -> HttpResponse:
        """GET policy/: the profiles, what this CA issues for at all, and the roles."""
        issuers = dict(Activation.objects.values_list("profile", "issuer"))
        context = {
            **self.each_context(request), "title": "Policy", "limits": _limits(),
            "profiles": [(profile, _rules(profile, issuers.get(profile.name, "none"))) for profile in PROFILES.values()],
            "rights": [(right, [role for role, opens in ROLES.items() if right in opens]) for right in Right],
        }  # fmt: skip
        return TemplateResponse(request, "admin/policy.html", context)


Told = tuple[str, str, str]  # what, how it is, and where that comes from


def _limits() -> list[Told]:
    here = issuance.site()
    return [
        ("DNS zones", ", ".join(here.zones), "QUICKLIME_ZONES"),
        ("IP ranges", ", ".join(map(str, here.ip_ranges)) or "none", "QUICKLIME_IP_RANGES"),
        ("SPIFFE trust domains", ", ".join(here.trust_domains) or "none", "QUICKLIME_SPIFFE_TRUST_DOMAINS"),
        ("Profiles that need approval", ", ".join(here.approved_profiles) or "none", "QUICKLIME_APPROVAL"),
        ("A request waits for approval", f"{settings.APPROVAL_TIME / timedelta(hours=1):g} hours", "QUICKLIME_APPROVAL_HOURS"),
    ]


def _rules(profile: Profile, issuer: str) -> list[Told]:
    code = f"ca/profiles.py, version {profile.version}"
    channels = settings.STATUS_CHANNELS[profile.name]
    changed = "QUICKLIME_STATUS_CHANNELS" if channels != profile.channels else code
    return [
        ("signed by", issuer if profile.requestable else "the issuer that it is for", "the log: issuer.activated"),
        ("for", ", ".join(profile.extended_key_usage) or "certificate authorities", code),
        ("key usage", ", ".join((*profile.key_usage, *(f"{usage} (RSA)" for usage in profile.rsa_key_usage))), code),
        ("lives", f"{_days(profile.default)}, at most {_days(profile.maximum)}", code),
        ("names", ", ".join(profile.name_kinds) or "none", code),
        ("wildcards", "where the token permits them" if profile.wildcards else "never", code),
        ("keys", ", ".join(profile.key_kinds), code),
        ("renewal", f"until {_days(profile.renewal_grace)} after its end{'' if profile.may_reuse_key else ', with another key'}", code),
        ("status", ", ".join(channels) or "is not published", changed),
        ("asked for", "by tokens that permit it" if profile.requestable else "by the CA itself only", code),
        ("approval", _approval(profile), "QUICKLIME_APPROVAL, token.created"),
    ]


def _days(time: timedelta) -> str:
    return f"{time.days} day{'' if time.days == 1 else 's'}"


def _approval(profile: Profile) -> str:
    if not profile.requestable:
        return "none: nobody asks for it"
    return "needed" if profile.name in settings.APPROVAL else "as the token says"
