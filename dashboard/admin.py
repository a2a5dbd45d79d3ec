"""Django's admin over what the CA has: to look everywhere, and three acts, each through its one door in ca.

Owns the registrations. Certificates, requests, issuers and the log can be neither added, changed nor deleted here, whoever asks and at
whichever address. An act asks why on a page of its own, lists what will happen, is done by POST, and is an event that names the
operator. Lists never count or sort a table: they walk one index, and search by key.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import models
from django.db.models import Q, QuerySet
from django.db.models.expressions import Combinable
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule

from ca import mass_revocation, tokens
from ca.api import representations
from ca.api.base import is_plain
from ca.errors import Problem
from ca.models import Certificate, CertificateName, Issuer, Request, Token
from ca.pki.reasons import PERMITTED
from ca.policy import ACTIONS
from ca.profiles import LEAF
from ca.selections import Selection
from eventlog.models import Event

REACH = 2_000  # rows that a list leads to; what lies beyond is found by searching
SHOWN = 50
for _model in (PeriodicTask, IntervalSchedule, CrontabSchedule, SolarSchedule, ClockedSchedule):
    admin.site.unregister(_model)  # the schedule is quicklime_site.schedule's; a row changed here would be lost, or stop the CA


if TYPE_CHECKING:
    _Paginator = Paginator[Any]
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _Paginator, _ModelAdmin = Paginator, admin.ModelAdmin


class BoundedPaginator(_Paginator):
    """Counts no further than REACH."""

    @cached_property
    def count(self) -> int:
        assert isinstance(self.object_list, QuerySet)
        return len(self.object_list.values_list("pk", flat=True)[:REACH])


class FixedOrder(ChangeList):
    """In the order of the model's index, whatever the address asks."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str | Combinable]:
        return list(self.model_admin.ordering or ())


class ReadOnly(_ModelAdmin):
    """To look at only. `keys` are the columns that a search compares, whole; each has an index."""

    paginator = BoundedPaginator
    show_full_result_count = False
    list_per_page, list_max_show_all = SHOWN, 0
    sortable_by = ()
    keys: Sequence[str] = ()
    search_fields = ("pk",)  # so that there is a search box; get_search_results does the searching
    actions: Sequence[str] | None = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return FixedOrder

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        return (queryset.filter(self.matching(term)) if is_plain(term) else queryset.none()), False

    def matching(self, term: str) -> Q:
        """What a search for `term` compares."""
        found = Q(pk__in=())
        for key in self.keys:
            found |= Q(**{key: term})
        return found


def _page(
    request: HttpRequest, site: admin.AdminSite, template: str, title: str, model: type[models.Model], **context: Any
) -> HttpResponse:
    shown = {**site.each_context(request), "title": title, "opts": model._meta, **context}
    response = TemplateResponse(request, f"admin/ca/{template}", shown)
    response["Cache-Control"] = "no-store"
    return response


# --- Certificates


class RevocationForm(forms.Form):
    """Which certificates, and the two things that only a person can say."""

    serials = forms.CharField(widget=forms.HiddenInput, max_length=41 * SHOWN)
    reason = forms.ChoiceField(choices=[(reason, reason) for reason in PERMITTED["operator"]], label="Reason, as relying parties see it")
    why = forms.CharField(max_length=500, label="Why, for the log")

    def clean_serials(self) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(self.cleaned_data["serials"].split()))
        if not Certificate.objects.filter(serial__in=found).exists():
            raise forms.ValidationError("No certificate has one of these serial numbers.")
        return found


