"""ca.keys: key files made, sealed, opened, refused; signatures of each kind."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from ca import keys
from ca.keys import KeyFault
from ca.pki.leaf import SIGNATURE_ALGORITHMS

DATA = b"the bytes to be signed"


@pytest.fixture(autouse=True)
def state(settings, tmp_path: Path) -> Path:
    """A state directory of this test's own."""
    settings.STATE, settings.KEYS_DIR = tmp_path, tmp_path / "keys"
    settings.REVOCATION_KEY_FILE = tmp_path / "revocation.key"
    keys.forget()
    return tmp_path


@pytest.fixture
def embedded(settings) -> None:
    """No passphrase in the settings, as on a fresh machine."""
    settings.KEY_PASSPHRASE, settings.KEY_PASSPHRASE_FILE = "", None


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- signing


@pytest.mark.parametrize("kind", keys.KEY_KINDS)
def test_each_kind_signs_the_same_bytes_again_and_openssl_agrees(kind: str, tmp_path: Path) -> None:
    signer = keys.create("issuing", kind)
    signature = signer.sign(DATA)
    keys.forget()
    assert signer.kind == kind
    assert keys.issuer_signer("issuing").sign(DATA) == signature
    assert openssl_verifies(signer, signature, tmp_path)
    assert not openssl_verifies(signer, signature[:-1] + bytes([signature[-1] ^ 1]), tmp_path)


def openssl_verifies(signer: keys.Signer, signature: bytes, directory: Path) -> bool:
    pem = signer.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for name, content in (("public.pem", pem), ("data", DATA), ("signature", signature)):
        (directory / name).write_bytes(content)
    how = ["-rawin"] if signer.kind == "Ed25519" else ["-rawin", "-digest", "sha384" if signer.kind == "P-384" else "sha256"]
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "public.pem", "-in", "data", "-sigfile", "signature", *how]
    return subprocess.run(command, cwd=directory, capture_output=True).returncode == 0


def test_ecdsa_is_that_of_rfc_6979() -> None:
    """Appendix A.2.5: P-256, SHA-256, message "sample"."""
    private = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
    signature = keys.Signer(ec.derive_private_key(private, ec.SECP256R1())).sign(b"sample")
    assert signature.hex().startswith("3046022100efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716")


# --- files


def test_a_created_key_is_sealed_and_for_its_owner_alone(state: Path) -> None:
    signer = keys.create("issuing", "P-256")
    path = keys.path_of("issuing")
    private = load_pem_private_key(path.read_bytes(), b"only-for-tests")
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.public_key() == signer.public_key
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    plain = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), private.private_numbers().private_value.to_bytes(32)
    assert not any(form in file.read_bytes() for form in plain for file in state.rglob("*") if file.is_file())
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert [entry.name for entry in path.parent.iterdir()] == ["issuing.key"]


def test_a_key_that_is_there_is_taken_up_and_never_replaced() -> None:
    first = keys.create("issuing", "P-256")
    before = keys.path_of("issuing").read_bytes()
    assert keys.create("issuing", "P-256").public_key == first.public_key
    with pytest.raises(KeyFault, match="is P-256, not Ed25519"):
        keys.create("issuing", "Ed25519")
    assert keys.path_of("issuing").read_bytes() == before


def test_of_two_that_make_a_key_at_once_one_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process's key appears between the look and the write."""
    other = keys.create("issuing", "P-256")
    keys.forget()
    real, looks = Path.exists, iter([False])
    monkeypatch.setattr(Path, "exists", lambda path: next(looks, True) and real(path))
    assert keys.create("issuing", "P-256").public_key == other.public_key


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_crash_leaves_a_whole_key_or_none(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Crash(BaseException):
        pass

    def crash(*args: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(os, call, crash)
        with pytest.raises(Crash):
            keys.create("issuing", "P-256")
    assert not keys.path_of("issuing").exists()
    assert keys.create("issuing", "P-256").sign(DATA)


def test_the_name_is_durable_only_after_content_and_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        calls.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def link(source: str, target: Path) -> None:
        calls.append("link")
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    keys.create("issuing", "P-256")
    assert calls == ["file", "link", "directory", "directory"]


@pytest.mark.parametrize("name", ["", "A", "../x", "a/b", "a.b", "_log", "a\n", "x" * 65, "\u00fc"])
def test_names_that_are_no_issuers_reach_no_file(name: str) -> None:
    with pytest.raises(KeyFault, match="cannot be an issuer's name"):
        keys.create(name, "P-256")
    with pytest.raises(KeyFault, match="cannot be an issuer's name"):
        keys.issuer_signer(name)


# --- faults: each says what is wrong


def plain_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def sealed(key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"only-for-tests"))


def remove(path: Path) -> None:
    path.unlink()


def loosen(path: Path) -> None:
    path.chmod(0o640)


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def unseal(path: Path) -> None:
    path.write_bytes(plain_key())


def exchange(path: Path) -> None:
    path.write_bytes(sealed(ec.generate_private_key(ec.SECP256R1())))


def put_dsa(path: Path) -> None:
    path.write_bytes(sealed(dsa.generate_private_key(1024)))


def put_odd_curve(path: Path) -> None:
    path.write_bytes(sealed(ec.generate_private_key(ec.SECP521R1())))


def put_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (remove, "is missing"),
        (loosen, r"is open to others \(mode 0640\): chmod 600"),
        (damage, "does not open: wrong passphrase in QUICKLIME_KEY_PASSPHRASE, or the file is damaged"),
        (unseal, "holds its key in plain"),
        (put_dsa, "no kind that Quicklime signs with"),
        (put_odd_curve, "no kind that Quicklime signs with"),
        (put_directory, "cannot be read: Is a directory"),
    ],
)
def test_a_key_that_cannot_be_used_says_why(harm, reason: str) -> None:
    public_key = keys.create("issuing", "P-256").public_key
    keys.forget()
    harm(keys.path_of("issuing"))
    with pytest.raises(KeyFault, match=reason) as fault:
        keys.issuer_signer("issuing")
    assert str(keys.path_of("issuing")) in str(fault.value)
    assert re.search(reason, keys.fault("issuing", public_key) or "")


