"""An outside judge of the invariants (docs: design), asked after every test that writes.

Shares no logic with what it judges: it reads the tables, hashes and parses for itself, with pyca as X.509 decoder and asn1crypto
as OCSP decoder.
"""

from __future__ import annotations

import hmac
import json
from base64 import b64decode
from collections import Counter
from datetime import datetime, timedelta
from hashlib import sha1, sha256
from typing import Any

from asn1crypto import crl as asn1_crl
from asn1crypto import ocsp as asn1_ocsp
from asn1crypto.x509 import Certificate as Asn1Certificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp as pyca_ocsp
from django.conf import settings
from django.db.models import AutoField, Model

from ca.models import Approval, Certificate, CertificateName, Intent, Issuer, Replacement, Request, Token
from dashboard.models import Activity, Ending, Flag, Generation, Watched
from eventlog import projections
from eventlog.checkpoints import latest
from eventlog.models import Event
from ocsp.models import Crl, Responder, Response, Status
from ocsp.models import Issuer as StatusIssuer

Body = dict[str, Any]


def check() -> None:
    """Raise AssertionError at the first invariant that does not hold for what the database holds now."""
    events = _log()
    _issued_as_intended(events)
    _requests_ended_once(events)
    _certificates_are_what_was_asked(events)
    _approved_before_signed(events)
    _lineage_is_a_forest(events)
    _projection_is_replay()
    _status_is_replay()
    _answers_are_true(events)
    _crls_are_true(events)
    _pages_are_replay()
    _generations_are_replay(events)
    _reminded_once(events)


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


def _approved_before_signed(events: list[Body]) -> None:
    """Nothing that was to wait for an approver has an intent before another than its requester granted exactly that; what was refused
    has none at all; and what waits is what nobody decided about."""
    asked, granted, refused = (_of(events, f"approval.{kind}") for kind in ("requested", "granted", "refused"))
    rejected, created = _of(events, "request.rejected"), _of(events, "token.created")
    assert not granted.keys() & refused.keys()
    assert granted.keys() | refused.keys() <= asked.keys()
    assert refused.keys() <= rejected.keys()
    for request, decision in (granted | refused).items():
        about = asked[request]["data"]
        assert decision["data"]["asked"] == about["asked"]
        assert decision["data"]["by"] not in (about["owner"], created[about["token"]]["data"]["by"]), "a requester decided about its own"
    for event in events:
        if event["type"] != "issuance.intended":
            continue
        request, token = event["data"]["request"], event["data"]["token"]
        always = token in created and created[token]["data"].get("approval") == "always"  # tests of ocsp write intents without a token
        if request in asked or always:
            assert granted[request]["position"] < event["position"], f"{request} was signed without approval"
    waiting = {str(row.id): row for row in Request.objects.filter(state="awaiting_approval")}
    assert waiting.keys() == asked.keys() - granted.keys() - rejected.keys()
    for request in Request.objects.filter(id__in=[*granted, *waiting]):
        assert _digest(request) == asked[str(request.id)]["data"]["asked"], f"{request.id} is not what was asked"