@admin.register(Certificate)
class CertificateAdmin(ReadOnly):
    ordering = ("-log_position",)
    list_display = ("first_name", "owner", "service", "node", "profile", "not_after", "revoked_at", "reason", "serial", "page")
    keys = ("serial", "fingerprint", "owner", "service")
    search_help_text = "A name, serial number, fingerprint, owner or service, whole"
    fields = (
        "serial", "issuer", "request", "token", "owner", "profile", "service", "node", "names", "not_before", "not_after", "key_type",
        "fingerprint", "replaces", "replaced_by", "revoked_at", "reason", "log_position", "page",
    )  # fmt: skip
    readonly_fields = ("page",)
    actions = ("revoke",)

    def matching(self, term: str) -> Q:
        named = CertificateName.objects.filter(name=term.lower()).order_by("-log_position").values_list("log_position", flat=True)
        return super().matching(representations.full(term) if len(term) > 30 else term) | Q(log_position__in=list(named[:REACH]))

    @admin.display(description="name")
    def first_name(self, row: Certificate) -> str:
        return str(row.names[0]) if row.names else ""

    @admin.display(description="page")
    def page(self, row: Certificate) -> SafeString:
        return format_html('<a href="{}">decoded, with proof</a>', reverse("dashboard:certificate", args=[row.serial]))

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ca.change_certificate")

    @admin.action(description="Revoke the selected certificates", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Certificate]) -> HttpResponse:
        """Leads to the page that asks: nothing is done here."""
        return self._ask(request, list(queryset.values_list("serial", flat=True)[:SHOWN]))

    def get_urls(self) -> list[URLPattern]:
        own = path("revoke/", self.admin_site.admin_view(self.revoke_view), name="ca_certificate_revoke")
        return [own, *super().get_urls()]

    def revoke_view(self, request: HttpRequest) -> HttpResponse:
        """GET ?serial=…: what would happen. POST: it happens, as an order in the log and all that it revokes."""
        if not self.has_revoke_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return self._ask(request, [text for text in request.GET.getlist("serial")[:SHOWN] if is_plain(text)])
        form = RevocationForm(request.POST)
        if not form.is_valid():
            return self._ask(request, request.POST.get("serials", "").split()[:SHOWN], form)
        return self._revoke(request, form)

    def _ask(self, request: HttpRequest, serials: Sequence[str], form: RevocationForm | None = None) -> HttpResponse:
        rows = Certificate.objects.filter(serial__in=[each for each in serials if is_plain(each)]).order_by("-log_position")
        form = form or RevocationForm(initial={"serials": " ".join(row.serial for row in rows)})
        context = {"form": form, "rows": rows, "now": datetime.now(UTC)}
        return _page(request, self.admin_site, "revoke.html", "Revoke certificates", Certificate, **context)

    def _revoke(self, request: HttpRequest, form: RevocationForm) -> HttpResponse:
        now, by = datetime.now(UTC), request.user.get_username()
        selection = Selection(serials=form.cleaned_data["serials"])
        try:
            order = mass_revocation.order(selection, form.cleaned_data["reason"], form.cleaned_data["why"], by, now)
        except Problem as problem:
            form.add_error(None, problem.detail)
            return self._ask(request, selection.serials, form)
        done = mass_revocation.carry_out(order, by, lambda: datetime.now(UTC))
        changed = f", {done.escalated} now have keyCompromise as their reason" if done.escalated else ""
        messages.success(request, f"Order {order}: {done.revoked} revoked{changed}.")
        return HttpResponseRedirect(reverse("admin:ca_certificate_changelist"))


@admin.register(Request)
class RequestAdmin(ReadOnly):
    ordering = ("-id",)
    list_display = ("id", "state", "owner", "service", "node", "profile", "serial", "created_at", "updated_at")
    search_help_text = "A request's id, whole"
    fields = (
        "id", "state", "token", "owner", "profile", "service", "node", "not_after", "replaces", "idempotency_key", "created_at",
        "updated_at", "serial", "issuer", "fixed", "error",
    )  # fmt: skip

    def matching(self, term: str) -> Q:
        try:
            return Q(pk=Request._meta.pk.to_python(term))
        except forms.ValidationError:
            return Q(pk__in=())


@admin.register(Issuer)
class IssuerAdmin(ReadOnly):
    ordering = ("position",)
    list_display = ("name", "kind", "parent", "not_before", "not_after", "fingerprint")
    keys = ("name", "fingerprint")
    search_help_text = "A name or fingerprint, whole"
    fields = ("name", "kind", "parent", "fingerprint", "not_before", "not_after", "position")


@admin.register(Event)
class EventAdmin(ReadOnly):
    ordering = ("-position",)
    list_display = ("position", "time", "type", "subject")
    search_help_text = "A position, or a subject, whole"
    fields = ("position", "time", "type", "subject", "text")
    readonly_fields = ("text",)

    def matching(self, term: str) -> Q:
        return Q(position=int(term)) if term.isascii() and term.isdigit() and len(term) <= 18 else Q(subject=term)

    @admin.display(description="event")
    def text(self, row: Event) -> str:
        return bytes(row.body).decode()


# --- Tokens


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


