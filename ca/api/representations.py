"""Rows as the objects that clients see: requests, certificates, issuers.

Owns the fields of those objects, whose names are fixed, and the columns they need. Must never show a row to a caller:
whether it may be seen is the views' business. Plain functions over rows as dicts, as this is on the hot path.
"""

from __future__ import annotations

import ssl
from base64 import b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from cryptography import x509
from django.db import connection
from django.db.models import Model, UUIDField

from ca import challenges, issuance, keys
from ca.errors import Problem
from ca.models import Certificate, Issuer, Request, State
from eventlog.bulk import places, read_rows

from . import problems

Row = Mapping[str, Any]
CERTIFICATE_COLUMNS = (
    "serial", "issuer", "request", "token", "owner", "profile", "service", "node", "names", "not_before", "not_after", "key_type",
    "fingerprint", "der", "renewal_challenge", "replaces", "replaced_by", "revoked_at", "reason", "replace_by",
    "log_position",
)  # fmt: skip
REQUEST_COLUMNS = ("id", "state", "owner", "error")
PENDING, AWAITING, ISSUED, REJECTED = "pending", "awaiting_approval", "issued", "rejected"
ACTIVE, EXPIRED, REVOKED = "active", "expired", "revoked"


def full(serial: str) -> str:
    """A serial from an address as rows have it, 40 digits: leading zeros may be missing there."""
    return serial.zfill(40)


def time(value: datetime) -> str:
    """RFC 3339, in UTC, to the second. `value` is UTC already, as everything from the database is."""
    return value.isoformat(timespec="seconds")[:19] + "Z"


def pem(der: bytes) -> str:
    """One certificate in PEM (RFC 7468)."""
    return ssl.DER_cert_to_PEM_cert(der)


@cache
def chain(issuer: str) -> str:
    """The PEM of `issuer` and of what signed it, up to but without the root. An issuer never changes: see issuance.issuer_facts."""
    row = Issuer.objects.get(name=issuer)
    if row.parent is None:
        return ""
    return pem(bytes(row.certificate)) + chain(row.parent)


def certificate_status(row: Row, now: datetime) -> str:
    """ACTIVE, EXPIRED or REVOKED; a certificate that was revoked and has expired since stays REVOKED."""
    if row["revoked_at"] is not None:
        return REVOKED
    return EXPIRED if row["not_after"] < now else ACTIVE


def certificate(row: Row, token: str | None, now: datetime) -> dict[str, Any]:
    """The certificate object. `token` is the caller's id, None without one: the one that requested the certificate also gets its
    revocation secret."""
    der = bytes(row["der"])
    shown = {
        "serial": row["serial"],
        "issuer": row["issuer"],
        "subject": x509.load_der_x509_certificate(der).subject.rfc4514_string(),
        "names": row["names"],
        "profile": row["profile"],
        "service": row["service"],
        "node": row["node"],
        "owner": row["owner"],
        "not_before": time(row["not_before"]),
        "not_after": time(row["not_after"]),
        "status": certificate_status(row, now),
        "revoked_at": row["revoked_at"] and time(row["revoked_at"]),
        "reason": row["reason"],
        "replaces": row["replaces"],
        "replaced_by": row["replaced_by"],
        "replace_by": row["replace_by"] and time(row["replace_by"]),
        "fingerprint": row["fingerprint"],
        "key_type": row["key_type"],
        "pem": pem(der),
        "chain": chain(row["issuer"]),
        "log_position": row["log_position"],
        "renewal_challenge": b64encode(bytes(row["renewal_challenge"])).decode(),
    }
    if row["token"] == token:
        shown["revocation_secret"] = _revocation_secret(row)
    return shown


def checked_in(row: Row, now: datetime) -> dict[str, Any]:
    """What a node is told of its certificate when it checks in: of an order to replace it only where it can follow that."""
    status = certificate_status(row, now)
    awaited = row["replace_by"] if status != REVOKED and row["replaced_by"] is None else None
    return {
        "serial": row["serial"],
        "status": status,
        "revoked_at": row["revoked_at"] and time(row["revoked_at"]),
        "replaced_by": row["replaced_by"],
        "replace_by": awaited and time(awaited),
    }


def _revocation_secret(row: Row) -> str:
    return challenges.revocation_secret(keys.revocation_key(), issuance.issuer_facts(row["issuer"]).key_id, row["serial"])


def is_done(row: Row) -> bool:
    """There is nothing to wait for by the second: a certificate row is the proof that it was issued, as replay keeps that and not the
    request; else it was rejected, or a person is to decide."""
    return "serial" in row or row["state"] in (State.REJECTED, State.AWAITING)


def load(ids: Iterable[UUID]) -> dict[UUID, Row]:
    """For each request id that exists: the row of its certificate, else of itself. At most two queries, however many ids; in
    this order, so that what is issued between them is found."""
    wanted = set(ids)
    found = _by_id(Request, "id", REQUEST_COLUMNS, wanted)
    issued = {request for request in wanted if request not in found or found[request]["state"] == State.ISSUED}
    if issued:
        found |= _by_id(Certificate, "request", CERTIFICATE_COLUMNS, issued)
    return found


_UUID = UUIDField()


def _by_id(model: type[Model], column: str, columns: Sequence[str], ids: Collection[UUID]) -> dict[UUID, Row]:
    """The rows of `model` whose `column` is among `ids`, by it."""
    if not ids:
        return {}
    wanted = [_UUID.get_db_prep_value(each, connection) for each in ids]
    found = read_rows(model, columns, f"WHERE {column} IN ({places(wanted)})", wanted)
    return {row[column]: row for row in (dict(zip(columns, values, strict=True)) for values in found)}


def request(request_id: UUID, row: Row | None, token: str | None, now: datetime) -> dict[str, Any]:
    """The request object for a row of `load`; None stands for one that nothing is known of yet."""
    shown: dict[str, Any] = {"id": str(request_id), "status": PENDING, "certificate": None, "error": None}
    if row is None:
        return shown
    if "serial" in row:
        return shown | {"status": ISSUED, "certificate": certificate(row, token, now)}
    if row["state"] == State.REJECTED:
        return shown | {"status": REJECTED, "error": problems.as_dict(rejection(row))}
    return shown | {"status": AWAITING} if row["state"] == State.AWAITING else shown


def rejection(row: Row) -> Problem:
    """Why a rejected request was rejected."""
    return Problem(**row["error"])


def issuer(row: Row, profiles: Iterable[str]) -> dict[str, Any]:
    """The issuer object: a root or intermediate, and the profiles it signs now."""
    der = bytes(row["certificate"])
    return {
        "name": row["name"],
        "kind": row["kind"],
        "parent": row["parent"],
        "subject": x509.load_der_x509_certificate(der).subject.rfc4514_string(),
        "key_id": bytes(row["key_id"]).hex(),
        "fingerprint": row["fingerprint"],
        "not_before": time(row["not_before"]),
        "not_after": time(row["not_after"]),
        "profiles": sorted(profiles),
        "pem": pem(der),
    }
