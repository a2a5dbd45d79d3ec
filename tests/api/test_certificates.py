"""One certificate in its three media types, and its receipt."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.models import Certificate
from eventlog.models import Checkpoint

from .conftest import Caller, code

pytestmark = pytest.mark.django_db
PEM, DER = "application/pem-certificate-chain", "application/pkix-cert"


def test_three_media_types_of_the_same_bytes(issued: dict[str, Any], alice: Caller) -> None:
    shown = issued["certificate"]
    path = f"certificates/{shown['serial']}/"
    assert alice.get(path).json() == shown
    pem, der = alice.get(path, Accept=PEM), alice.get(path, Accept=DER)
    assert (pem["Content-Type"], der["Content-Type"]) == (PEM, DER)
    assert pem.content.decode() == shown["pem"] + shown["chain"]
    assert der.content == bytes(Certificate.objects.get().der)
    assert x509.load_pem_x509_certificate(pem.content).public_bytes(Encoding.DER) == der.content
    for answer in (alice.get(path), pem, der):
        assert (answer["Vary"], answer["Cache-Control"]) == ("Accept", "no-store")
    refused = alice.get(path, Accept="text/html")
    assert (refused.status_code, code(refused)) == (406, "notAcceptable")


@pytest.mark.unjudged("changes a serial in its row")
def test_leading_zeros_of_a_serial_may_be_left_out(issued: dict[str, Any], alice: Caller) -> None:
    row = Certificate.objects.get()
    Certificate.objects.filter(pk=row.pk).update(serial="00ab".zfill(40))
    assert alice.get("certificates/ab/").status_code == alice.get(f"certificates/{'ab'.zfill(40)}/").status_code == 200


def test_openssl_reads_the_der(issued: dict[str, Any], alice: Caller) -> None:
    der = alice.get(f"certificates/{issued['certificate']['serial']}/", Accept=DER).content
    command = ["openssl", "x509", "-inform", "DER", "-noout", "-serial"]
    said = subprocess.run(command, input=der, check=True, capture_output=True).stdout.decode()
    assert int(said.strip().removeprefix("serial="), 16) == int(issued["certificate"]["serial"], 16)


def test_receipt(issued: dict[str, Any], alice: Caller) -> None:
    path = f"certificates/{issued['certificate']['serial']}/receipt/"
    receipt = alice.get(path).json()
    assert receipt.keys() == {"event", "position", "tlog_proof", "log_key"}
    assert receipt["position"] == issued["certificate"]["log_position"]
    assert json.loads(receipt["event"])["data"]["serial"] == issued["certificate"]["serial"]
    assert receipt["tlog_proof"].startswith(f"c2sp.org/tlog-proof@v1\nindex {receipt['position'] - 1}\n")


def test_a_receipt_before_the_checkpoint_comes_later(issued: dict[str, Any], alice: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Checkpoint.objects, "order_by", lambda *fields: Checkpoint.objects.none())
    answer = alice.get(f"certificates/{issued['certificate']['serial']}/receipt/")
    assert (answer.status_code, code(answer)) == (503, "notYetSigned")
    assert int(answer["Retry-After"]) > 0


@pytest.mark.unjudged("changes dates in the rows")
def test_expired_and_revoked_are_said(issued: dict[str, Any], alice: Caller, now: Any) -> None:
    from datetime import timedelta

    path, row = f"certificates/{issued['certificate']['serial']}/", Certificate.objects.all()
    row.update(not_after=now - timedelta(seconds=1))
    assert alice.get(path).json()["status"] == "expired"
    row.update(revoked_at=now, reason="keyCompromise")
    shown = alice.get(path).json()
    assert (shown["status"], shown["revoked_at"], shown["reason"]) == ("revoked", f"{now:%Y-%m-%dT%H:%M:%SZ}", "keyCompromise")
