"""What every list of the admin has in common: it shows and changes nothing, walks one index, counts no table, and asks before it acts.

Owns the form of an act on chosen rows: a page of its own that says what will happen and asks why, and the act by POST.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import label_for_field, quote, unquote
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db import models
from django.db.models import Q, QuerySet
from django.db.models.expressions import Combinable
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import urlencode
from django.utils.text import capfirst

from ca.api.base import is_plain
from ca.errors import Problem

from .roles import Right, may

REACH = 2_000  # rows that a list leads to; what lies beyond is found by searching
SHOWN = 50
WINDOW = 10_000  # of the newest rows, that a filter looks at

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

    def get_results(self, request: HttpRequest) -> None:
        """How many were found is said beside the search where something was searched for."""
        super().get_results(request)
        self.is_cut = self.result_count >= REACH
        if not self.query and not self.has_active_filters:
            self.full_result_count = self.result_count


class Newest(admin.SimpleListFilter):
    """Those of the newest WINDOW rows that are as `conditions` say: no filter walks a whole table, and none needs an index of its own."""

    conditions: Mapping[str, Q] = {}

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(name, name.replace("_", " ")) for name in self.conditions]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        name = self.value()
        if name is None:
            return queryset
        if name not in self.conditions:
            return queryset.none()
        order = self.order
        beyond = queryset.model._default_manager.order_by(f"-{order}").values_list(order, flat=True)[WINDOW : WINDOW + 1]
        newest = queryset.filter(**{f"{order}__gt": beyond[0]}) if beyond else queryset
        return newest.filter(self.conditions[name])

    order = "pk"


class Tool(NamedTuple):
    """A link on a row's page."""

    text: str
    address: str


class ReadOnly(_ModelAdmin):
    """To look at only. `keys` are the columns that a search compares, whole; each has an index. `about` says what is here and what can be
    done about it, `empty` what brings the first row, `shown_at` is the dashboard's page about a row."""

    about = ""
    empty = ""
    shown_at = ""
    paginator = BoundedPaginator
    show_full_result_count = False
    list_per_page, list_max_show_all = SHOWN, 0
    sortable_by = ()
    keys: Sequence[str] = ()
    search_fields = ("pk",)  # so that there is a search box; get_search_results does the searching
    actions: Sequence[str] | None = None
    filters: Sequence[type[Newest]] = ()
    show_facets = admin.ShowFacets.NEVER  # they count

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may(request.user, Right.SEE_ALL)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may(request.user, Right.SEE_ALL)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        title = capfirst(str(self.model._meta.verbose_name_plural))
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def history_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The log's events about it: Django's own history knows nothing, as nothing is changed here."""
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        query = QueryDict(mutable=True)
        query["subject"] = self.subject_of(row)
        return HttpResponseRedirect(f"{reverse('dashboard:log')}?{query.urlencode()}")

    def subject_of(self, row: Any) -> str:
        """What the events about a row are about."""
        return str(row.pk)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> HttpResponse:
        row = kwargs.get("obj")
        return super().render_change_form(request, {**context, "tools": row and self.tools(request, row)}, *args, **kwargs)

    def tools(self, request: HttpRequest, row: Any) -> list[Tool]:
        """Where one goes from a row's page: what may be done about it, and its events."""
        pages = [Tool("On the dashboard", reverse(f"dashboard:{self.shown_at}", args=[row.pk]))] if self.shown_at else []
        return [*pages, Tool("Events", reverse(f"admin:{self.prefix}_history", args=[quote(row.pk)]))]

    @property
    def prefix(self) -> str:
        """How the names of its addresses begin."""
        return _prefix(self.model)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in {each.parameter_name for each in self.filters}

    def get_list_filter(self, request: HttpRequest) -> Any:
        return list(self.filters)

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

    def by_key(self, term: str) -> Q:
        """The row whose primary key `term` is."""
        key = self.key_of(term)
        return Q(pk__in=()) if key is None else Q(pk=key)

    def key_of(self, text: str) -> Any:
        """A primary key as Python has it, None for what can be none."""
        try:
            return self.model._meta.pk.to_python(text)
        except ValidationError:
            return None


def _prefix(model: type[models.Model]) -> str:
    return f"{model._meta.app_label}_{model._meta.model_name}"


