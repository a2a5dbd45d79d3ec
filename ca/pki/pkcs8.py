"""Sealing a private key: PKCS #8 EncryptedPrivateKeyInfo (RFC 5958 §3) under a passphrase, with PBES2 (RFC 8018 §6.2).

Owns the choice of scrypt (RFC 7914) and AES-256-CBC. pyca writes the same form, but with 2,048 rounds of PBKDF2: half a
millisecond for each passphrase that somebody tries who has the file. pyca and `openssl pkey` open what is written here.
Must never see a file: reading, writing and opening are ca.keys'.
"""

from __future__ import annotations

import secrets
from base64 import encodebytes

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7

from . import der

COST, BLOCK, LANES = 2**14, 8, 1  # 50 ms and 16 MB a guess; from 2**15 on OpenSSL's limit of 32 MB would not open it
_PBES2, _SCRYPT, _AES256_CBC = der.oid("1.2.840.113549.1.5.13"), der.oid("1.3.6.1.4.1.11591.4.11"), der.oid("2.16.840.1.101.3.4.1.42")


def seal(private_key_info: bytes, passphrase: bytes) -> bytes:
    """PEM "ENCRYPTED PRIVATE KEY" of a DER PrivateKeyInfo. A new salt and IV each time."""
    salt, iv = secrets.token_bytes(16), secrets.token_bytes(16)
    sealed = _encrypted(private_key_info, Scrypt(salt, 32, COST, BLOCK, LANES).derive(passphrase), iv)
    costs = der.tlv(der.SEQUENCE, der.tlv(der.OCTET_STRING, salt), *map(der.integer, (COST, BLOCK, LANES)))
    derivation = der.tlv(der.SEQUENCE, _SCRYPT, costs)
    cipher = der.tlv(der.SEQUENCE, _AES256_CBC, der.tlv(der.OCTET_STRING, iv))
    algorithm = der.tlv(der.SEQUENCE, _PBES2, der.tlv(der.SEQUENCE, derivation, cipher))
    return _pem(der.tlv(der.SEQUENCE, algorithm, der.tlv(der.OCTET_STRING, sealed)))


def _encrypted(plain: bytes, key: bytes, iv: bytes) -> bytes:
    padder, encryptor = PKCS7(128).padder(), Cipher(algorithms.AES256(key), modes.CBC(iv)).encryptor()
    return encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()


def _pem(data: bytes) -> bytes:
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + encodebytes(data) + b"-----END ENCRYPTED PRIVATE KEY-----\n"
