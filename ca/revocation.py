"""Revocation: one door for everybody who may revoke, and the one place where it is said in the log.

Owns who may revoke what for which reason, and certificate.revoked, revocation.escalated and the key.blocked that goes with them.
A revocation is final: there is no way back, and none to a weaker reason. Must never wait for anything but the database: the
certificate is revoked when the event is committed, whoever publishes it then, and whether or not they run.

A crash before the commit leaves no trace, one after it leaves a revoked certificate whose holder was not answered; the
same call again is answered as if it had been the first.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from cryptography import x509
from django.db import connection, transaction
from django.db.models import Q, QuerySet

from eventlog import events as log_events
from eventlog.append import NewEvent, append
from eventlog.bulk import places, read_rows

from . import challenges, holders, keys, renewal, tokens
from .crash import point
from .errors import Problem
from .events import CertificateRevoked, KeyBlocked, RevocationEscalated
from .models import BlockedKey, Certificate, Intent, Issuer
from .pki import proofs
from .pki.reasons import KEY_COMPROMISE, NEVER, PERMITTED, Way, outweighs
from .policy import Grant, require

log = logging.getLogger(__name__)
CHUNK = 500  # certificates in one append: it holds back every other writer for some 50 ms


@dataclass(frozen=True, slots=True)
class Cause:
    """Why and by whom, as in events.CertificateRevoked."""

    reason: str
    way: Way
    by: str = ""
    order: str | None = None


def by_secret(serial: str, secret: str, reason: str, now: datetime) -> None:
    """Revoke for whoever knows the certificate's revocation secret, or the challengePassword of its request. `serial`: 40 hex
    digits. Raises Problem, the same for an unknown serial and a wrong secret, after the same work."""
    check_reason(reason, "secret")
    found = _find(serial)
    known = found or _NOBODY
    fits = hmac.compare_digest(challenges.secret_hash(secret), known.revocation_secret_hash)
    fits |= hmac.compare_digest(_password_hash(known.request, secret), known.challenge_password_hash or _NO_HASH)
    if not (found and fits):
        raise _not_entitled()
    _revoke_one(found, Cause(reason, "secret"), now)


def by_proof(serial: str, signature: bytes, reason: str, now: datetime) -> None:
    """Revoke for whoever signs pki.proofs.revocation_statement with the certificate's key. Where that proves the key to be
    compromised, all its other certificates are revoked too. Raises Problem as `by_secret` does."""
    check_reason(reason, "key")
    found = _find(serial)
    key_ids = {name: bytes(key_id) for name, key_id in read_rows(Issuer, ("name", "key_id"), "")}
    key = x509.load_der_x509_certificate(found.der).public_key() if found else proofs.nobodys_key()
    statement = proofs.revocation_statement(key_ids.get((found or _NOBODY).issuer, b""), serial, reason)
    if not (proofs.proves(key, signature, statement) and found):  # type: ignore[arg-type]  # only kinds of keycheck are certified
        raise _not_entitled()
    _revoke_by_key(found, reason, now)


def by_client_certificate(serial: str, shown: bytes, reason: str, now: datetime) -> None:
    """Revoke for whoever showed the certificate's key in TLS, by `shown` (DER): the same as by a proof. Raises Problem."""
    check_reason(reason, "key")
    holders.check(renewal.find({serial}).get(serial), shown, None, now)
    found = _find(serial)
    assert found  # it was a moment ago, and certificates do not go away
    _revoke_by_key(found, reason, now)


def _revoke_by_key(found: _Found, reason: str, now: datetime) -> None:
    cause = Cause(reason, "key")
    _revoke_one(found, cause, now)
    if reason == KEY_COMPROMISE:
        _revoke_all_of_key(found.spki_sha256, cause, now)


def by_token(serial: str, grant: Grant, reason: str, now: datetime) -> None:
    """Revoke for a token that may revoke: its owner's certificates, or as an operator everybody's if it may audit, too. Whether
    the token was revoked is asked in the transaction that appends. Raises Problem; notFound also for what is not the owner's."""
    require(grant, "revoke", now)
    way: Way = "operator" if "audit" in grant.actions else "token"
    check_reason(reason, way)
    with transaction.atomic():
        if grant.token not in tokens.unrevoked({grant.token}):
            raise Problem("tokenRevoked", "the token was revoked")
        found = _find(serial)
        if found is None or not (way == "operator" or found.owner == grant.owner):
            raise Problem("notFound", "nothing is here, or it is not yours to see")
        _revoke_one(found, Cause(reason, way, by=grant.token), now)


def check_reason(reason: str, way: Way) -> None:
    """Raise Problem unless who comes this way may say `reason`."""
    if reason not in PERMITTED[way]:
        why = f"{reason} is never given, for {NEVER[reason]}; " if reason in NEVER else ""
        raise Problem("reasonForbidden", f"{why}permitted here: {', '.join(PERMITTED[way])}", "reason")


def revoke(serials: Collection[str], cause: Cause, now: datetime) -> None:
    """Append what `cause` changes about `serials`: nothing for what is revoked already, unless the key turns out to be
    compromised. A serial that was orphaned is revoked, too; one that is neither that nor a certificate's is passed over.

    In the caller's transaction, as its last write. Of two at once, the second finds what the first has done."""
    _lock(serials)
    changed = [target for target in _targets(serials) if not target.reason or outweighs(cause.reason, target.reason)]
    revoked = [_event(target, cause) for target in changed]
    blocked = blocks({target.spki_sha256 for target in changed}, cause) if cause.reason == KEY_COMPROMISE else []
    transaction.on_commit(partial(point, "revoke.committed_before_ocsp"))
    append([*revoked, *blocked], now)


