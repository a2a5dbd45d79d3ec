"""The directory as one more way to check a password, behind allauth's: Django's authentication back end.

Owns the order: a name that an account with a password of its own has is that account's alone, and the directory never hears what was
typed for it; so administrators made here get in whatever becomes of the directory. Counting failures, second factors and the session are
allauth's, as for everybody.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.http import HttpRequest

from . import accounts, directory, vouched
from .directory_settings import Directory

log = logging.getLogger(__name__)
_BY = "LDAP"


class DirectoryBackend(ModelBackend):
    """For whoever the directory of settings.LDAP knows."""

    def authenticate(  # type: ignore[override]  # Django has these optional
        self, request: HttpRequest | None, username: str = "", password: str = "", **_: Any
    ) -> User | None:
        """Raises NotSignedIn, and NotAsked when the directory gave no answer that counts."""
        asked: Directory | None = settings.LDAP
        if asked is None or not username or accounts.has_password(username):
            return None
        try:
            person = directory.person(asked, username, password)
        except directory.Unavailable as reason:
            log.error("nobody can sign in by the directory: %s", reason, extra={"directory": asked.name})
            raise vouched.NotAsked("The directory cannot be asked at the moment.") from None
        return vouched.admitted(asked, person, _BY, datetime.now(UTC)) if person else None
