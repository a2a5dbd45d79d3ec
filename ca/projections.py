"""ca's projection of the log: issuers, tokens, intents, certificates, blocked keys.

Owns every write to those tables. Runs inside the append's own transaction, so that whoever sees the event sees the row.
A handler takes a run of consecutive events of its type; it asks no clock, signs nothing and reads nothing but its tables.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from eventlog import schemas
from eventlog.append import StoredEvent
from eventlog.bulk import insert_rows, update_rows
from eventlog.projections import Projection
from eventlog.projections import register as register_projection

from .models import Activation, Approval, BlockedKey, Certificate, CertificateName, Intent, Issuer, Replacement, Token
from .policy import AS_PROFILE


def register() -> None:
    """Make the projection and ca's event schemas known to the log. Called once, when Django starts."""
    schemas.register_directory(Path(__file__).parent / "schemas", UPCASTERS)
    register_projection(Projection("ca", HANDLERS, MODELS, inline=True))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _issued_1_0_1(data: dict[str, Any]) -> dict[str, Any]:
    """Before 1-0-1 no certificate named a CRL, and a challengePassword was not looked at."""
    return {**data, "crl_shard": None, "challenge_password_hash": None}


def _issued_1_0_2(data: dict[str, Any]) -> dict[str, Any]:
    """Before 1-0-2 nothing was said of when a successor was due: after 80 % of life, but not while 30 days were left. This is how
    those events are read, whatever ca.profiles says today."""
    begin, end = _time(data["not_before"]), _time(data["not_after"]) + timedelta(seconds=1)
    due = max(begin + (end - begin) * 80 / 100, end - timedelta(days=30))
    return {**data, "renew_by": f"{due:%Y-%m-%dT%H:%M:%SZ}"}


def _token_1_0_1(data: dict[str, Any]) -> dict[str, Any]:
    """Before 1-0-1 nothing waited for an approver."""
    return {**data, "approval": AS_PROFILE}


UPCASTERS = {
    "quicklime/certificate.issued/1-0-0": _issued_1_0_1,
    "quicklime/certificate.issued/1-0-1": _issued_1_0_2,
    "quicklime/token.created/1-0-0": _token_1_0_1,
}


def _issuers_added(events: Sequence[StoredEvent]) -> None:
    for event in events:
        data = event.data
        der = b64decode(data["certificate"])
        certificate = x509.load_der_x509_certificate(der)
        Issuer.objects.create(
            name=data["name"], kind=data["kind"], parent=data["parent"], key_id=bytes.fromhex(data["key_id"]), certificate=der,
            fingerprint=sha256(der).hexdigest(), not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc, position=event.position,
        )  # fmt: skip
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        _block([(sha256(spki).digest(), "caKey", event.position)])


def _issuers_activated(events: Sequence[StoredEvent]) -> None:
    for event in events:
        Activation.objects.update_or_create(
            profile=event.data["profile"], defaults={"issuer": event.data["issuer"], "position": event.position}
        )


def _tokens_created(events: Sequence[StoredEvent]) -> None:
    for event in events:
        data = event.data
        scopes = {name: data[name] for name in ("label", "owner", "actions", "names", "profiles", "services", "wildcards", "uris", "ips")}
        Token.objects.create(
            id=data["token"], hash=bytes.fromhex(data["hash"]), position=event.position,
            expires_at=data["expires_at"] and _time(data["expires_at"]), approval=data["approval"], created_by=data["by"], **scopes,
        )  # fmt: skip


def _tokens_revoked(events: Sequence[StoredEvent]) -> None:
    for event in events:
        Token.objects.filter(id=event.data["token"], revoked_at=None).update(revoked_at=event.time)


_INTENT = ("serial", "issuer", "request", "tbs_sha256", "position")


def _issuance_intended(events: Sequence[StoredEvent]) -> None:
    insert_rows(Intent, _INTENT, [_intent_row(event.data, event.position) for event in events])


def _intent_row(data: Mapping[str, Any], position: int) -> tuple[Any, ...]:
    return data["serial"], data["issuer"], UUID(data["request"]), bytes.fromhex(data["tbs_sha256"]), position


_CERTIFICATE = (
    "serial", "issuer", "request", "token", "owner", "profile", "service", "node", "names", "not_before", "not_after", "key_type",
    "spki_sha256", "fingerprint", "der", "renewal_challenge", "revocation_secret_hash", "challenge_password_hash", "replaces",
    "log_position",
)  # fmt: skip