def test_a_key_of_another_certificate_is_a_fault() -> None:
    public_key = keys.create("issuing", "P-256").public_key
    assert keys.fault("issuing", public_key) is None
    exchange(keys.path_of("issuing"))
    keys.forget()
    assert "is not the key of the certificate" in (keys.fault("issuing", public_key) or "")


def test_a_wrong_passphrase_is_named_by_its_source_and_not_shown(settings) -> None:
    keys.create("issuing", "P-256")
    keys.forget()
    settings.KEY_PASSPHRASE = "mistyped-passphrase"
    with pytest.raises(KeyFault, match="wrong passphrase in QUICKLIME_KEY_PASSPHRASE") as fault:
        keys.issuer_signer("issuing")
    assert "mistyped" not in str(fault.value)
    assert fault.value.__cause__ is None


# --- the passphrase


@pytest.mark.usefixtures("embedded")
def test_without_a_passphrase_one_is_made_once(state: Path) -> None:
    keys.create("one", "P-256")
    passphrase = (state / "passphrase").read_text()
    keys.create("two", "P-256")
    assert (state / "passphrase").read_text() == passphrase
    assert len(passphrase.strip()) >= 43
    assert mode(state / "passphrase") == 0o600


@pytest.mark.usefixtures("embedded")
def test_a_lost_passphrase_is_reported_and_no_second_one_made(state: Path) -> None:
    keys.create("one", "P-256")
    keys.forget()
    (state / "passphrase").unlink()
    with pytest.raises(KeyFault, match="passphrase is missing: restore"):
        keys.issuer_signer("one")
    with pytest.raises(KeyFault, match="passphrase is missing: restore"):
        keys.create("two", "P-256")
    assert not (state / "passphrase").exists()


def test_the_passphrase_may_stand_in_a_file(settings, state: Path) -> None:
    settings.KEY_PASSPHRASE, settings.KEY_PASSPHRASE_FILE = "", state / "secret"
    with pytest.raises(KeyFault, match="secret is missing"):
        keys.create("issuing", "P-256")
    (state / "secret").write_text("from a file\n")
    with pytest.raises(KeyFault, match=r"secret is open to others"):
        keys.create("issuing", "P-256")
    (state / "secret").chmod(0o600)
    keys.create("issuing", "P-256")
    assert load_pem_private_key(keys.path_of("issuing").read_bytes(), b"from a file")
    (state / "secret").write_text("\n")
    with pytest.raises(KeyFault, match="secret is empty"):
        keys.create("another", "P-256")


# --- the web process


def test_the_web_process_opens_and_makes_no_ca_or_log_key(settings) -> None:
    keys.create("issuing", "P-256")
    keys.create_log_key()
    keys.forget()
    settings.ROLE = "web"
    for attempt in (lambda: keys.issuer_signer("issuing"), keys.log_signer, lambda: keys.create("another", "P-256")):
        with pytest.raises(KeyFault, match="QUICKLIME_ROLE=web"):
            attempt()


def test_the_web_process_reads_the_revocation_key(settings) -> None:
    keys.create_revocation_key()
    settings.ROLE = "web"
    assert len(keys.revocation_key()) == 32


# --- the log's key and the revocation key


def test_the_log_key_is_ed25519_under_the_logs_name(settings) -> None:
    with pytest.raises(KeyFault, match=r"_log\.key is missing"):
        keys.log_signer()
    keys.create_log_key()
    signer = keys.log_signer()
    ed25519.Ed25519PublicKey.from_public_bytes(signer.public_key).verify(signer.sign(DATA), DATA)
    assert signer.origin == settings.LOG_ORIGIN
    keys.create_log_key()
    keys.forget()
    assert keys.log_signer().public_key == signer.public_key


def test_a_log_key_of_another_kind_is_refused() -> None:
    keys.create_log_key()
    exchange(keys.path_of("x").with_name("_log.key"))
    with pytest.raises(KeyFault, match="is not an Ed25519 key"):
        keys.log_signer()


def test_the_revocation_key_is_made_once(settings, state: Path) -> None:
    with pytest.raises(KeyFault, match=r"revocation\.key is missing"):
        keys.revocation_key()
    keys.create_revocation_key()
    first = keys.revocation_key()
    keys.create_revocation_key()
    keys.forget()
    assert keys.revocation_key() == first
    assert mode(state / "revocation.key") == 0o600
    keys.forget()
    (state / "revocation.key").write_text("0" * 63)
    with pytest.raises(KeyFault, match="does not hold 64 hex digits"):
        keys.revocation_key()


@pytest.mark.parametrize("kind", keys.KEY_KINDS)
def test_throw_away_keys_sign_as_the_kind_does(kind: str, tmp_path: Path) -> None:
    signer = keys.throw_away(kind)
    assert signer.algorithm == SIGNATURE_ALGORITHMS[kind]
    assert openssl_verifies(signer, signer.sign(DATA), tmp_path)
