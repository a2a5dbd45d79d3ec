"""The signed answers about serials: who signs for an issuer, how long an answer holds, when the next one is due.

Owns the call that puts a key to a response, and the answers that go with each new certificate. Which serial is good is read
elsewhere, and feed.py asks once more before it stores. Must never sign in the web process, whose ca.keys opens nothing.
"""

from __future__ import annotations

import logging
from base64 import b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from django.conf import settings
from django.db import transaction

from ca import keys
from ca.crash import point
from ca.pki import ocsp_response
from eventlog import events as log
from eventlog.append import NewEvent
from eventlog.bulk import read_rows

from . import feed
from .delegates import delegate_of
from .feed import Ready
from .models import Issuer

_logger = logging.getLogger(__name__)
BACKDATE = timedelta(minutes=1)  # so that a client whose clock is a little behind takes the answer
# Profiles without answers: their certificates say so themselves (RFC 9608 noRevAvail; RFC 6960 §4.2.2.2.1 ocsp-nocheck).
UNANSWERED = ("short-lived", "ocsp-signer")
_WEEK = timedelta(days=7)  # of half of which no answer is older: four days at most (CA/Browser Forum BR §4.9.10)
_PATIENCE = 1.0  # seconds that issuing waits for others who store answers


class CannotSign(Exception):
    """No key may sign for this issuer now; the text says why."""


@dataclass(frozen=True, slots=True)
class ResponseSigner:
    """Who signs for an issuer: what a response says of it, until when its word is worth something, and its signature."""

    responder: ocsp_response.Responder
    not_after: datetime
    sign: Callable[[bytes], bytes]


class Wanted(NamedTuple):
    """What is to be said of a serial. `revoked_at` None: it is good. `not_after` of the certificate, None if there is none.
    `position` as in feed.Ready."""

    serial: str
    issuer: str
    not_after: datetime | None
    revoked_at: datetime | None
    reason: str | None
    position: int


class Answers:
    """Makes the answers of one moment. `unable`: the issuers for which nobody can sign now, each named once in the log."""

    def __init__(self, now: datetime, unable: set[str] | None = None) -> None:
        self.unable = set() if unable is None else unable
        self._now, self._desks = now.replace(microsecond=0), dict[str, _Desk]()

    def about(self, wanted: Wanted) -> Ready | None:
        """Both answers about a serial; None if its issuer is one of `unable`."""
        desk = self._desks.get(wanted.issuer) or self._open(wanted.issuer)
        if desk is None:
            return None
        point("ocsp.sign_mid")
        return desk.answer(wanted)

    def with_nonce(self, wanted: Wanted, algorithm: ocsp_response.Hash, nonce: bytes) -> bytes | None:
        """The answer to one request: its `nonce`, 1 to 128 octets, and a CertID made with its `algorithm`. None as above."""
        desk = self._desks.get(wanted.issuer) or self._open(wanted.issuer)
        return desk.with_nonce(wanted, algorithm, nonce) if desk else None

    def _open(self, issuer: str) -> _Desk | None:
        if issuer not in self.unable:
            try:
                self._desks[issuer] = _desk(issuer, self._now)
            except CannotSign as fault:
                _logger.error("no OCSP response for certificates of %s: %s", issuer, fault)
                self.unable.add(issuer)
        return self._desks.get(issuer)


def signer_for(issuer: str, certificate: bytes, now: datetime) -> ResponseSigner:
    """Who signs about what `issuer`, of this DER certificate, issued: its delegate, else the issuer itself. Raises CannotSign."""
    if delegate := delegate_of(issuer, now):
        named = ocsp_response.responder_id(delegate.certificate)
        responder = ocsp_response.Responder(named, delegate.signer.algorithm, delegate.certificate)
        return ResponseSigner(responder, delegate.not_after, delegate.signer.sign)
    try:
        signer = keys.issuer_signer(issuer)
    except keys.KeyFault as fault:
        raise CannotSign(str(fault)) from None
    own = x509.load_der_x509_certificate(certificate)
    if signer.public_key != own.public_key():
        raise CannotSign(f"the key file of {issuer} is not the key of its certificate")
    responder = ocsp_response.Responder(ocsp_response.responder_id(certificate), signer.algorithm)
    return ResponseSigner(responder, own.not_valid_after_utc, signer.sign)


