"""Django's admin over what the CA has: to look everywhere, and three acts, each through its one door in ca.

Owns the registrations. Certificates, requests, issuers and the log can be neither added, changed nor deleted here, whoever asks and at
whichever address. An act asks why on a page of its own, lists what will happen, is done by POST, and is an event that names the
operator. Lists never count or sort a table: they walk one index, and search by key.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule

from ca import mass_replacement, mass_revocation, tokens
from ca.api import representations
from ca.api.base import is_plain
from ca.errors import Problem
from ca.models import Approval, Certificate, CertificateName, Issuer, Replacement, Request, State, Token
from ca.pki.reasons import KEY_COMPROMISE, PERMITTED
from ca.policy import ACTIONS, ALWAYS, AS_PROFILE
from ca.profiles import LEAF
from ca.selections import Selection
from eventlog.models import Event

from . import accounts, operations
from .admin_base import REACH, SHOWN, Act, Acting, Newest, ReadOnly, Tool, page, why_field
from .models import Contact, Reminder, Scope
from .roles import Right, Role, may

# The schedule is quicklime_site.schedule's; a row changed here would be lost, or stop the CA. Who has which role, dashboard.accounts',
# and second factors their holders'.
for _model in (PeriodicTask, IntervalSchedule, CrontabSchedule, SolarSchedule, ClockedSchedule, User, Group, EmailAddress, Authenticator):
    admin.site.unregister(_model)


def listed(name: str) -> Callable[[Any, Any], str]:
    """A column that has the words of the field `name`, which is a list."""

    @admin.display(description=name)
    def column(_: Any, row: Any) -> str:
        return ", ".join(map(str, getattr(row, name)))

    return column


def laid_out(data: Any) -> SafeString:
    """JSON to read."""
    return format_html("<pre>{}</pre>", json.dumps(data, indent=2, ensure_ascii=False))


# --- Certificates


class RevocationForm(forms.Form):
    """Which certificates, and the two things that only a person can say."""

    serials = forms.CharField(widget=forms.HiddenInput, max_length=41 * SHOWN)
    reason = forms.ChoiceField(choices=[(reason, reason) for reason in PERMITTED["operator"]], label="Reason, as relying parties see it")
    why = why_field()

    def clean_serials(self) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(self.cleaned_data["serials"].split()))
        if not Certificate.objects.filter(serial__in=found).exists():
            raise forms.ValidationError("No certificate has one of these serial numbers.")
        return found


def _positions(rows: QuerySet[Any]) -> QuerySet[Any, int]:
    """Newest first."""
    return rows.order_by("-log_position").values_list("log_position", flat=True)


class Standing(Newest):
    title, parameter_name, order = "standing, of the newest 10,000", "standing", "log_position"
    conditions = {
        "revoked": Q(revoked_at__isnull=False),
        "replaced": Q(replaced_by__isnull=False),
        "to_be_replaced": Q(replacement__isnull=False, replaced_by=None, revoked_at=None),
    }


class OfProfile(Newest):
    title, parameter_name, order = "profile, of the newest 10,000", "profile", "log_position"
    conditions = {name: Q(profile=name) for name in LEAF}


@admin.register(Certificate)
class CertificateAdmin(Acting):
    about = "What was issued, found by whole values. Revoke, or have the OCSP response signed again."
    shown_at = "certificate"
    empty = "No certificate yet. A token's holder asks for the first: the dashboard's first page has the commands."
    ordering = ("-log_position",)
    list_display = ("first_name", "service", "node", "owner", "profile", "not_after", "revoked_at", "reason", "serial")
    filters = (Standing, OfProfile)
    keys = ("serial", "fingerprint", "owner", "service")
    search_help_text = "A name, serial number, fingerprint, owner or service, whole"
    fields = (
        "serial", "issuer", "request", "token", "owner", "profile", "service", "node", "names_", "not_before", "not_after", "key_type",
        "fingerprint", "replaces", "replaced_by", "revoked_at", "reason", "log_position",
    )  # fmt: skip
    readonly_fields = ("names_",)
    names_ = listed("names")
    actions = ("revoke",)
    acts = {
        "resign": Act(
            Right.OPERATE, "Sign the status again",
            "The OCSP responses of these certificates are signed anew within some seconds, instead of when they are due. What is revoked "
            "stays revoked; CRLs are not touched.", operations.resign,
        )
    }  # fmt: skip

    def matching(self, term: str) -> Q:
        """From the newest one on: PostgreSQL may walk the list from its end until it has met a page of a frequent owner's, and of one who
        asked long ago that would be all there are."""
        named = list(_positions(CertificateName.objects.filter(name=term.lower()))[:REACH])
        whole = representations.full(term) if len(term) > 30 else term
        newest = [position for key in self.keys for position in _positions(Certificate.objects.filter(**{key: whole}))[:1]]
        found = super().matching(whole) | Q(log_position__in=named)
        return found & Q(log_position__lte=max([*newest, *named], default=0))

    @admin.display(description="name")
    def first_name(self, row: Certificate) -> str:
        return str(row)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return may(request.user, Right.OPERATE)

    @admin.action(description="Revoke the selected certificates", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Certificate]) -> HttpResponse:
        """Leads to the page that asks: nothing is done here."""
        return self._ask(request, list(queryset.values_list("serial", flat=True)[:SHOWN]))

    def tools(self, request: HttpRequest, row: Certificate) -> list[Tool]:
        revoke = Tool("Revoke…", f"{reverse('admin:ca_certificate_revoke')}?serial={row.serial}")
        return [*([revoke] if self.has_revoke_permission(request) and row.revoked_at is None else []), *super().tools(request, row)]

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
        return page(request, self.admin_site, "revoke.html", "Revoke certificates", Certificate, **context)

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


class InState(Newest):
    title, parameter_name, order = "state, of the newest 10,000", "state", "id"
    conditions = {state.value: Q(state=state) for state in State}


@admin.register(Request)
class RequestAdmin(Acting):
    about = "What was asked for, and how far each has come. Have one tried again."
    shown_at = "request"
    empty = "No request yet. One comes about when a token's holder, or a node that renews, asks for a certificate."
    ordering = ("-id",)
    list_display = ("state", "service", "node", "owner", "profile", "id", "serial", "created_at", "updated_at")
    list_display_links = ("state", "id")
    filters = (InState,)
    search_help_text = "A request's id, whole"
    fields = (
        "id", "state", "token", "owner", "profile", "service", "node", "not_after", "replaces", "idempotency_key", "created_at",
        "updated_at", "decide_by", "serial", "issuer", "fixed_", "error_",
    )  # fmt: skip
    readonly_fields = ("fixed_", "error_")
    acts = {
        "retry": Act(
            Right.OPERATE, "Try again",
            "The pipeline looks at these requests at once, each from the step where it stands; every rule is asked again. What was issued, "
            "was rejected or waits for an approver stays as it is.", operations.retry,
        )
    }  # fmt: skip

    def matching(self, term: str) -> Q:
        return self.by_key(term)

    @admin.display(description="fixed by validation")
    def fixed_(self, row: Request) -> str:
        return laid_out(row.fixed) if row.fixed else "nothing yet"

    @admin.display(description="why it was rejected")
    def error_(self, row: Request) -> str:
        return f"{row.error['code']}: {row.error['detail']}" if row.error else "it was not"


@admin.register(Approval)
class ApprovalAdmin(ReadOnly):
    about = "Which requests a person had to decide about, who did, and why. They decide on the dashboard."
    shown_at = "approval"
    empty = "Nothing waited for approval yet. A request does if its profile is one of QUICKLIME_APPROVAL, or its token was made so."
    ordering = ("-position",)
    list_display = ("decision", "by", "decided_at", "why", "cause", "request")
    list_display_links = ("decision", "request")
    search_help_text = "A request's id, whole"
    fields = ("request", "cause", "decision", "by", "why", "decided_at", "position")
    readonly_fields = ("decision",)

    def matching(self, term: str) -> Q:
        return self.by_key(term)

    @admin.display(description="decision")
    def decision(self, row: Approval) -> str:
        return {None: "waits", True: "approved", False: "refused"}[row.granted]


@admin.register(Issuer)
class IssuerAdmin(ReadOnly):
    about = "Root and intermediates. Their keys are not here: a ceremony makes them."
    shown_at = "issuer"
    empty = "No issuer yet: manage.py init_ca makes the first."
    ordering = ("position",)
    list_display = ("name", "kind", "parent", "not_before", "not_after", "fingerprint")
    keys = ("name", "fingerprint")
    search_help_text = "A name or fingerprint, whole"
    fields = ("name", "kind", "parent", "fingerprint", "not_before", "not_after", "position")


class OfType(Newest):
    title, parameter_name, order = "type, of the newest 10,000", "type", "position"
    conditions = {
        kind: Q(type=kind)
        for kind in ("operator.acted", "account.changed", "token.created", "token.revoked", "revocation.ordered", "replacement.ordered",
                     "approval.granted", "approval.refused", "certificate.revoked", "request.rejected")
    }  # fmt: skip


@admin.register(Event)
class EventAdmin(ReadOnly):
    about = "The log: all that ever happened here, as it was hashed and signed."
    shown_at = "event"
    empty = "The log is empty: the first event makes the root."
    ordering = ("-position",)
    list_display = ("position", "type", "time", "subject")
    filters = (OfType,)
    search_help_text = "A position, or a subject, whole"
    fields = ("position", "time", "type", "subject", "text")
    readonly_fields = ("text",)

    def matching(self, term: str) -> Q:
        return Q(position=int(term)) if term.isascii() and term.isdigit() and len(term) <= 18 else Q(subject=term)

    def subject_of(self, row: Event) -> str:
        return row.subject

    @admin.display(description="event")
    def text(self, row: Event) -> SafeString:
        return laid_out(json.loads(bytes(row.body)))


# --- Tokens


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


class TokenForm(forms.Form):
    """What a new token may do. Lists are separated by spaces or commas; "*" is all that the CA itself permits."""

    owner = forms.CharField(max_length=200, help_text="Whose certificates it makes and sees, for example team-payments.")
    label = forms.CharField(max_length=100, help_text="What it is for.")
    actions = forms.MultipleChoiceField(
        choices=[(name, name) for name in ACTIONS], initial=["issue", "read"], widget=forms.CheckboxSelectMultiple
    )
    profiles = forms.MultipleChoiceField(choices=[(name, name) for name in LEAF], initial=["server"], widget=forms.CheckboxSelectMultiple)
    names = forms.CharField(initial="*", max_length=2000, help_text="Zones below which it may name hosts.")
    services = forms.CharField(initial="*", max_length=2000, help_text="Services it may name.")
    wildcards = forms.BooleanField(required=False, help_text="It may name *.zone.")
    approval = forms.BooleanField(required=False, help_text="A person must approve each of its requests, whatever the profile.")
    days = forms.IntegerField(
        min_value=1, max_value=36_500, initial=365, required=False, help_text="It ends after so many days; empty: never."
    )

    def scope(self, now: datetime) -> tokens.Scope:
        """As ca.tokens takes it."""
        said = self.cleaned_data
        return tokens.Scope(
            actions=said["actions"], profiles=said["profiles"], names=_words(said["names"]), services=_words(said["services"]),
            wildcards=said["wildcards"], approval=ALWAYS if said["approval"] else AS_PROFILE,
            expires_at=now + timedelta(days=said["days"]) if said["days"] else None,
        )  # fmt: skip


@admin.register(Token)
class TokenAdmin(Acting):
    about = "Who may ask for what by the API. Create one, or revoke."
    empty = "No token yet: without one nobody asks for anything."
    ordering = ("-position",)
    list_display = ("label", "owner", "id", "actions_", "names_", "profiles_", "services_", "expires_at", "revoked_at")
    keys = ("id", "owner", "label")
    search_help_text = "An id, owner or label, whole"
    fields = (
        "id", "label", "owner", "actions_", "names_", "profiles_", "services_", "wildcards", "uris_", "ips_", "approval", "created_by",
        "expires_at", "revoked_at", "position",
    )  # fmt: skip
    readonly_fields = ("actions_", "names_", "profiles_", "services_", "uris_", "ips_")
    acts = {
        "revoke": Act(
            Right.REVOKE_TOKENS, "Revoke",
            "The next call with any of these is refused, and what they have queued is not signed. Certificates that they were given stay "
            "valid.", operations.revoke_tokens, final=True,
        )
    }  # fmt: skip

    actions_, names_, profiles_, services_, uris_, ips_ = map(listed, ("actions", "names", "profiles", "services", "uris", "ips"))

    def get_urls(self) -> list[URLPattern]:
        return [path("create/", self.admin_site.admin_view(self.create_view), name="ca_token_create"), *super().get_urls()]

    def create_view(self, request: HttpRequest) -> HttpResponse:
        """The form, and after a POST the token itself, once: it is in that answer and nowhere else."""
        if not may(request.user, Right.CHANGE_POLICY):
            raise PermissionDenied
        form, now, secret = TokenForm(request.POST or None), datetime.now(UTC).replace(microsecond=0), None
        if request.method == "POST" and form.is_valid():
            owner, label = form.cleaned_data["owner"], form.cleaned_data["label"]
            _, secret = tokens.create(label, owner, form.scope(now), now, by=request.user.get_username())
        return page(request, self.admin_site, "token.html", "Create a token", Token, form=form, secret=secret)


# --- Accounts


class AccountForm(forms.Form):
    """What an account may do, and why that is so."""

    roles = forms.MultipleChoiceField(
        choices=[(role.value, role.value) for role in Role], required=False, widget=forms.CheckboxSelectMultiple,
        help_text="No account is both approver and administrator.",
    )  # fmt: skip
    owners = forms.CharField(
        required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 3}),
        help_text="For whom it speaks, one on each line: what is theirs it sees, and never approves.",
    )  # fmt: skip
    address = forms.CharField(required=False, max_length=254, help_text="Its mail address; approvers are told there of what waits.")
    active = forms.BooleanField(required=False, initial=True, help_text="It may sign in.")
    why = why_field()

    def access(self) -> accounts.Access:
        """As dashboard.accounts takes it."""
        said = self.cleaned_data
        owners = [line.strip() for line in said["owners"].splitlines() if line.strip()]
        return accounts.Access([Role(role) for role in said["roles"]], owners, said["active"])


class NewAccountForm(AccountForm):
    """An account that is not there yet."""

    name = forms.CharField(max_length=150)
    field_order = ("name",)


class PasswordForm(forms.Form):
    """Why somebody gets another password."""

    why = why_field()


@admin.register(User)
class AccountAdmin(ReadOnly):
    about = "Who signs in, with which roles, and for which owners they speak. Create one, change it, or give it another password."
    ordering = ("username",)
    list_display = ("username", "roles", "owners", "is_active", "last_login")
    keys = ("username", "email")
    search_help_text = "A name or mail address, whole"
    fields = ("username", "email", "roles", "owners", "is_active", "last_login", "date_joined")
    readonly_fields = ("roles", "owners")

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        return super().get_queryset(request).prefetch_related("groups", "ownership_set")

    @admin.display(description="roles")
    def roles(self, row: User) -> str:
        return ", ".join(sorted(group.name for group in row.groups.all())) or "none"

    @admin.display(description="speaks for")
    def owners(self, row: User) -> str:
        return ", ".join(sorted(each.owner for each in row.ownership_set.all())) or "nobody"

    def tools(self, request: HttpRequest, row: User) -> list[Tool]:
        acts = [("Roles and owners…", "access"), ("Another password…", "newpassword")] if may(request.user, Right.MANAGE_ACCOUNTS) else []
        return [*(Tool(text, reverse(f"admin:auth_user_{act}", args=[row.pk])) for text, act in acts), *super().tools(request, row)]

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("create/", wrap(self.create_view), name="auth_user_create"),
            path("<int:key>/access/", wrap(self.access_view), name="auth_user_access"),
            path("<int:key>/password/", wrap(self.password_view), name="auth_user_newpassword"),
        ]
        return [*own, *super().get_urls()]

    def create_view(self, request: HttpRequest) -> HttpResponse:
        """The form, and after a POST the password, once: its holder is to change it."""
        form, password = NewAccountForm(request.POST or None), secrets.token_urlsafe(18)
        name = form.data.get("name", "")
        made = self._done(request, form, lambda said, now: self._create(name, form, password, said, now))
        return self._show(request, "Create an account", form, password if made else None, name)

    def _create(self, name: str, form: AccountForm, password: str, said: dict[str, str], now: datetime) -> None:
        accounts.create(name, form.access(), **said, now=now, password=password)
        accounts.set_address(name, form.cleaned_data["address"])

    def access_view(self, request: HttpRequest, key: int) -> HttpResponse:
        """What the account may do now, and after a POST what it may do from then on."""
        user = get_object_or_404(User, pk=key)
        has = accounts.access_of(user)
        known = {"roles": has.roles, "owners": "\n".join(has.owners), "active": has.active, "address": user.email}
        form = AccountForm(request.POST or None, initial=known)
        if self._done(request, form, lambda said, now: self._change(user, form, said, now)):
            messages.success(request, f"{user.username}: what it may do is as you said, from its next click on.")
            return HttpResponseRedirect(reverse("admin:auth_user_changelist"))
        return self._show(request, f"What {user.username} may do", form)

    def _change(self, user: User, form: AccountForm, said: dict[str, str], now: datetime) -> None:
        accounts.set_access(user.username, form.access(), **said, now=now)
        accounts.set_address(user.username, form.cleaned_data["address"])

    def password_view(self, request: HttpRequest, key: int) -> HttpResponse:
        """After a POST a new password, shown once; who was signed in by the old one is so no more."""
        user, form, password = get_object_or_404(User, pk=key), PasswordForm(request.POST or None), secrets.token_urlsafe(18)
        made = self._done(request, form, lambda said, now: accounts.set_password(user.username, password, **said, now=now))
        return self._show(request, f"Another password for {user.username}", form, password if made else None, user.username)

    def _done(self, request: HttpRequest, form: forms.Form, act: Callable[[dict[str, str], datetime], Any]) -> bool:
        """Whether the form was sent and `act` carried it out; what it refuses stands in the form."""
        if not may(request.user, Right.MANAGE_ACCOUNTS):
            raise PermissionDenied
        if request.method != "POST" or not form.is_valid():
            return False
        try:
            with transaction.atomic():
                act({"by": request.user.get_username(), "why": form.cleaned_data["why"]}, datetime.now(UTC))
        except Problem as problem:
            form.add_error(problem.where if problem.where in form.fields else None, problem.detail)
            return False
        return True

    def _show(self, request: HttpRequest, title: str, form: forms.Form, password: str | None = None, name: str = "") -> HttpResponse:
        return page(request, self.admin_site, "account.html", title, User, form=form, password=password, name=name)


# --- Who is told


@admin.register(Contact)
class ContactAdmin(ReadOnly):
    about = "Who is told of which certificates when something is amiss. Say so."
    empty = "Nobody is told of anything yet. Say who is: for all that has nobody of its own, set the default."
    ordering = ("id",)
    list_display = ("scope", "name", "address")
    keys = ("name", "address")
    search_help_text = "The name of a service or owner, a token's id, or an address, whole"

    def get_urls(self) -> list[URLPattern]:
        return [path("set/", self.admin_site.admin_view(self.set_view), name="dashboard_contact_set"), *super().get_urls()]

    def set_view(self, request: HttpRequest) -> HttpResponse:
        """The form, and after a POST the contacts of one name are those that were given."""
        if not may(request.user, Right.OPERATE):
            raise PermissionDenied
        form = ContactForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            said, by = form.cleaned_data, request.user.get_username()
            try:
                operations.set_contacts(Scope(said["scope"]), said["name"], said["addresses"].split(), by, said["why"], datetime.now(UTC))
            except Problem as problem:
                form.add_error(problem.where if problem.where in form.fields else None, problem.detail)
            else:
                messages.success(request, "These are told from now on, of what waits to be sent as well.")
                return HttpResponseRedirect(reverse("admin:dashboard_contact_changelist"))
        return page(request, self.admin_site, "form.html", "Say who is told", Contact, form=form)


class ContactForm(forms.Form):
    """Whose certificates, and who is told of them."""

    scope = forms.ChoiceField(choices=[(scope.value, scope.value) for scope in Scope])
    name = forms.CharField(max_length=200, required=False, help_text="Of the service or owner, or the token's id; none for the default.")
    addresses = forms.CharField(
        max_length=5_000, required=False, widget=forms.Textarea(attrs={"rows": 4}),
        help_text="One on each line. They replace those that were there; none at all removes them.",
    )  # fmt: skip
    why = why_field()


@admin.register(Reminder)
class ReminderAdmin(Acting):
    about = "What was written to whom, and whether it arrived. Have one sent again."
    empty = "No reminder yet. One is due when a certificate misses its renewal and somebody is to be told, see Contacts."
    ordering = ("-id",)
    list_display = ("threshold", "state", "recipient", "due_at", "tries", "tried_at", "answer", "serial")
    list_display_links = ("threshold", "serial")
    keys = ("serial",)
    search_help_text = "A serial number, whole"
    fields = ("serial", "threshold", "recipient", "state", "due_at", "tries", "tried_at", "answer", "message")

    def subject_of(self, row: Reminder) -> str:
        return row.serial

    acts = {
        "resend": Act(
            Right.OPERATE, "Send again",
            "These go out with the next run, within a minute: those that a server refused, without waiting for their turn, and those of "
            "which nobody knows whether they arrived. What surely arrived stays sent.", operations.resend,
        )
    }  # fmt: skip


# --- Drills


@admin.register(Replacement)
class ReplacementAdmin(ReadOnly):
    about = "Drills, and other orders to renew certificates before a deadline. Start one."
    shown_at = "drill"
    empty = "No drill yet. Start one with a single service: before anything is ordered, it shows what would happen."
    ordering = ("-position",)
    list_display = ("order", "ordered_at", "deadline", "selected", "reason", "by", "why", "completed_at")
    keys = ("order",)
    search_help_text = "An order's id, whole"
    fields = (
        "order", "selection", "selected", "deadline", "new_key", "reason", "why", "by", "ordered_at", "marked_to", "completed_at",
        "position",
    )  # fmt: skip

    def get_urls(self) -> list[URLPattern]:
        return [path("start/", self.admin_site.admin_view(self.start_view), name="ca_replacement_start"), *super().get_urls()]

    def start_view(self, request: HttpRequest) -> HttpResponse:
        """The form; a POST shows what would be replaced, one with `confirmed` has it begin."""
        if not may(request.user, Right.OPERATE):
            raise PermissionDenied
        form, now = DrillForm(request.POST or None), datetime.now(UTC).replace(microsecond=0)
        preview = None
        if request.method == "POST" and form.is_valid():
            try:
                if request.POST.get("confirmed") == "yes":
                    return self._started(request, form, now)
                preview = mass_replacement.preview(form.selection(), now)
            except Problem as problem:
                form.add_error(None, problem.detail)
        return page(request, self.admin_site, "drill.html", "Start a drill", Replacement, form=form, preview=preview)

    def _started(self, request: HttpRequest, form: DrillForm, now: datetime) -> HttpResponse:
        said = form.cleaned_data
        deadline, by = now + timedelta(hours=said["hours"]), request.user.get_username()
        order = mass_replacement.order(form.selection(), deadline, said["reason"], said["why"], by, now)
        messages.success(request, f"Order {order}: nodes learn of it when they check in, and renew before {deadline:%Y-%m-%d %H:%M} UTC.")
        return HttpResponseRedirect(reverse("admin:ca_replacement_changelist"))


class DrillForm(forms.Form):
    """Which certificates are to be renewed, until when, and why. All that is said must hold of a certificate."""

    service = forms.CharField(max_length=100, required=False)
    owner = forms.CharField(max_length=200, required=False)
    profile = forms.ChoiceField(choices=[("", "any"), *((name, name) for name in LEAF)], required=False)
    issuer = forms.CharField(max_length=64, required=False)
    token = forms.CharField(max_length=32, required=False, help_text="A token's id.")
    hours = forms.IntegerField(
        min_value=2, max_value=8_784, initial=48, help_text="Until the deadline, when what was not renewed is revoked."
    )
    reason = forms.ChoiceField(
        choices=[(reason, reason) for reason in PERMITTED["operator"] if reason != KEY_COMPROMISE], initial="superseded",
        help_text="For which the old ones are revoked.",
    )  # fmt: skip
    why = why_field()

    def clean(self) -> dict[str, Any]:
        said: dict[str, Any] = super().clean() or {}
        if not any(said.get(name) for name in ("service", "owner", "profile", "issuer", "token")):
            raise forms.ValidationError("Say which certificates: for all of them, name each issuer.")
        return said

    def selection(self) -> Selection:
        """As ca takes it."""
        return Selection(**{name: self.cleaned_data[name] for name in ("service", "owner", "profile", "issuer", "token")})
