"""allauth's forms for security keys, by which nothing that a client sends is a fault of ours.

Owns one thing: what cannot be read as a credential is a wrong one. Whether one is right, allauth and fido2 decide.
"""

from __future__ import annotations

from typing import Any

from allauth.mfa.adapter import get_adapter
from allauth.mfa.webauthn import forms


class AddSecurityKey(forms.AddWebAuthnForm):  # type: ignore[misc]  # allauth has no types
    """A new one."""

    def clean(self) -> Any:
        try:
            return super().clean()
        except (KeyError, TypeError, ValueError, AttributeError):
            raise get_adapter().validation_error("incorrect_code") from None


class ShowSecurityKey(forms.AuthenticateWebAuthnForm):  # type: ignore[misc]
    """At the sign-in."""

    def clean_credential(self) -> Any:
        try:
            return super().clean_credential()
        except (KeyError, TypeError, ValueError, AttributeError):
            raise get_adapter().validation_error("incorrect_code") from None


class ShowSecurityKeyAgain(ShowSecurityKey, forms.ReauthenticateWebAuthnForm):  # type: ignore[misc]
    """Before something is changed."""