def sign_with_issuance(events: Sequence[NewEvent], now: datetime) -> None:
    """For eventlog.listeners: the answers about certificates that are about to be recorded, in the same commit. A fault here
    stops no issuance: presign finds what has no answer."""
    new = [Wanted(event.data["serial"], event.data["issuer"], _time(event.data["not_after"]), None, None, 0)
           for event in events if event.data["profile"] not in UNANSWERED]  # fmt: skip
    if not new:
        return
    try:
        with transaction.atomic():
            answers = Answers(now)
            feed.store([answer for each in new if (answer := answers.about(each))], _PATIENCE)
    except Exception:
        _logger.exception("%d certificates are issued without an OCSP response; presign makes them", len(new))


def issuer_certificate(issuer: str) -> bytes:
    """The DER certificate of an issuer; from the log where the projection has not read so far. Raises CannotSign."""
    for (der,) in read_rows(Issuer, ("certificate",), "WHERE name = %s", [issuer]):
        return bytes(der)
    for event in log.about(issuer, "issuer.added"):
        return b64decode(event.data["certificate"])
    raise CannotSign(f"there is no issuer {issuer}")


def refresh_at(serial: str, now: datetime, next_update: datetime, not_after: datetime | None) -> datetime:
    """When the next answers are made: between a quarter and half of the time that these hold, or of a week, each serial at a
    place of its own, so that the load is even whatever was signed at once. What expires before is not made again, but
    looked at when nobody may be given it any more."""
    share = 0.25 + 0.25 * int(serial[-8:], 16) / 0xFFFFFFFF
    due = now + min(next_update - now, _WEEK) * share
    return due if not_after is None or due < not_after else next_update


@dataclass(frozen=True, slots=True)
class _Desk:
    """What answers for one issuer have in common, at one moment."""

    now: datetime
    certificate: bytes
    signer: ResponseSigner
    times: ocsp_response.Times
    sha1: ocsp_response.Writer
    sha256: ocsp_response.Writer

    def answer(self, wanted: Wanted) -> Ready:
        sha1, sha256 = _written(self.sha1, wanted), _written(self.sha256, wanted)
        begin, until = self.times.this_update, self.times.next_update
        due, revoked = refresh_at(wanted.serial, self.now, until, wanted.not_after), wanted.revoked_at is not None
        return Ready(wanted.serial, wanted.issuer, revoked, begin, until, due, sha1, sha256, wanted.position)

    def with_nonce(self, wanted: Wanted, algorithm: ocsp_response.Hash, nonce: bytes) -> bytes:
        certificate_id = ocsp_response.cert_id(self.certificate, algorithm)
        return _written(ocsp_response.Writer(self.signer.responder, certificate_id, self.times, self.signer.sign, nonce), wanted)


def _written(writer: ocsp_response.Writer, wanted: Wanted) -> bytes:
    serial = int(wanted.serial, 16)
    if wanted.revoked_at is None:
        return writer.good(serial)
    return writer.revoked(serial, wanted.revoked_at, wanted.reason or "unspecified")


def _desk(issuer: str, now: datetime) -> _Desk:
    certificate = issuer_certificate(issuer)
    signer = signer_for(issuer, certificate, now)
    until = min(now + settings.OCSP_VALIDITY, signer.not_after)
    if until <= now:
        raise CannotSign("whoever signs for it has expired")
    times = ocsp_response.Times(now, now - BACKDATE, until)
    ids = [ocsp_response.cert_id(certificate, algorithm) for algorithm in ocsp_response.HASHES]
    return _Desk(now, certificate, signer, times, *(ocsp_response.Writer(signer.responder, each, times, signer.sign) for each in ids))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
