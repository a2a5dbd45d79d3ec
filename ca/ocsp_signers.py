"""Delegated OCSP responders: a key and a short-lived certificate for each intermediate that delegates (RFC 6960 §4.2.2.2).

Owns when these are made, renewed and replaced; what is done with them is ocsp's. Must never sign and never wait: `tend` looks
once, asks the pipeline for what is due, and returns.

Order of the writes: the key, durable; then the request, whose promise is the pipeline's. A crash between any two lines leaves
what the next call takes up. While there is no certificate the issuer itself signs its responses.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from celery import shared_task
from celery.signals import worker_ready
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.db import transaction
from kombu.exceptions import OperationalError

from eventlog import head

from . import hierarchy, keys, pipeline, tokens
from .errors import Problem
from .hierarchy import SELF
from .models import UNFINISHED, BlockedKey, Certificate, Issuer, Request, State, Token
from .policy import lifetime_end
from .profiles import OCSP_SIGNER, PROFILES

log = logging.getLogger(__name__)
LABEL = "delegated OCSP responders"
AFTER_REFUSAL = timedelta(minutes=10)  # each refusal is an event
_PROFILE = PROFILES[OCSP_SIGNER]


@shared_task(name="ca.tend_ocsp_signers")
def tend_now() -> None:
    tend(datetime.now(UTC))


@worker_ready.connect
def _begin_the_day(**_: Any) -> None:
    """A new installation, or one that slept for long, does not wait for beat."""
    try:
        tend_now.apply_async(retry=False)
    except (OperationalError, OSError) as error:
        log.warning("the delegated OCSP responders are looked after when Redis is back (%s)", error)


def tend(now: datetime) -> None:
    """Ask for a certificate wherever one is due. Done again, by however many processes at once, it does nothing twice."""
    rows = Issuer.objects.filter(kind=hierarchy.INTERMEDIATE, not_before__lte=now, not_after__gt=now).in_bulk()
    for name in hierarchy.delegating(sorted(rows)):
        try:
            _tend(rows[name], now)
        except (keys.KeyFault, Problem) as fault:
            log.error("issuer %s has no delegated OCSP responder: %s", name, fault)


def _tend(issuer: Issuer, now: datetime) -> None:
    if fault := hierarchy.ocsp_key_fault(issuer.name, now):
        raise keys.KeyFault(fault)
    token = _token(now)
    signer = _key(issuer.name, token)
    last = Request.objects.filter(token=token.id, profile=OCSP_SIGNER, issuer=issuer.name).order_by("-id").first()
    if due(issuer, signer.spki_sha256, now) and not _wait_for(last, now):
        answer = pipeline.submit_ocsp_signer(token, issuer.name, _submission(issuer, signer, last, now), now)
        if isinstance(answer, Problem):
            raise answer


def due(issuer: Issuer, spki_sha256: bytes, now: datetime) -> bool:
    """Whether the key needs another certificate: it has none, or half of its life is over and the next would live longer."""
    certificates = Certificate.objects.filter(spki_sha256=spki_sha256, issuer=issuer.name, profile=OCSP_SIGNER, revoked_at=None)
    newest = certificates.order_by("-not_after").first()
    if newest is None:
        return True
    half = newest.not_before + (newest.not_after - newest.not_before) / 2
    return now >= half and newest.not_after < _end(issuer, now)


def _end(issuer: Issuer, now: datetime) -> datetime:
    return min(lifetime_end(_PROFILE.default, _PROFILE, now), issuer.not_after)


def _wait_for(last: Request | None, now: datetime) -> bool:
    """Whether the last request is under way, or was refused a moment ago."""
    if last is None:
        return False
    return last.state in UNFINISHED or (last.state == State.REJECTED and now < last.updated_at + AFTER_REFUSAL)


def _key(issuer: str, token: Token) -> keys.Signer:
    """The key that is here, made if there is none. One whose certificate was revoked, or that is blocked, makes way for another:
    relying parties do not ask for a delegate's own status (ocsp-nocheck), so nothing but its end of use stops it."""
    with transaction.atomic():
        Token.objects.select_for_update().get(id=token.id)  # one process at a time, or one could set another's new key aside
        signer = keys.create_ocsp_key(issuer)
        if _is_spent(signer):
            log.warning("the key of %s's delegated OCSP responder was revoked or blocked: it is set aside and another is made", issuer)
            keys.set_ocsp_key_aside(issuer, signer)
            signer = keys.create_ocsp_key(issuer)
    return signer


def _is_spent(signer: keys.Signer) -> bool:
    certificates = Certificate.objects.filter(spki_sha256=signer.spki_sha256)
    return certificates.exclude(revoked_at=None).exists() or BlockedKey.objects.filter(spki_sha256=signer.spki_sha256).exists()


def _submission(issuer: Issuer, signer: keys.Signer, last: Request | None, now: datetime) -> pipeline.Submission:
    """Two processes that look at the same moment ask under one idempotency key, so that one request comes of it."""
    csr = signer.sign_request(x509.CertificateSigningRequestBuilder(x509.Name([]))).public_bytes(Encoding.DER)
    return pipeline.Submission(
        csr=csr, service=SELF, node="ocsp", not_after=_end(issuer, now), body_hash=sha256(csr).digest(),
        idempotency_key=f"{issuer.name} {signer.spki_sha256.hex()[:16]} after {last.id if last else 'none'}",
    )  # fmt: skip


def _token(now: datetime) -> Token:
    """The standing permission to ask. Its secret is dropped unseen, and it permits no profile that clients may name."""
    return _live_token() or _new_token(now)


def _live_token() -> Token | None:
    return Token.objects.filter(owner=SELF, label=LABEL, revoked_at=None).order_by("position").first()


def _new_token(now: datetime) -> Token:
    with transaction.atomic():
        head.lock()  # of processes that start together one makes it
        if live := _live_token():
            return live
        scope = tokens.Scope(actions=("issue",), names=(), profiles=(), services=(SELF,))
        token_id, _ = tokens.create(LABEL, SELF, scope, now, by=SELF)
        return Token.objects.get(id=token_id)