def due(certificates: QuerySet[Certificate], reason: str, now: datetime) -> QuerySet[Certificate]:
    """Those of `certificates` that a revocation for `reason` at `now` changes. What has expired is not among them."""
    changeable = Q(reason=None) | ~Q(reason=KEY_COMPROMISE) if reason == KEY_COMPROMISE else Q(reason=None)
    return certificates.filter(changeable, not_after__gte=now)


# --- one certificate


class _Found(NamedTuple):
    """What the door needs to know of a certificate."""

    serial: str
    issuer: str
    owner: str
    request: UUID
    der: bytes
    not_after: datetime
    spki_sha256: bytes
    revocation_secret_hash: bytes
    challenge_password_hash: bytes | None
    reason: str | None


_NO_HASH = secrets.token_bytes(32)  # no secret has it
_NOBODY = _Found("", "", "", UUID(int=0), b"", datetime.min.replace(tzinfo=UTC), b"", _NO_HASH, None, None)


def _find(serial: str) -> _Found | None:
    rows = read_rows(Certificate, _Found._fields, "WHERE serial = %s", [serial])
    return _Found._make(bytes(value) if isinstance(value, memoryview) else value for value in rows[0]) if rows else None


def _password_hash(request: UUID, secret: str) -> bytes:
    """What the log would hold if `secret` were the request's challengePassword. Nothing, which fits nothing, without the key:
    the revocation secrets that were handed out do not need it to be checked (decision 0001)."""
    try:
        return challenges.password_hash(keys.revocation_key(), request, secret)
    except keys.KeyFault as fault:
        log.error("no challengePassword can be checked: %s", fault)
        return b""


def _not_entitled() -> Problem:
    return Problem("notEntitled", "no certificate of this serial number is revoked by this secret or proof")


def _revoke_one(found: _Found, cause: Cause, now: datetime) -> None:
    if found.not_after < now and (not found.reason or outweighs(cause.reason, found.reason)):
        raise Problem("certificateExpired", f"it expired at {found.not_after:%Y-%m-%dT%H:%M:%SZ} and is trusted no more; nothing to revoke")
    with transaction.atomic():
        revoke([found.serial], cause, now)


def _revoke_all_of_key(spki_sha256: bytes, cause: Cause, now: datetime) -> None:
    """Every certificate of the key, which is blocked by now: what was issued until then is found, and nothing is after it
    (issuance.record). Where a crash comes between, the same call again goes on."""
    of_key = due(Certificate.objects.filter(spki_sha256=spki_sha256), cause.reason, now).order_by("log_position")
    while serials := list(of_key.values_list("serial", flat=True)[:CHUNK]):
        with transaction.atomic():
            revoke(serials, cause, now)


# --- the events


class _Target(NamedTuple):
    """What is revoked. `reason`: for which it is already, or None."""

    serial: str
    issuer: str
    spki_sha256: bytes
    reason: str | None


def _lock(serials: Collection[str]) -> None:
    """Make others who revoke any of these wait. The intents' rows, as no projection ever changes one: the certificates' rows
    are written under the log's lock, for which a holder of them would be waiting."""
    lock = " FOR UPDATE" if connection.features.has_select_for_update else ""  # a write on SQLite is alone anyway
    read_rows(Intent, ("serial",), f"WHERE serial IN ({places(serials)}) ORDER BY serial{lock}", list(serials))


def _targets(serials: Collection[str]) -> list[_Target]:
    rows = read_rows(Certificate, _Target._fields, f"WHERE serial IN ({places(serials)}) ORDER BY serial", list(serials))
    found = {row[0]: _Target(row[0], row[1], bytes(row[2]), row[3]) for row in rows}
    return [*found.values(), *(orphan for serial in sorted(set(serials) - found.keys()) if (orphan := _orphan(serial)))]


_ABOUT_ORPHANS = ("issuance.intended", "issuance.orphaned", "certificate.revoked", "revocation.escalated")


def _orphan(serial: str) -> _Target | None:
    """A serial that was signed, maybe, and has no certificate in the inventory, as the log tells it."""
    said = {event.type: event.data for event in log_events.about(serial, *_ABOUT_ORPHANS)}
    if "issuance.orphaned" not in said:
        return None
    revoked: dict[str, Any] = said.get("revocation.escalated") or said.get("certificate.revoked") or {}
    intent = said["issuance.intended"]
    return _Target(serial, intent["issuer"], bytes.fromhex(intent["spki_sha256"]), revoked.get("reason"))


def _event(target: _Target, cause: Cause) -> NewEvent:
    kind = RevocationEscalated if target.reason else CertificateRevoked
    return kind(
        serial=target.serial, issuer=target.issuer, reason=cause.reason, way=cause.way, by=cause.by, order=cause.order
    ).new()  # fmt: skip


def blocks(spkis: Iterable[bytes], cause: Cause) -> list[NewEvent]:
    """key.blocked for those of the keys that are not blocked yet. `spkis`: SHA-256 of the SubjectPublicKeyInfo."""
    wanted = set(spkis)
    known = BlockedKey.objects.filter(spki_sha256__in=wanted).values_list("spki_sha256", flat=True)
    new = sorted(wanted - {bytes(spki) for spki in known})
    return [KeyBlocked(spki_sha256=spki.hex(), code=KEY_COMPROMISE, by=cause.by or cause.way).new() for spki in new]