def _digest(request: Request) -> str:
    """Of all that was asked for, as the events say it."""
    names = ("token", "owner", "profile", "service", "node", "replaces", "names_as_before")
    said = {name: getattr(request, name) for name in names} | {"csr": sha256(bytes(request.csr)).hexdigest(), "not_after": None}
    if request.not_after:
        said["not_after"] = request.not_after.strftime("%Y-%m-%dT%H:%M:%SZ")
    return sha256(json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def _lineage_is_a_forest(events: list[Body]) -> None:
    """Invariant 13: each certificate replaces at most one, an earlier one of the same owner and place that nobody else replaces,
    that was not revoked before and whose key has signed for exactly this request."""
    issued = _of(events, "certificate.issued")
    intended = _of(events, "issuance.intended")
    revoked = {event["subject"]: event["position"] for event in reversed(events) if event["type"] == "certificate.revoked"}
    requests = {str(row.id): row for row in Request.objects.filter(state="issued")}
    replaced: set[str] = set()
    for serial, event in issued.items():
        new = event["data"]
        assert requests[new["request"]].replaces == new["replaces"], f"{serial} replaces what was not asked"
        if new["replaces"] is None:
            continue
        assert new["replaces"] not in replaced, f"two replace {new['replaces']}"
        replaced.add(new["replaces"])
        old = issued[new["replaces"]]
        assert old["position"] < intended[serial]["position"], f"{serial} replaces a later one"
        assert [old["data"][name] for name in SAME] == [new[name] for name in SAME], f"{serial} leaves its line"
        assert revoked.get(new["replaces"], event["position"]) > intended[serial]["position"], f"{serial} replaces a revoked one"
        _proven(old["data"], requests[new["request"]])
    pending = [row.replaces for row in Request.objects.exclude(state="rejected") if row.replaces]
    assert len(pending) == len(set(pending)), "two renewals of one certificate"


SAME = ("owner", "profile", "service", "node")


def _proven(old: Body, request: Request) -> None:
    """The renewal proof as it was stored, over the bytes that the interface says."""
    certificate = x509.load_der_x509_certificate(b64decode(old["certificate"]))
    key_id = bytes(Issuer.objects.get(name=old["issuer"]).key_id)
    digest = bytes(request.csr_sha256 or sha256(bytes(request.csr)).digest())
    signed = b"quicklime-renewal-v1\0" + key_id + bytes.fromhex(old["serial"]) + b64decode(old["renewal_challenge"]) + digest
    proof = bytes(request.renewal_proof or b"")
    if len(proof) == 32:  # the door saw the key in TLS, and says so by the server's own
        if settings.REVOCATION_KEY_FILE.exists():  # a test's own settings, and the key they name, may be gone by now
            key = bytes.fromhex(settings.REVOCATION_KEY_FILE.read_text().strip())
            assert proof == hmac.digest(key, b"quicklime-tls-renewal-v1\0" + signed, "sha256")
        return
    _verify(certificate.public_key(), proof, signed, hashes.SHA256())


def _spki(holder: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _names(holder: x509.Certificate | x509.CertificateSigningRequest) -> set[str]:
    try:
        names = holder.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:  # a delegated OCSP responder has none
        return set()
    return {f"{type(name).__name__}:{str(name.value).lower()}" for name in names}


def _projection_is_replay() -> None:
    """Invariant 8: ca's tables equal what a replay of the log makes of them."""
    before = _tables()
    projections.rebuild("ca")
    assert _tables() == before, "the projection differs from the replayed log"


def _tables() -> list[list[Body]]:
    return _rows_of(Issuer, Token, Intent, Certificate, CertificateName, Replacement, Approval)


def _rows_of(*models: type[Model]) -> list[list[Body]]:
    return [sorted((_plain(row) for row in model._default_manager.all()), key=repr) for model in models]


def _plain(row: Model) -> Body:
    """The row's columns, without the number that the database gave it."""
    values = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields if not isinstance(field, AutoField)}
    return {name: bytes(value) if isinstance(value, memoryview) else value for name, value in values.items()}


def _status_is_replay() -> None:
    """Invariant 8 for ocsp's tables, read up to the log's end."""
    projections.catch_up("ocsp")
    before = _rows_of(StatusIssuer, Responder, Status)
    projections.rebuild("ocsp")
    assert _rows_of(StatusIssuer, Responder, Status) == before, "the projection ocsp differs from the replayed log"


def _answers_are_true(events: list[Body]) -> None:
    """Invariant 7: a good answer only about what the log calls issued and does not call revoked; a revoked one with its time
    and reason; each for the right CertID, within its time, under a signature that verifies."""
    issuers = {event["subject"]: b64decode(event["data"]["certificate"]) for event in events if event["type"] == "issuer.added"}
    issued = _of(events, "certificate.issued")
    revoked: dict[str, Body] = {}
    for event in reversed(events):  # the first one counts
        if event["type"] == "certificate.revoked":
            revoked[event["subject"]] = event
    worse = {event["subject"]: event["data"]["reason"] for event in events if event["type"] == "revocation.escalated"}
    for row in Response.objects.all():
        answers = bytes(row.sha1), bytes(row.sha256)
        if answers == (b"", b""):
            assert row.serial in revoked, f"{row.serial}: nothing was to be withdrawn"
            continue
        about = revoked.get(row.serial) or issued[row.serial]
        reasons = {worse.get(row.serial, about["data"].get("reason"))}
        if row.refresh_at.year == 1970:  # about to be signed for the worse reason
            reasons.add(about["data"].get("reason"))
        for algorithm, answer in zip(("sha1", "sha256"), answers, strict=True):
            single, produced_at = _verified(answer, issuers[about["data"]["issuer"]])
            assert single["cert_id"].native == _cert_id(algorithm, issuers[about["data"]["issuer"]], int(row.serial, 16))
            begin, end = single["this_update"].native, single["next_update"].native
            assert (begin, end) == (row.this_update, row.next_update)
            assert begin <= produced_at < end <= produced_at + timedelta(days=10)
            assert row.revoked == (row.serial in revoked), f"{row.serial} is said to be {single['cert_status'].name}"
            if row.serial in revoked:
                said = single["cert_status"].chosen.native
                assert said["revocation_time"] == datetime.fromisoformat(about["time"]).replace(microsecond=0)
                assert REASONS[said["revocation_reason"]] in reasons
            else:
                assert single["cert_status"].name == "good"


def _crls_are_true(events: list[Body]) -> None:
    """Invariant 7 for CRLs: signed by the issuer, only what the log calls revoked, and all of it that had not expired when the
    CRL was made, as far as it had read the log; for a shard those that point to it."""
    issuers = {event["subject"]: b64decode(event["data"]["certificate"]) for event in events if event["type"] == "issuer.added"}
    issued = {event["subject"]: event["data"] for event in events if event["type"] == "certificate.issued"}
    revoked: dict[str, list[Body]] = {}
    for event in events:
        if event["type"] in ("certificate.revoked", "revocation.escalated"):
            revoked.setdefault(event["subject"], []).append(event)
    for row in Crl.objects.all():
        listed = _listed(bytes(row.der), issuers[row.issuer], row)
        for serial, (at, reason) in listed.items():
            first = revoked[serial][0]
            assert first["data"]["issuer"] == row.issuer
            assert at == datetime.fromisoformat(first["time"]).replace(microsecond=0)
            assert reason in {event["data"]["reason"] for event in revoked[serial]}
            assert row.shard in (-1, issued.get(serial, {}).get("crl_shard"))
        for serial, (first, *_) in revoked.items():
            about = issued.get(serial, {"not_after": "9999-12-31T23:59:59+00:00"})
            unexpired = datetime.fromisoformat(about["not_after"]) >= row.this_update
            if first["position"] <= row.position and first["data"]["issuer"] == row.issuer and unexpired:
                assert serial in listed or row.shard not in (-1, about.get("crl_shard")), f"{serial} is not on the CRL {row.shard}"


def _listed(der: bytes, issuer: bytes, row: Crl) -> dict[str, tuple[datetime, str]]:
    """Serial → (revoked at, reason) of a CRL, which must be of this issuer and agree with its row."""
    signed = x509.load_der_x509_crl(der)
    assert signed.is_signature_valid(x509.load_der_x509_certificate(issuer).public_key())  # type: ignore[arg-type]
    parsed = asn1_crl.CertificateList.load(der, strict=True)
    assert parsed.issuer == Asn1Certificate.load(issuer).subject
    assert parsed.authority_key_identifier == Asn1Certificate.load(issuer).key_identifier
    assert parsed.crl_number_value.native == row.number
    tbs = parsed["tbs_cert_list"]
    assert (tbs["this_update"].native, tbs["next_update"].native) == (row.this_update, row.next_update)
    scope = parsed.issuing_distribution_point_value
    urls = [name.native for name in scope["distribution_point"].chosen] if scope else []
    assert [url.rpartition(f"/{row.issuer}/")[2] for url in urls] == ([f"{row.shard}.crl"] if row.shard >= 0 else [])
    entries = tbs["revoked_certificates"] if tbs["revoked_certificates"].native else []
    return {
        f"{each['user_certificate'].native:040x}": (
            each["revocation_date"].native,
            REASONS[each.crl_reason_value.native if each.crl_reason_value else None],
        )
        for each in entries
    }


REASONS = {
    None: "unspecified", "key_compromise": "keyCompromise", "affiliation_changed": "affiliationChanged", "superseded": "superseded",
    "cessation_of_operation": "cessationOfOperation", "privilege_withdrawn": "privilegeWithdrawn",
}  # fmt: skip


def _verified(answer: bytes, issuer: bytes) -> tuple[Any, datetime]:
    """The one SingleResponse of an answer that its issuer, or a delegate that it certified for this, has signed; and when."""
    response = asn1_ocsp.OCSPResponse.load(answer, strict=True)
    assert response["response_status"].native == "successful"
    basic = response.basic_ocsp_response
    data = basic["tbs_response_data"]
    signer = x509.load_der_x509_certificate(issuer)
    if basic["certs"]:
        (delegate,) = (x509.load_der_x509_certificate(each.dump()) for each in basic["certs"])
        delegate.verify_directly_issued_by(signer)
        assert x509.ExtendedKeyUsageOID.OCSP_SIGNING in delegate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert delegate.extensions.get_extension_for_class(x509.OCSPNoCheck)
        signer = delegate
    parsed = pyca_ocsp.load_der_ocsp_response(answer)
    assert parsed.responder_name == signer.subject
    _verify(signer.public_key(), parsed.signature, parsed.tbs_response_bytes, parsed.signature_hash_algorithm)
    (single,) = data["responses"]
    assert single["next_update"].native <= signer.not_valid_after_utc
    produced_at: datetime = data["produced_at"].native
    return single, produced_at


def _verify(key: Any, signature: bytes, data: bytes, digest: hashes.HashAlgorithm | None) -> None:
    match key:
        case ec.EllipticCurvePublicKey():
            assert digest
            key.verify(signature, data, ec.ECDSA(digest))
        case rsa.RSAPublicKey():
            assert digest
            key.verify(signature, data, padding.PKCS1v15(), digest)
        case _:
            key.verify(signature, data)


def _cert_id(algorithm: str, issuer: bytes, serial: int) -> Body:
    hashed = {"sha1": sha1, "sha256": sha256}[algorithm]
    name = Asn1Certificate.load(issuer).subject.dump()
    return {
        "hash_algorithm": {"algorithm": algorithm, "parameters": None}, "issuer_name_hash": hashed(name).digest(),
        "issuer_key_hash": hashed(_key_bits(issuer)).digest(), "serial_number": serial,
    }  # fmt: skip


def _key_bits(certificate: bytes) -> bytes:
    return bytes(Asn1Certificate.load(certificate)["tbs_certificate"]["subject_public_key_info"]["public_key"].contents[1:])


def _generations_are_replay(events: list[Body]) -> None:
    """Invariants 8 and 13 for dashboard's lineage: what replay makes of it; a line is of one owner, place and profile; whatever follows
    another is younger; and a place has one current certificate, the newest issued for it."""
    projections.catch_up("lineage")
    before = _rows_of(Generation)
    projections.rebuild("lineage")
    assert _rows_of(Generation) == before, "the projection lineage differs from the replayed log"
    rows = {row.serial: row for row in Generation.objects.all()}
    issued = {event["subject"]: event for event in events if event["type"] == "certificate.issued" and event["data"]["service"]}
    assert rows.keys() == issued.keys()
    newest = {_place(event["data"]): serial for serial, event in issued.items()}
    renewed = {event["data"]["replaces"] for event in issued.values()}
    for serial, row in rows.items():
        data, first = issued[serial]["data"], rows[row.line]
        assert [getattr(row, name) for name in SAME] == [data[name] for name in SAME] == [getattr(first, name) for name in SAME]
        assert (row.number == 1) == (row.line == serial)
        if row.superseded_by is None:
            assert newest[_place(data)] == serial
            assert serial not in renewed
        else:
            assert issued[serial]["position"] < issued[row.superseded_by]["position"]
            assert serial in renewed or newest[_place(data)] != serial


def _place(data: Body) -> tuple[Any, ...]:
    return (*(data[name] for name in SAME), *sorted(data["names"]))


def _pages_are_replay() -> None:
    """Invariant 8 for dashboard's tables of what the log says, read up to its end; and the days' counts are those of their rows."""
    for name, models in (("expiry", (Watched, Flag, Ending)), ("activity", (Activity,))):
        projections.catch_up(name)
        before = _rows_of(*models)
        projections.rebuild(name)
        assert _rows_of(*models) == before, f"the projection {name} differs from the replayed log"
    ends = Counter(row.not_after.date() for row in Watched.objects.all())
    assert {row.day: row.count for row in Ending.objects.all() if row.count} == ends


def _reminded_once(events: list[Body]) -> None:
    """Invariant 14: a certificate is flagged once for a threshold, later ones only for graver thresholds, and nobody is told twice
    of one; none is flagged once the log has replaced or revoked it."""
    ended: dict[str, int] = {}
    for event in events:
        if event["type"] == "certificate.issued" and event["data"]["replaces"]:
            ended.setdefault(event["data"]["replaces"], event["position"])
        if event["type"] == "certificate.revoked":
            ended.setdefault(event["subject"], event["position"])
    flagged: dict[str, list[int]] = {}
    for event in events:
        if event["type"] == "certificate.flagged":
            flagged.setdefault(event["subject"], []).append(("renewal-missed", "expiring", "expired").index(event["data"]["threshold"]))
            assert event["position"] < ended.get(event["subject"], event["position"] + 1), f"{event['subject']} needed no word any more"
    for serial, ranks in flagged.items():
        assert ranks == sorted(set(ranks)), f"{serial} was flagged twice, or for less than before"
    told = [
        tuple(event["data"][name] for name in ("serial", "threshold", "recipient")) for event in events if event["type"] == "reminder.sent"
    ]
    assert len(told) == len(set(told)), "somebody was reminded twice"
