"""Which roles are worth nothing without a second factor, and whether somebody has one.

Owns that question, asked wherever rights are (dashboard.roles). Recovery codes alone are no factor. Deny is what is left.
"""

from __future__ import annotations

from collections.abc import Collection

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth.models import User

from .models import Identity

_FACTORS = (Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN)


def is_lacking(user: User, roles: Collection[str]) -> bool:
    """Whether one of `roles`, those of `user`, asks for a second factor that the account does not have."""
    if settings.SECOND_FACTOR.isdisjoint(roles):
        return False
    if Authenticator.objects.filter(user=user, type__in=_FACTORS).exists():
        return False
    return not _is_by_a_provider(user)


def _is_by_a_provider(user: User) -> bool:
    """Whether the one way in is an identity provider, whose business second factors then are. A directory only checks passwords."""
    return not user.has_usable_password() and Identity.objects.filter(user=user, issuer__startswith="https:").exists()
