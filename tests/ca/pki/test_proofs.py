"""ca.pki.proofs: what is signed to revoke, and whose signature counts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ca.pki import proofs
from tests.material import new_key

from . import forge

STATEMENT = proofs.revocation_statement(b"i" * 20, "0a" * 20, "keyCompromise")


def pss(salt: int, digest: hashes.HashAlgorithm | None = None) -> padding.PSS:
    return padding.PSS(padding.MGF1(digest or hashes.SHA256()), salt)


def test_the_statement_is_as_documented() -> None:
    assert STATEMENT == b"quicklime-revocation-v1\x00" + b"i" * 20 + b"\x0a" * 20 + b"keyCompromise"
    short = proofs.revocation_statement(b"i" * 20, "a", "superseded")
    assert short == b"quicklime-revocation-v1\x00" + b"i" * 20 + bytes(19) + b"\x0asuperseded"


def test_the_statement_of_a_renewal_is_as_documented() -> None:
    statement = proofs.renewal_statement(b"i" * 20, "a", b"c" * 32, b"d" * 32)
    assert statement == b"quicklime-renewal-v1\x00" + b"i" * 20 + bytes(19) + b"\x0a" + b"c" * 32 + b"d" * 32


@pytest.mark.parametrize("kind", ["P-256", "P-384", "Ed25519", "RSA-2048"])
def test_each_kind_of_key_proves(kind: str) -> None:
    private = forge.key(kind)
    signature = forge.sign(private, STATEMENT)
    assert proofs.proves(private.public_key(), signature, STATEMENT)  # type: ignore[arg-type]
    assert not proofs.proves(private.public_key(), signature, STATEMENT + b"x")  # type: ignore[arg-type]
    assert not proofs.proves(private.public_key(), b"", STATEMENT)  # type: ignore[arg-type]
    assert not proofs.proves(private.public_key(), signature[:-1], STATEMENT)  # type: ignore[arg-type]


@pytest.mark.parametrize("salt", [0, 20, 32, 64])
def test_pss_with_any_salt(salt: int) -> None:
    private = forge.key("RSA-2048")
    assert isinstance(private, rsa.RSAPrivateKey)
    assert proofs.proves(private.public_key(), private.sign(STATEMENT, pss(salt), hashes.SHA256()), STATEMENT)


def test_other_hashes_and_keys_do_not() -> None:
    rsa_key, ec_key, edwards = forge.key("RSA-2048"), forge.key(), forge.key("Ed25519")
    assert isinstance(rsa_key, rsa.RSAPrivateKey)
    assert isinstance(ec_key, ec.EllipticCurvePrivateKey)
    assert isinstance(edwards, ed25519.Ed25519PrivateKey)
    for signature in (
        rsa_key.sign(STATEMENT, padding.PKCS1v15(), hashes.SHA384()),
        rsa_key.sign(STATEMENT, pss(32, hashes.SHA384()), hashes.SHA384()),
        rsa_key.sign(STATEMENT, padding.PKCS1v15(), hashes.SHA1()),
    ):
        assert not proofs.proves(rsa_key.public_key(), signature, STATEMENT)
    assert not proofs.proves(ec_key.public_key(), ec_key.sign(STATEMENT, ec.ECDSA(hashes.SHA384())), STATEMENT)
    assert not proofs.proves(ec_key.public_key(), new_key().sign(STATEMENT, ec.ECDSA(hashes.SHA256())), STATEMENT)
    assert not proofs.proves(edwards.public_key(), ed25519.Ed25519PrivateKey.generate().sign(STATEMENT), STATEMENT)


def test_what_openssl_signs(tmp_path: Path) -> None:
    private = forge.key()
    (tmp_path / "key.pem").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "statement").write_bytes(STATEMENT)
    command = ["openssl", "dgst", "-sha256", "-sign", "key.pem", "-out", "signature", "statement"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert proofs.proves(private.public_key(), (tmp_path / "signature").read_bytes(), STATEMENT)  # type: ignore[arg-type]
