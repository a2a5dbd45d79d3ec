"""The roles that people have, and what each of them opens: data.

Owns the table, and the answer to whether somebody may do something. Who has a role is a member of the Django group of its name, set
by `dashboard.accounts` alone. Nothing else opens anything, neither `is_superuser` nor `is_staff` nor a row of a permission: so
what a role means can be read here, and is changed by nobody at run time. Deny is what is left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User

from . import second_factors
from .models import Ownership


class Right(StrEnum):
    """What a page or an act asks for."""

    SEE = "see"  # the certificates, requests and tokens of one's own owners, and the issuers
    SEE_ALL = "see-all"  # those of all owners, the numbers of the whole, the log, the admin's lists
    APPROVE = "approve"  # decide about requests that wait for it, but never about one's own
    OPERATE = "operate"  # revoke, retry, sign again, remind again, drill, say who is told
    REVOKE_TOKENS = "revoke-tokens"
    CHANGE_POLICY = "change-policy"  # make tokens: what they permit is what may be certified
    MANAGE_ACCOUNTS = "manage-accounts"  # who has which role, and speaks for which owner


class Role(StrEnum):
    """What somebody is here."""

    REQUESTER = "requester"
    APPROVER = "approver"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ADMINISTRATOR = "administrator"


ROLES: Mapping[Role, frozenset[Right]] = MappingProxyType(
    {
        Role.REQUESTER: frozenset({Right.SEE}),
        Role.APPROVER: frozenset({Right.SEE, Right.SEE_ALL, Right.APPROVE}),
        Role.OPERATOR: frozenset({Right.SEE, Right.SEE_ALL, Right.OPERATE, Right.REVOKE_TOKENS}),
        Role.AUDITOR: frozenset({Right.SEE, Right.SEE_ALL}),
        Role.ADMINISTRATOR: frozenset({Right.SEE, Right.SEE_ALL, Right.CHANGE_POLICY, Right.REVOKE_TOKENS, Right.MANAGE_ACCOUNTS}),
    }
)
APART = frozenset({Role.APPROVER, Role.ADMINISTRATOR})  # no account has both: who says what may be asked for does not grant it
Anyone = User | AbstractBaseUser | AnonymousUser


def rights_of(roles: Collection[str]) -> frozenset[Right]:
    """All that these roles open together; a name that is no role opens nothing. Who has both of APART by whatever accident approves
    nothing and changes nothing."""
    rights = frozenset(right for role, opens in ROLES.items() if role in roles for right in opens)
    return rights - {Right.APPROVE, Right.CHANGE_POLICY, Right.MANAGE_ACCOUNTS} if APART.issubset(roles) else rights


class Standing(NamedTuple):
    """What somebody may do, and whether it is nothing because a second factor is lacking."""

    rights: frozenset[Right]
    lacks_factor: bool


NOBODY = Standing(frozenset(), False)


def standing(user: Anyone) -> Standing:
    """Asked of the database once for each request, as each loads its user anew."""
    if not (isinstance(user, User) and user.is_active):
        return NOBODY
    known: Standing | None = getattr(user, "_standing", None)
    if known is None:
        roles = set(user.groups.values_list("name", flat=True))
        lacks = second_factors.is_lacking(user, roles)
        known = Standing(frozenset() if lacks else rights_of(roles), lacks)
        user._standing = known  # type: ignore[attr-defined]
    return known


def rights(user: Anyone) -> frozenset[Right]:
    """What `user` may do."""
    return standing(user).rights


def may(user: Anyone, *any_of: Right) -> bool:
    """Whether `user` has one of these rights."""
    return not rights(user).isdisjoint(any_of)


def owners(user: Anyone) -> frozenset[str]:
    """For whom `user` speaks: the owners whose certificates, requests and tokens are its own."""
    if not (isinstance(user, User) and user.is_active):
        return frozenset()
    known: frozenset[str] | None = getattr(user, "_owners", None)
    if known is None:
        known = frozenset(Ownership.objects.filter(user=user).values_list("owner", flat=True))
        user._owners = known  # type: ignore[attr-defined]
    return known
