"""Accounts of people for whom another system of the company vouches: its identity provider, or its directory.

Owns how such an account is found, made and kept in step with the groups there. It is known by what does not change, issuer and subject,
and by nothing else: no name and no mail address makes anybody somebody else, and an account that was made here is never taken over. Whoever
is in no group that has a role loses what they had, and does not come in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Protocol

from django.contrib.auth.models import User
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.db import transaction

from ca.errors import Problem

from . import accounts
from .models import Identity
from .roles import Role

MAX_SUBJECT, MAX_GROUPS = 255, 1_000  # characters (OpenID Connect Core §2); groups of one person


class NotSignedIn(Exception):
    """This sign-in ends here; the text is for the person's eyes."""


class NotAsked(NotSignedIn):
    """Whoever would vouch gave no answer that counts, of which the person is not the cause."""


class Source(Protocol):
    """The system that vouches: what it is called here, and what its groups are here."""

    @property
    def name(self) -> str: ...
    @property
    def roles(self) -> Mapping[str, tuple[str, ...]]: ...
    @property
    def owners(self) -> Mapping[str, tuple[str, ...]]: ...


@dataclass(frozen=True)
class Person:
    """Somebody as a source tells it today: the `subject` of that `issuer`, for good. `name` is whatever it says, for people's eyes."""

    issuer: str
    subject: str
    name: Any
    groups: Collection[str]


def admitted(source: Source, person: Person, by: str, now: datetime) -> User:
    """The account of `person`, made at the first sign-in, with what the groups say today; `by` the way in. Raises NotSignedIn."""
    try:
        with transaction.atomic():
            user = _kept_in_step(source, person, by, now)
    except Problem as problem:
        raise NotSignedIn(f"Your groups cannot be followed here: {problem.detail}.") from None
    if user is None:
        raise NotSignedIn("None of your groups has a role here.")
    return user


def _kept_in_step(source: Source, person: Person, by: str, now: datetime) -> User | None:
    """None for whoever has no role; of an account that there is, the roles are then gone."""
    identity = Identity.objects.select_related("user").filter(issuer=person.issuer, subject=person.subject).first()
    wanted = _access(source, person.groups)
    if identity is None:
        return _made(source, person, wanted, by, now) if wanted.roles else None
    if not identity.user.is_active:
        raise NotSignedIn("This account is closed.")
    accounts.set_access(identity.user.username, wanted, by=by, why=f"groups at {source.name}", now=now)
    return identity.user if wanted.roles else None


def _made(source: Source, person: Person, wanted: accounts.Access, by: str, now: datetime) -> User:
    user = accounts.create(_name(source, person), wanted, by=by, why=f"first sign-in by {source.name}", now=now)
    Identity.objects.create(issuer=person.issuer, subject=person.subject, user=user)
    return user


def _access(source: Source, groups: Collection[str]) -> accounts.Access:
    roles = {Role(role) for group in groups for role in source.roles.get(group, ())}
    owners = {owner for group in groups for owner in source.owners.get(group, ())}
    return accounts.Access(sorted(roles), sorted(owners))


def _name(source: Source, person: Person) -> str:
    """Below the source's, so that nobody is called as a local account is; not what somebody is known by."""
    digest = sha256(f"{person.issuer}\0{person.subject}".encode()).hexdigest()[:12]
    name = f"{source.name}-{person.name if isinstance(person.name, str) else digest}"[:100]
    try:
        UnicodeUsernameValidator()(name)
    except ValidationError:
        return f"{source.name}-{digest}"
    return f"{name}-{digest}" if User.objects.filter(username__iexact=name).exists() else name
