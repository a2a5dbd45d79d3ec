"""ca.pki.pkcs8: what is sealed opens with the passphrase, elsewhere too, and with nothing else."""

from __future__ import annotations

import subprocess
from base64 import b64decode

import pytest
from asn1crypto import keys as asn1
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key

from ca.pki import pkcs8
from ca.pki.pkcs8 import COST  # the real one: for the tests it is lowered after this import

KEYS = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "RSA": rsa.generate_private_key(65537, 2048),
}


def plain(key) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("kind", KEYS)
def test_pyca_and_openssl_open_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pkcs8, "COST", COST)
    sealed = pkcs8.seal(plain(KEYS[kind]), "påssphrase".encode())
    assert plain(load_pem_private_key(sealed, "påssphrase".encode())) == plain(KEYS[kind])
    command = ["openssl", "pkey", "-passin", "pass:påssphrase", "-pubout", "-outform", "DER"]
    opened = subprocess.run(command, input=sealed, capture_output=True, check=True).stdout
    assert opened == KEYS[kind].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_another_passphrase_opens_nothing() -> None:
    sealed = pkcs8.seal(plain(KEYS["P-256"]), b"right")
    with pytest.raises(ValueError, match="Incorrect password"):
        load_pem_private_key(sealed, b"wrong")


def test_sealing_twice_gives_another_salt_and_iv() -> None:
    assert pkcs8.seal(plain(KEYS["P-256"]), b"x") != pkcs8.seal(plain(KEYS["P-256"]), b"x")


def test_a_guess_costs_sixteen_megabytes_of_scrypt_and_the_plain_key_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pkcs8, "COST", COST)
    sealed = b64decode(b"".join(pkcs8.seal(plain(KEYS["P-256"]), b"x").splitlines()[1:-1]))
    algorithm = asn1.EncryptedPrivateKeyInfo.load(sealed)["encryption_algorithm"]["parameters"].native
    assert algorithm["key_derivation_func"]["algorithm"] == "1.3.6.1.4.1.11591.4.11"
    assert bytes.fromhex("02024000 020108 020101") in sealed, "N 16384, r 8, p 1"
    assert algorithm["encryption_scheme"]["algorithm"] == "aes256_cbc"
    assert plain(KEYS["P-256"])[-60:] not in sealed
