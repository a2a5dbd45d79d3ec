"""An outside judge of the invariants (docs: design), asked after every test that writes.

Shares no logic with what it judges: it reads the tables, hashes and parses for itself, with pyca as X.509 decoder.
"""

from __future__ import annotations

import json
from base64 import b64decode
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.db.models import AutoField, Model

from ca.models import Certificate, CertificateName, Intent, Issuer, Request, Token
from eventlog import projections
from eventlog.checkpoints import latest
from eventlog.models import Event

Body = dict[str, Any]


def check() -> None:
    """Raise AssertionError at the first invariant that does not hold for what the database holds now."""
    events = _log()
    _issued_as_intended(events)
    _requests_ended_once(events)
    _certificates_are_what_was_asked(events)
    _projection_is_replay()


def _log() -> list[Body]:
    """Invariants 2 and 3: gap-free positions, canonical bytes, true hashes, a checkpoint over a prefix."""
    rows = list(Event.objects.order_by("position").values_list("position", "body", "leaf_hash"))
    assert [position for position, _, _ in rows] == list(range(1, len(rows) + 1)), "positions have a gap"
    bodies = []
    for position, body, leaf in rows:
        raw = bytes(body)
        assert sha256(b"\0" + raw).digest() == bytes(leaf), f"leaf hash of {position}"
        parsed = json.loads(raw)
        assert json.dumps(parsed, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == raw, f"{position} is not canonical"
        assert len(raw) <= 65535
        bodies.append({"position": position, "type": parsed["schema"].split("/")[1], **parsed})
    newest = latest()
    if newest is not None:
        assert newest.root == naive_root([bytes(leaf) for _, _, leaf in rows[: newest.size]]), "the checkpoint is not of this log"
    return bodies


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1 by its recursive definition."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\1" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def _of(events: list[Body], kind: str) -> dict[str, Body]:
    """Events of a type by subject; two of one type about one subject are a fault for the types asked here."""
    found: dict[str, Body] = {}
    for event in events:
        if event["type"] == kind:
            assert event["subject"] not in found, f"two {kind} for {event['subject']}"
            found[event["subject"]] = event
    return found


def _issued_as_intended(events: list[Body]) -> None:
    """Invariants 1 and 5."""
    intended, issued, orphaned = (_of(events, kind) for kind in ("issuance.intended", "certificate.issued", "issuance.orphaned"))
    assert not issued.keys() & orphaned.keys()
    assert issued.keys() | orphaned.keys() <= intended.keys(), "issued without an intent"
    for serial, event in issued.items():
        intent = intended[serial]
        assert intent["position"] < event["position"]
        certificate = x509.load_der_x509_certificate(b64decode(event["data"]["certificate"]))
        assert sha256(certificate.tbs_certificate_bytes).hexdigest() == intent["data"]["tbs_sha256"], f"{serial} is not what was intended"
        assert certificate.serial_number == int(serial, 16)
        issuer = x509.load_der_x509_certificate(bytes(Issuer.objects.get(name=event["data"]["issuer"]).certificate))
        certificate.verify_directly_issued_by(issuer)
        assert issuer.not_valid_before_utc <= certificate.not_valid_before_utc
        assert certificate.not_valid_after_utc <= issuer.not_valid_after_utc
    unfinished = set(Request.objects.exclude(state__in=("issued", "rejected")).values_list("serial", flat=True))
    assert intended.keys() - issued.keys() - orphaned.keys() <= unfinished, "an intent has no outcome"


def _requests_ended_once(events: list[Body]) -> None:
    """Invariants 4, 9 and 10, as far as the log can tell: state and log agree on how each request ended."""
    issued = {event["data"]["request"] for event in events if event["type"] == "certificate.issued"}
    rejected = _of(events, "request.rejected")
    assert len(issued) == sum(event["type"] == "certificate.issued" for event in events), "two certificates for one request"
    assert not issued & rejected.keys()
    for state, ended in (("issued", issued), ("rejected", rejected.keys())):
        assert {str(request) for request in Request.objects.filter(state=state).values_list("id", flat=True)} == set(ended), state


def _certificates_are_what_was_asked(events: list[Body]) -> None:
    """Invariant 6: the key of the CSR, no name that the CSR did not ask for, and the row's bytes are the log's."""
    rows = Certificate.objects.in_bulk()
    requests = {str(row.id): row for row in Request.objects.filter(state="issued")}
    for event in events:
        if event["type"] != "certificate.issued":
            continue
        der = b64decode(event["data"]["certificate"])
        assert bytes(rows[event["subject"]].der) == der
        certificate = x509.load_der_x509_certificate(der)
        csr = x509.load_der_x509_csr(bytes(requests[event["data"]["request"]].csr))
        assert _spki(certificate) == _spki(csr), "another key than the CSR's"
        assert _names(certificate) <= _names(csr), "a name the CSR did not ask for"
        assert {name.split(":", 1)[1] for name in event["data"]["names"]} == {name.split(":", 1)[1] for name in _names(certificate)}


def _spki(holder: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _names(holder: x509.Certificate | x509.CertificateSigningRequest) -> set[str]:
    names = {
        f"{type(name).__name__}:{str(name.value).lower()}"
        for name in holder.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    }
    return names


def _projection_is_replay() -> None:
    """Invariant 8: ca's tables equal what a replay of the log makes of them."""
    before = _tables()
    projections.rebuild("ca")
    assert _tables() == before, "the projection differs from the replayed log"


def _tables() -> list[list[Body]]:
    return [
        sorted((_plain(row) for row in model.objects.all()), key=repr) for model in (Issuer, Token, Intent, Certificate, CertificateName)
    ]


def _plain(row: Model) -> Body:
    """The row's columns, without the number that the database gave it."""
    values = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields if not isinstance(field, AutoField)}
    return {name: bytes(value) if isinstance(value, memoryview) else value for name, value in values.items()}