def _certificates_issued(events: Sequence[StoredEvent]) -> None:
    insert_rows(Certificate, _CERTIFICATE, [_certificate_row(event.data, event.position) for event in events])
    names = [(name.partition(":")[2], event.subject, event.position) for event in events for name in event.data["names"]]
    insert_rows(CertificateName, ("name", "serial", "log_position"), names)
    replaced = [(event.data["replaces"], event.subject) for event in events if event.data["replaces"]]
    if replaced:
        update_rows(Certificate, "serial", ("replaced_by",), replaced)


def _certificate_row(data: Mapping[str, Any], position: int) -> tuple[Any, ...]:
    der = b64decode(data["certificate"])
    return (
        data["serial"], data["issuer"], UUID(data["request"]), data["token"], data["owner"], data["profile"], data["service"], data["node"],
        data["names"], _time(data["not_before"]), _time(data["not_after"]), data["key_type"], bytes.fromhex(data["spki_sha256"]),
        sha256(der).hexdigest(), der, b64decode(data["renewal_challenge"]), bytes.fromhex(data["revocation_secret_hash"]),
        data["challenge_password_hash"] and bytes.fromhex(data["challenge_password_hash"]), data["replaces"], position,
    )  # fmt: skip


def _certificates_revoked(events: Sequence[StoredEvent]) -> None:
    """A serial without a certificate, one that was orphaned, meets no row: the log alone keeps its revocation."""
    rows = [(event.subject, event.time, event.data["reason"]) for event in events]
    update_rows(Certificate, "serial", ("revoked_at", "reason"), rows)


def _revocations_escalated(events: Sequence[StoredEvent]) -> None:
    update_rows(Certificate, "serial", ("reason",), [(event.subject, event.data["reason"]) for event in events])


def _keys_blocked(events: Sequence[StoredEvent]) -> None:
    _block((bytes.fromhex(event.data["spki_sha256"]), event.data["code"], event.position) for event in events)


def _block(keys: Iterable[tuple[bytes, str, int]]) -> None:
    """Why and when a key was first blocked stays. `keys`: (SHA-256 of the SPKI, code, position)."""
    rows = [BlockedKey(spki_sha256=spki, code=code, position=position) for spki, code, position in keys]
    BlockedKey.objects.bulk_create(rows, ignore_conflicts=True)


def _replacements_ordered(events: Sequence[StoredEvent]) -> None:
    for event in events:
        same = {name: event.data[name] for name in ("order", "selection", "selected", "new_key", "reason", "why", "by")}
        deadline = _time(event.data["deadline"])
        Replacement.objects.create(deadline=deadline, ordered_at=event.time, position=event.position, marked_to=0, **same)


def _replacements_marked(events: Sequence[StoredEvent]) -> None:
    for event in events:
        order = Replacement.objects.get(order=event.data["order"])
        same = {"replacement": order.order, "replace_by": order.deadline, "replace_key": order.new_key}
        Certificate.objects.filter(serial__in=event.data["serials"]).update(**same)
        Replacement.objects.filter(order=order.order).update(marked_to=event.data["upto"])


def _replacements_completed(events: Sequence[StoredEvent]) -> None:
    for event in events:
        Replacement.objects.filter(order=event.data["order"]).update(completed_at=event.time)


def _approvals_requested(events: Sequence[StoredEvent]) -> None:
    rows = [
        Approval(request=UUID(event.subject), asked=bytes.fromhex(event.data["asked"]), cause=event.data["cause"], position=event.position)
        for event in events
    ]
    Approval.objects.bulk_create(rows)


def _approvals_decided(events: Sequence[StoredEvent]) -> None:
    for event in events:
        decision = {"granted": event.type == "approval.granted", "decided_at": event.time, "by": event.data["by"], "why": event.data["why"]}
        Approval.objects.filter(request=UUID(event.subject)).update(asked=bytes.fromhex(event.data["asked"]), **decision)


HANDLERS = {
    "issuer.added": _issuers_added,
    "issuer.activated": _issuers_activated,
    "token.created": _tokens_created,
    "token.revoked": _tokens_revoked,
    "issuance.intended": _issuance_intended,
    "certificate.issued": _certificates_issued,
    "certificate.revoked": _certificates_revoked,
    "revocation.escalated": _revocations_escalated,
    "key.blocked": _keys_blocked,
    "replacement.ordered": _replacements_ordered,
    "replacement.marked": _replacements_marked,
    "replacement.completed": _replacements_completed,
    "approval.requested": _approvals_requested,
    "approval.granted": _approvals_decided,
    "approval.refused": _approvals_decided,
}
MODELS = (Issuer, Activation, Token, Intent, Certificate, CertificateName, BlockedKey, Replacement, Approval)
