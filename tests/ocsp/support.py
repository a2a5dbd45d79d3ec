"""What the tests of certificate status share: events as ca writes them, and answers read by asn1crypto."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

from asn1crypto import ocsp as asn1
from django.db import transaction

from ca.models import Certificate
from eventlog import projections
from eventlog.append import NewEvent, StoredEvent, append
from ocsp.models import Response, Status

Issue = Callable[..., list[Certificate]]


def log(now: datetime, *events: tuple[str, str, dict[str, Any]]) -> list[StoredEvent]:
    """Append (type and version, subject, data) in one commit."""
    with transaction.atomic():
        return append([NewEvent(f"quicklime/{schema}", subject, data) for schema, subject, data in events], now)


def intended(serial: str, profile: str = "server") -> tuple[str, str, dict[str, Any]]:
    data = {"serial": serial, "issuer": "issuing-1", "request": str(uuid4()), "token": "t", "owner": "alice", "profile": profile}
    return "issuance.intended/1-0-0", serial, data | {"names": [], "tbs_sha256": "00" * 32, "spki_sha256": "00" * 32}


def orphaned(serial: str) -> tuple[str, str, dict[str, Any]]:
    return "issuance.orphaned/1-0-0", serial, {"serial": serial, "issuer": "issuing-1", "request": str(uuid4()), "code": "tokenRevoked"}


def revoked(serial: str, reason: str = "superseded") -> tuple[str, str, dict[str, Any]]:
    data = {"serial": serial, "issuer": "issuing-1", "reason": reason, "way": "operator", "by": "root", "order": None}
    return "certificate.revoked/1-0-0", serial, data


def escalated(serial: str) -> tuple[str, str, dict[str, Any]]:
    data = {"serial": serial, "issuer": "issuing-1", "reason": "keyCompromise", "way": "operator", "by": "root"}
    return "revocation.escalated/1-0-0", serial, data


def follow() -> None:
    projections.catch_up("ocsp")


def standing(serial: str) -> tuple[str, datetime | None, str | None]:
    """State, time and reason of a serial in the projection."""
    row = Status.objects.get(serial=serial)
    return row.state, row.revoked_at, row.reason


def said(serial: str) -> list[Any]:
    """What the two stored answers say: "good", ("revoked", time, reason), or None for withdrawn."""
    row = Response.objects.get(serial=serial)
    return [_said(bytes(answer)) for answer in (row.sha1, row.sha256)]


def _said(answer: bytes) -> Any:
    if not answer:
        return None
    single = single_of(answer)
    if single["cert_status"].name != "revoked":
        return str(single["cert_status"].name)
    info = single["cert_status"].chosen
    return "revoked", info["revocation_time"].native, info["revocation_reason"].native


def single_of(answer: bytes) -> asn1.SingleResponse:
    response = asn1.OCSPResponse.load(answer, strict=True)
    assert response["response_status"].native == "successful"
    (single,) = response.basic_ocsp_response["tbs_response_data"]["responses"]
    return single