class TokenForm(forms.Form):
    """What a new token may do. Lists are separated by spaces or commas; "*" is all that the CA itself permits."""

    owner = forms.CharField(max_length=200, help_text="Whose certificates it makes and sees, for example team-payments.")
    label = forms.CharField(max_length=100, help_text="What it is for.")
    actions = forms.MultipleChoiceField(choices=[(name, name) for name in ACTIONS], initial=["issue", "read"])
    profiles = forms.MultipleChoiceField(choices=[(name, name) for name in LEAF], initial=["server"])
    names = forms.CharField(initial="*", max_length=2000, help_text="Zones below which it may name hosts.")
    services = forms.CharField(initial="*", max_length=2000, help_text="Services it may name.")
    wildcards = forms.BooleanField(required=False, help_text="It may name *.zone.")
    days = forms.IntegerField(
        min_value=1, max_value=36_500, initial=365, required=False, help_text="It ends after so many days; empty: never."
    )

    def scope(self, now: datetime) -> tokens.Scope:
        """As ca.tokens takes it."""
        said = self.cleaned_data
        return tokens.Scope(
            actions=said["actions"], profiles=said["profiles"], names=_words(said["names"]), services=_words(said["services"]),
            wildcards=said["wildcards"], expires_at=now + timedelta(days=said["days"]) if said["days"] else None,
        )  # fmt: skip


class WhyForm(forms.Form):
    """Why tokens are revoked."""

    tokens = forms.CharField(widget=forms.HiddenInput, max_length=33 * SHOWN)
    why = forms.CharField(max_length=500, label="Why, for the log")


@admin.register(Token)
class TokenAdmin(ReadOnly):
    ordering = ("-position",)
    list_display = ("label", "owner", "id", "actions_", "names", "profiles", "services", "expires_at", "revoked_at")
    keys = ("id", "owner", "label")
    search_help_text = "An id, owner or label, whole"
    fields = ("id", "label", "owner", "actions_", "names", "profiles", "services", "wildcards", "uris", "ips", "expires_at", "revoked_at")
    readonly_fields = ("actions_",)
    actions = ("revoke",)

    @admin.display(description="actions")
    def actions_(self, row: Token) -> str:
        return ", ".join(row.actions)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ca.change_token")

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("create/", wrap(self.create_view), name="ca_token_create"),
            path("revoke/", wrap(self.revoke_view), name="ca_token_revoke"),
        ]
        return [*own, *super().get_urls()]

    def create_view(self, request: HttpRequest) -> HttpResponse:
        """The form, and after a POST the token itself, once: it is in that answer and nowhere else."""
        if not request.user.has_perm("ca.add_token"):
            raise PermissionDenied
        form, now, secret = TokenForm(request.POST or None), datetime.now(UTC).replace(microsecond=0), None
        if request.method == "POST" and form.is_valid():
            owner, label = form.cleaned_data["owner"], form.cleaned_data["label"]
            _, secret = tokens.create(label, owner, form.scope(now), now, by=request.user.get_username())
        return _page(request, self.admin_site, "token.html", "Create a token", Token, form=form, secret=secret)

    @admin.action(description="Revoke the selected tokens", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Token]) -> HttpResponse:
        """Leads to the page that asks: nothing is done here."""
        return self._ask(request, WhyForm(initial={"tokens": " ".join(row.id for row in queryset[:SHOWN])}), queryset)

    def revoke_view(self, request: HttpRequest) -> HttpResponse:
        """POST: they are revoked, each an event. A GET has nothing to ask about, and does nothing."""
        if not self.has_revoke_permission(request):
            raise PermissionDenied
        form = WhyForm(request.POST)
        rows = Token.objects.filter(id__in=[each for each in request.POST.get("tokens", "").split()[:SHOWN] if is_plain(each)])
        if request.method != "POST" or not form.is_valid():
            return self._ask(request, form, rows)
        for row in rows:
            tokens.revoke(row.id, datetime.now(UTC), by=request.user.get_username(), why=form.cleaned_data["why"])
        messages.success(request, f"{len(rows)} revoked: the next call with any of them is refused.")
        return HttpResponseRedirect(reverse("admin:ca_token_changelist"))

    def _ask(self, request: HttpRequest, form: WhyForm, rows: QuerySet[Token]) -> HttpResponse:
        return _page(request, self.admin_site, "revoke_tokens.html", "Revoke tokens", Token, form=form, rows=rows)
