"""verify-receipt: what it accepts, and that every single change to a receipt makes it refuse."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from quicklime_client import cli
from quicklime_client.notes import LogKey, Malformed
from quicklime_client.receipts import NotProven, Receipt, root_of, verify

SIZE, INDEX, NAME = 13, 6, "quicklime/log"


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def tree(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1, as written there."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + tree(leaves[:k]) + tree(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962 §2.1.1, as written there."""
    if len(leaves) == 1:
        return []
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return [*path(m, leaves[:k]), tree(leaves[k:])] if m < k else [*path(m - k, leaves[k:]), tree(leaves[:k])]


def vkey(key: Ed25519PrivateKey, name: str = NAME) -> str:
    public = b"\x01" + key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    key_id = hashlib.sha256(name.encode() + b"\n" + public).hexdigest()[:8]
    return f"{name}+{key_id}+{b64(public)}"


def note(key: Ed25519PrivateKey, size: int, root: bytes, name: str = NAME) -> str:
    text = f"{name}\n{size}\n{b64(root)}\n"
    return f"{text}\n\u2014 {name} {b64(bytes.fromhex(vkey(key, name).split('+')[1]) + key.sign(text.encode()))}\n"


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def make_certificate() -> x509.Certificate:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(x509.Name([])).public_key(key.public_key())
    builder = builder.serial_number(0xABCDEF).not_valid_before(now).not_valid_after(now + timedelta(days=30))
    return builder.sign(key, hashes.SHA256())


@pytest.fixture(scope="module")
def certificate() -> x509.Certificate:
    return make_certificate()


@pytest.fixture(scope="module")
def log_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def build(certificate: x509.Certificate, log_key: Ed25519PrivateKey) -> Callable[..., Receipt]:
    def build(event: str | None = None, index: int = INDEX, size: int = SIZE, key: Ed25519PrivateKey = log_key) -> Receipt:
        data = {"certificate": b64(certificate.public_bytes(Encoding.DER)), "serial": "abcdef", "näme": "ü\u2028\n"}
        default = {"data": data, "schema": "quicklime/certificate.issued/1-0-0", "subject": "abcdef", "time": "2026-01-01T00:00:00Z"}
        event = canonical(default) if event is None else event
        leaves = [hashlib.sha256(b"\x00" + (event if i == index else f"event {i}").encode()).digest() for i in range(size)]
        lines = ["c2sp.org/tlog-proof@v1", f"index {index}", *map(b64, path(index, leaves))]
        return Receipt(event, index + 1, "\n".join(lines) + "\n\n" + note(key, size, tree(leaves)), vkey(key))

    return build


def test_a_receipt_proves_its_certificate(build: Callable[..., Receipt], certificate: x509.Certificate, log_key: Ed25519PrivateKey) -> None:
    proven = verify(build(), certificate, LogKey.parse(vkey(log_key)))
    assert (proven.serial, proven.position, proven.origin, proven.size) == ("abcdef".zfill(40), INDEX + 1, NAME, SIZE)


@pytest.mark.parametrize("size", range(1, 18))
def test_every_leaf_of_every_small_tree(build: Callable[..., Receipt], certificate: x509.Certificate, size: int) -> None:
    for index in range(size):
        receipt = build(index=index, size=size)
        verify(receipt, certificate, LogKey.parse(receipt.log_key))


def test_another_certificate_is_not_proven(build: Callable[..., Receipt]) -> None:
    receipt = build()
    with pytest.raises(NotProven, match="another certificate"):
        verify(receipt, make_certificate(), LogKey.parse(receipt.log_key))


def test_another_logs_key_is_not_enough(build: Callable[..., Receipt], certificate: x509.Certificate) -> None:
    with pytest.raises(Malformed, match="not signed by the log key"):
        verify(build(), certificate, LogKey.parse(vkey(Ed25519PrivateKey.generate())))


def test_a_forger_with_a_key_of_his_own_fails_against_the_known_key(
    build: Callable[..., Receipt], certificate: x509.Certificate, log_key: Ed25519PrivateKey
) -> None:
    forged = build(key=Ed25519PrivateKey.generate())
    verify(forged, certificate, LogKey.parse(forged.log_key))  # by its own key it agrees with itself
    with pytest.raises(Malformed, match="not signed"):
        verify(forged, certificate, LogKey.parse(vkey(log_key)))


@given(at=st.integers(min_value=0), to=st.characters(min_codepoint=33, max_codepoint=126), where=st.sampled_from(["event", "proof"]))
def test_no_changed_character_passes(
    build: Callable[..., Receipt], certificate: x509.Certificate, log_key: Ed25519PrivateKey, at: int, to: str, where: str
) -> None:
    receipt = build()
    text = getattr(receipt, where)
    at %= len(text)
    if text[at] == to:
        return
    with pytest.raises((NotProven, Malformed)):
        verify(replace(receipt, **{where: text[:at] + to + text[at + 1 :]}), certificate, LogKey.parse(vkey(log_key)))


def event_of(receipt: Receipt, **changes: Any) -> dict[str, Any]:
    return {**json.loads(receipt.event), **changes}


