"""How people sign in: by password and second factor, through allauth, with nothing open that is not used here.

Owns what of allauth's behaviour is ours. Accounts are made by `dashboard.accounts` alone, so nobody signs up; secrets of second factors are
sealed before they reach the database; and who guesses at a password locks out himself, not the person whose it is.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from functools import cache
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.http import HttpRequest

from .vouched import NotAsked

NAME = "Quicklime"  # in authenticator apps and for security keys


class Accounts(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    """allauth's hooks about accounts."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """Failures count for one account from one address: a stranger at another keeps nobody out."""
        return f"{self.get_client_ip(request)}:{credentials.get('username', '').lower()}"

    def authenticate(self, request: HttpRequest, **credentials: Any) -> Any:
        """What was never checked is no failure."""
        try:
            return super().authenticate(request, **credentials)
        except NotAsked:
            self._rollback_login_failed_rl_usage()
            raise


class Factors(DefaultMFAAdapter):  # type: ignore[misc]  # allauth has no types
    """allauth's hooks about second factors."""

    def encrypt(self, text: str) -> str:
        return _seal().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return _seal().decrypt(encrypted_text.encode()).decode()

    def _get_site_name(self) -> str:
        return NAME


@cache
def _seal() -> Fernet:
    """By a key derived from SECRET_KEY, so that who reads the database has no second factor. Another SECRET_KEY ends them all."""
    key = HKDF(SHA256(), 32, salt=None, info=b"quicklime-second-factors-v1").derive(settings.SECRET_KEY.encode())
    return Fernet(urlsafe_b64encode(key))
