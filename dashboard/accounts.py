"""Accounts of people: made, given roles and owners, closed, each as an event that says who did it and why.

Owns who has which role and speaks for which owner. Whoever changes that (the admin, a command, a sign-in that maps groups) calls
`set_access`, and nothing else does. Must never hold an approver who is an administrator, nor leave an installation without an
administrator. What a password is, is in no event.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import Group, User
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.db import transaction

from ca.errors import Problem
from eventlog.append import append

from .addresses import checked
from .events import AccountChanged
from .models import Ownership
from .roles import APART, Role

_MOST_OWNERS, _LONGEST_OWNER = 100, 200


@dataclass(frozen=True)
class Access:
    """What an account may do: its roles, for whom it speaks, whether it may sign in at all."""

    roles: Collection[Role] = ()
    owners: Collection[str] = ()
    active: bool = True


def access_of(user: User) -> Access:
    """As it is now."""
    names = set(user.groups.values_list("name", flat=True))
    owners = sorted(Ownership.objects.filter(user=user).values_list("owner", flat=True))
    return Access([role for role in Role if role in names], owners, user.is_active)


def create(name: str, wanted: Access, by: str, why: str, now: datetime, password: str | None = None) -> User:
    """A new account; without `password` it can sign in by none. Raises Problem: accountInvalid, accountExists, as `set_access` does."""
    _check_name(name)
    with transaction.atomic():
        user, made = User.objects.get_or_create(username=name, defaults={"is_active": wanted.active})
        if not made:
            raise Problem("accountExists", f"there is an account {name}", "name")
        user.set_password(password)
        user.save(update_fields=["password"])
        _store(user, wanted)
        _note(user, "created", wanted, by, why, now)
    return user


def set_access(name: str, wanted: Access, by: str, why: str, now: datetime) -> bool:
    """From now on the account may do what `wanted` says and no more; whether that is a change, which alone is an event. Raises
    Problem: accountUnknown, rolesApart, ownersInvalid, lastAdministrator."""
    with transaction.atomic():
        user = _locked(name)
        before = access_of(user)
        if _as_said(before) == _as_said(wanted):
            return False
        _store(user, wanted)
        if Role.ADMINISTRATOR in before.roles:
            _check_administered()
        _note(user, "changed", wanted, by, why, now)
    return True


def set_password(name: str, password: str, by: str, why: str, now: datetime) -> None:
    """Another than the holder sets it, which ends the account's sessions. Raises Problem (accountUnknown)."""
    with transaction.atomic():
        user = _locked(name)
        user.set_password(password)
        user.save(update_fields=["password"])
        _note(user, "password", access_of(user), by, why, now)


def set_address(name: str, address: str) -> None:
    """Where mail to the account goes, "" for nowhere. Personal data: no event says it. Raises Problem (addressInvalid)."""
    try:
        User.objects.filter(username=name).update(email=checked(address) if address else "")
    except ValueError:
        raise Problem("addressInvalid", "that is no mail address", "address") from None


def has_password(name: str) -> bool:
    """Whether there is an account of that name, however it is written, that signs in by a password of its own here."""
    return any(user.has_usable_password() for user in User.objects.filter(username__iexact=name).only("password"))


def administrators() -> Collection[str]:
    """Names of the accounts that may sign in and are administrators."""
    return list(
        User.objects.filter(is_active=True, groups__name=Role.ADMINISTRATOR).order_by("username").values_list("username", flat=True)
    )


def _locked(name: str) -> User:
    user = User.objects.select_for_update().filter(username=name).first()
    if user is None:
        raise Problem("accountUnknown", f"there is no account {name}", "name")
    return user


def _as_said(access: Access) -> tuple[list[str], list[str], bool]:
    return sorted({str(role) for role in access.roles}), sorted(set(access.owners)), access.active


def _store(user: User, wanted: Access) -> None:
    """Raises Problem for what nobody may be given."""
    _check(wanted)
    user.is_active = wanted.active
    user.save(update_fields=["is_active"])
    user.groups.set([Group.objects.get_or_create(name=role.value)[0] for role in set(wanted.roles)])
    Ownership.objects.filter(user=user).exclude(owner__in=wanted.owners).delete()
    Ownership.objects.bulk_create([Ownership(user=user, owner=owner) for owner in sorted(set(wanted.owners))], ignore_conflicts=True)


def _check(wanted: Access) -> None:
    if APART.issubset(wanted.roles):
        raise Problem("rolesApart", f"no account is both {' and '.join(sorted(APART))}: who makes the rules grants no exception", "roles")
    if len(wanted.owners) > _MOST_OWNERS:
        raise Problem("ownersInvalid", f"an account speaks for at most {_MOST_OWNERS} owners", "owners")
    if not all(1 <= len(owner) <= _LONGEST_OWNER and owner.isprintable() for owner in wanted.owners):
        raise Problem("ownersInvalid", f"an owner has 1 to {_LONGEST_OWNER} characters, all of them printable", "owners")


def _check_name(name: str) -> None:
    try:
        UnicodeUsernameValidator()(name)
    except ValidationError:
        raise Problem("accountInvalid", "an account's name has letters, digits and @/./+/-/_ only", "name") from None
    if not 1 <= len(name) <= 150:
        raise Problem("accountInvalid", "an account's name has 1 to 150 characters", "name")


def _check_administered() -> None:
    if not administrators():
        raise Problem("lastAdministrator", "nobody would be left who can give roles: make another account administrator first", "roles")


def _note(user: User, what: str, access: Access, by: str, why: str, now: datetime) -> None:
    roles, owners, active = _as_said(access)
    append([AccountChanged(user.username, what, active, roles, owners, by, why).new()], now)
