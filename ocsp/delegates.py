"""Which delegated responder signs for an issuer (RFC 6960 §4.2.2.2), where the settings want one.

Owns the choice between the certificates that the log knows. How they come about is ca.ocsp_signers'. Must never choose one
that was revoked, that is not for the key at hand, or that ends before an answer would.
"""

from __future__ import annotations

import logging
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from cryptography import x509
from django.conf import settings

from ca import keys

from .models import Responder, State, Status

log = logging.getLogger(__name__)
_lacking: set[str] = set()  # issuers of which it was said that there is none


class Delegate(NamedTuple):
    """`certificate` is DER and goes along with each answer; `not_after` is its end."""

    certificate: bytes
    not_after: datetime
    signer: keys.Signer


def delegate_of(issuer: str, now: datetime) -> Delegate | None:
    """Who signs in the issuer's name; None if the settings want none, or if there is none that could: said once."""
    if not keys.delegates(issuer):
        return None
    try:
        found = _newest(issuer, keys.ocsp_signer(issuer), now)
        why = "none is certified yet, or none for long enough"
    except keys.KeyFault as fault:
        found, why = None, str(fault)
    if found is None and issuer not in _lacking:
        log.warning("%s signs its OCSP responses itself, for it has no delegated responder: %s", issuer, why)
    (_lacking.add if found is None else _lacking.discard)(issuer)
    return found


def _newest(issuer: str, signer: keys.Signer, now: datetime) -> Delegate | None:
    """One that ends before an answer of full length would is left out: the answers would have to be made anew ever more often."""
    lasting = Responder.objects.filter(issuer=issuer, not_before__lte=now, not_after__gt=now + settings.OCSP_VALIDITY)
    rows = list(lasting.order_by("-position"))
    revoked = set(Status.objects.filter(serial__in=[row.serial for row in rows], state=State.REVOKED).values_list("serial", flat=True))
    for row in rows:
        if row.serial not in revoked and _key_of(bytes(row.certificate)) == signer.public_key:
            return Delegate(bytes(row.certificate), row.not_after, signer)
    return None


@lru_cache(maxsize=256)
def _key_of(certificate: bytes) -> object:
    return x509.load_der_x509_certificate(certificate).public_key()