def page(request: HttpRequest, site: admin.AdminSite, template: str, title: str, model: type[models.Model], **context: Any) -> HttpResponse:
    back = reverse(f"admin:{_prefix(model)}_changelist")
    shown = {**site.each_context(request), "title": title, "opts": model._meta, "back": back, **context}
    response = TemplateResponse(request, f"admin/ca/{template}", shown)
    response["Cache-Control"] = "no-store"
    return response


# --- Acts


Carry = Callable[[Sequence[str], str, str, datetime], int]  # (keys, by, why, now) → how many it was done to


@dataclass(frozen=True, slots=True)
class Act:
    """What may be done to chosen rows. `carry` does it, as an event for each; `title` says it, `explanation` what it will bring. What is
    `final` cannot be undone."""

    right: Right
    title: str
    explanation: str
    carry: Carry
    final: bool = False


def why_field() -> forms.CharField:
    """What every act asks."""
    return forms.CharField(max_length=500, label="Why, for the log")


class ActForm(forms.Form):
    """To which rows, and why."""

    keys = forms.CharField(widget=forms.HiddenInput, max_length=64 * SHOWN)
    why = why_field()


class Acting(ReadOnly):
    """With `acts`, each by its name: an action of the list that leads to the page that asks."""

    acts: Mapping[str, Act] = {}
    actions: Sequence[str] | None = ()

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found: dict[str, Any] = super().get_actions(request)
        permitted = {name: act for name, act in self.acts.items() if may(request.user, act.right)}
        return found | {name: (partial(_chosen, name), name, act.title) for name, act in permitted.items()}

    def get_urls(self) -> list[URLPattern]:
        def own(name: str) -> URLPattern:
            return path(f"{name}/", self.admin_site.admin_view(partial(self.act_view, name=name)), name=f"{self.prefix}_{name}")

        return [*(own(name) for name in self.acts), *super().get_urls()]

    def tools(self, request: HttpRequest, row: Any) -> list[Tool]:
        permitted = [(name, act) for name, act in self.acts.items() if may(request.user, act.right)]
        query = urlencode({"key": row.pk})
        acts = [Tool(f"{act.title}…", f"{reverse(f'admin:{self.prefix}_{name}')}?{query}") for name, act in permitted]
        return [*acts, *super().tools(request, row)]

    def act_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """GET ?key=…: what would happen. POST: it is done, to those rows that are there."""
        act = self.acts[name]
        if not may(request.user, act.right):
            raise PermissionDenied
        if request.method != "POST":
            return self.ask(request, name, request.GET.getlist("key")[:SHOWN])
        form = ActForm(request.POST)
        if not form.is_valid():
            return self.ask(request, name, request.POST.get("keys", "").split()[:SHOWN], form)
        keys = [str(row.pk) for row in self.rows(form.cleaned_data["keys"].split()[:SHOWN])]
        try:
            done = act.carry(keys, request.user.get_username(), form.cleaned_data["why"], datetime.now(UTC))
        except Problem as problem:
            form.add_error(None, problem.detail)
            return self.ask(request, name, keys, form)
        messages.success(request, f"{act.title}: {done} of {len(keys)}.")
        return HttpResponseRedirect(reverse(f"admin:{self.prefix}_changelist"))

    def ask(self, request: HttpRequest, name: str, keys: Sequence[str], form: ActForm | None = None) -> HttpResponse:
        """The page that says what will happen."""
        rows = self.rows(keys)
        form = form or ActForm(initial={"keys": " ".join(str(row.pk) for row in rows)})
        context = {"act": self.acts[name], "form": form, "rows": [self._told(row) for row in rows], "columns": self._labels()}
        here = reverse(f"admin:{self.prefix}_{name}")
        return page(request, self.admin_site, "act.html", self.acts[name].title, self.model, here=here, **context)

    def rows(self, keys: Sequence[str]) -> Sequence[models.Model]:
        """Those of the keys that there are."""
        found = [key for each in keys if is_plain(each) and (key := self.key_of(each)) is not None]
        return list(self.model._default_manager.filter(pk__in=found))

    def _labels(self) -> list[str]:
        return [str(label_for_field(str(name), self.model, self)) for name in self.list_display]

    def _told(self, row: models.Model) -> list[Any]:
        return [getattr(self, name)(row) if hasattr(self, name) else getattr(row, name) for name in map(str, self.list_display)]


def _chosen(name: str, model_admin: Acting, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
    return model_admin.ask(request, name, [str(key) for key in queryset.values_list("pk", flat=True)[:SHOWN]])