def test_the_event_must_be_an_issuance(build: Callable[..., Receipt], certificate: x509.Certificate) -> None:
    receipt = build(canonical(event_of(build(), schema="quicklime/issuance.intended/1-0-0")))
    with pytest.raises(NotProven, match="not the issuance"):
        verify(receipt, certificate, LogKey.parse(receipt.log_key))


@pytest.mark.parametrize("spoil", ["spaces", "order", "twice", "escape"])
def test_a_logged_but_not_canonical_event_is_refused(build: Callable[..., Receipt], certificate: x509.Certificate, spoil: str) -> None:
    good = build().event
    event = {
        "spaces": good.replace('","', '", "', 1),
        "order": json.dumps(dict(reversed(json.loads(good).items())), separators=(",", ":"), ensure_ascii=False),
        "twice": '{"data":{},' + good[1:],
        "escape": good.replace("ü", "\\u00fc"),
    }[spoil]
    receipt = build(event)
    with pytest.raises(NotProven, match="canonical"):
        verify(receipt, certificate, LogKey.parse(receipt.log_key))


def test_position_and_proof_must_agree(build: Callable[..., Receipt], certificate: x509.Certificate) -> None:
    receipt = replace(build(), position=INDEX + 2)
    with pytest.raises(NotProven, match="position"):
        verify(receipt, certificate, LogKey.parse(receipt.log_key))


def test_a_path_of_the_wrong_length_gives_no_root() -> None:
    leaf = bytes(32)
    assert root_of(leaf, 0, 1, []) == leaf
    assert root_of(leaf, 0, 1, [leaf]) is None
    assert root_of(leaf, 0, 2, []) is None
    assert root_of(leaf, 2, 2, [leaf]) is None
    assert root_of(leaf, 0, 0, []) is None


def test_a_witness_signature_beside_the_logs_is_none_of_our_business(build: Callable[..., Receipt], certificate: x509.Certificate) -> None:
    receipt = build()
    witnessed = replace(receipt, proof=receipt.proof + f"\u2014 witness.example {b64(bytes(76))}\n")
    verify(witnessed, certificate, LogKey.parse(receipt.log_key))


@pytest.mark.parametrize("spoil", ["quicklime/log", "quicklime/log+00000000+AA==", "x+y+z", "+" * 3, ""])
def test_a_malformed_log_key_is_named(spoil: str) -> None:
    with pytest.raises(Malformed):
        LogKey.parse(spoil)


def test_a_log_key_whose_id_is_not_its_own_is_refused(log_key: Ed25519PrivateKey) -> None:
    name, _, key = vkey(log_key).split("+", 2)
    with pytest.raises(Malformed, match="id does not belong"):
        LogKey.parse(f"{name}+deadbeef+{key}")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{}", "[" * 100_000, '{"event": 1, "position": 1, "tlog_proof": "", "log_key": ""}',
     '{"event": "\\ud800", "position": 1, "tlog_proof": "", "log_key": ""}'],
)  # fmt: skip
def test_what_is_no_receipt_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        Receipt.parse(text)


# --- the command


@pytest.fixture
def files(tmp_path: Path, build: Callable[..., Receipt], certificate: x509.Certificate) -> Path:
    receipt = build()
    text = {"event": receipt.event, "position": receipt.position, "tlog_proof": receipt.proof, "log_key": receipt.log_key}
    (tmp_path / "receipt.json").write_text(json.dumps(text))
    (tmp_path / "leaf.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "log.vkey").write_text(receipt.log_key + "\n")
    return tmp_path


def run(directory: Path, *more: str) -> tuple[int, str]:
    command = ["verify-receipt", str(directory / "receipt.json"), "--certificate", str(directory / "leaf.pem"), *more]
    result = CliRunner().invoke(cli.app, command)
    return result.exit_code, result.output


def test_with_a_known_key_there_is_nothing_to_note(files: Path) -> None:
    code, output = run(files, "--log-key", str(files / "log.vkey"))
    assert code == 0
    assert output.count("ok  ") == 3
    assert "note:" not in output


def test_the_key_may_be_given_as_text(files: Path) -> None:
    assert run(files, "--log-key", (files / "log.vkey").read_text())[0] == 0


def test_without_a_known_key_the_command_says_what_that_is_worth(files: Path) -> None:
    code, output = run(files)
    assert code == 0
    assert "taken from the receipt itself" in output


def test_a_foreign_key_fails_with_status_1(files: Path) -> None:
    code, output = run(files, "--log-key", vkey(Ed25519PrivateKey.generate()))
    assert code == 1
    assert "FAIL" in output
    assert "ok " not in output


@pytest.mark.parametrize("name", ["receipt.json", "leaf.pem"])
def test_unreadable_input_is_status_2(files: Path, name: str) -> None:
    (files / name).write_bytes(b"\xff\x00")
    code, output = run(files)
    assert code == 2
    assert "FAIL" in output


def python(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_client_imports_nothing_of_the_server() -> None:
    loaded = python("import sys, quicklime_client.cli; print(*sys.modules)").split()
    assert not {name.partition(".")[0] for name in loaded} & {"django", "celery", "ca", "eventlog", "quicklime_site"}


def test_help_lists_the_servers_commands_too() -> None:
    shown = python("from quicklime_client.cli import main; main()", "--help")
    assert "verify-receipt" in shown
    assert " up " in shown
