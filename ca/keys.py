"""Private keys: made, sealed, opened, put to use.

Owns every private key of the installation, its file, and the passphrase that seals it; nothing else touches one. Keys are
PKCS#8 files of mode 0600 in settings.KEYS_DIR, sealed with the passphrase; a file that others may read is refused. Must
never overwrite a key, write one in plain, or open a CA or log key in the web process.

Each file is written whole under another name, made durable, and only then given its own: a crash at any line leaves either
no key or a whole one, and at most a sealed `.NAME.key.…` beside it, which may be deleted.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from django.conf import settings

from . import measures
from .pki import keycheck, pkcs8
from .pki.leaf import SIGNATURE_ALGORITHMS
from .pki.violations import Violation

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
PublicKey = keycheck.PublicKey
KEY_KINDS = keycheck.KINDS
NAME = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_LOG, _OCSP = "_log", "_ocsp-"  # the underscore keeps them apart from every issuer's name
DELEGATED = "delegated"  # the word of settings.OCSP_SIGNERS for a key that signs OCSP responses in an issuer's name


class KeyFault(Exception):
    """A key cannot be used. The text names the file, what is wrong with it and what to do; it holds no secret."""


# --- signers

_MAKE: Mapping[str, Callable[[], PrivateKey]] = {
    "P-256": partial(ec.generate_private_key, ec.SECP256R1()),
    "P-384": partial(ec.generate_private_key, ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "RSA-2048": partial(rsa.generate_private_key, 65537, 2048),
    "RSA-3072": partial(rsa.generate_private_key, 65537, 3072),
    "RSA-4096": partial(rsa.generate_private_key, 65537, 4096),
}


class Signer:
    """A CA's private key, as far as anybody may use it. The same data always gives the same signature: ECDSA is
    deterministic (RFC 6979), RSA is PKCS #1 v1.5, both with SHA-256, P-384 with SHA-384; so a repeated step repeats bytes.

    `public_key` the pyca public key; `spki_sha256` the hash of its DER, 32 bytes; `kind` of KEY_KINDS; `algorithm` the DER
    AlgorithmIdentifier of its signatures.
    Raises Violation for a key of no such kind.
    """

    __slots__ = ("_hash", "_key", "_sign", "algorithm", "kind", "public_key", "spki_sha256")

    def __init__(self, key: PrivateKey) -> None:
        self.public_key: PublicKey = key.public_key()
        spki = self.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.kind, self.spki_sha256 = keycheck.kind_of(spki), sha256(spki).digest()
        self.algorithm = SIGNATURE_ALGORITHMS[self.kind]
        self._key = key
        self._hash, self._sign = _scheme(key)

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`, as it stands in a certificate."""
        return self._sign(data)

    def sign_certificate(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        """`builder`'s certificate under this key. For CA certificates; leaves are signed as bytes by `sign`."""
        return builder.sign(self._key, self._hash, ecdsa_deterministic=self._deterministic())

    def sign_request(self, builder: x509.CertificateSigningRequestBuilder) -> x509.CertificateSigningRequest:
        """`builder`'s signing request under this key."""
        return builder.sign(self._key, self._hash, ecdsa_deterministic=self._deterministic())

    def _deterministic(self) -> bool | None:
        return True if isinstance(self._key, ec.EllipticCurvePrivateKey) else None  # pyca refuses the word for other keys


def _scheme(key: PrivateKey) -> tuple[hashes.SHA256 | hashes.SHA384 | None, Callable[[bytes], bytes]]:
    """The hash that pyca's builders are told, and how bytes are signed."""
    match key:
        case ec.EllipticCurvePrivateKey():
            digest = hashes.SHA384() if key.curve.name == "secp384r1" else hashes.SHA256()
            return digest, partial(key.sign, signature_algorithm=ec.ECDSA(digest, deterministic_signing=True))
        case rsa.RSAPrivateKey():
            return hashes.SHA256(), partial(key.sign, padding=padding.PKCS1v15(), algorithm=hashes.SHA256())
        case _:
            return None, key.sign


class LogSigner:
    """The key of the log's checkpoints: `origin` its name in signed notes, `public_key` 32 raw bytes of Ed25519."""

    __slots__ = ("_key", "origin", "public_key")

    def __init__(self, origin: str, key: ed25519.Ed25519PrivateKey) -> None:
        self._key, self.origin = key, origin
        self.public_key = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, data: bytes) -> bytes:
        """64 bytes of Ed25519 signature."""
        return self._key.sign(data)


@cache
def throw_away(kind: str) -> Signer:
    """A key that no certificate in use has, for lint, whose signatures are called as those of `kind`. Any RSA size is 2,048
    bits here: the signature's name is the same, and 4,096 take seconds to make."""
    return Signer(_MAKE["RSA-2048" if kind.startswith("RSA") else kind]())


# --- opening


def path_of(issuer: str) -> Path:
    """Where the issuer's sealed key lies, or would. Raises KeyFault for what cannot be an issuer's name."""
    if not NAME.fullmatch(issuer):
        raise KeyFault(f"{issuer!r} cannot be an issuer's name: use 1 to 64 of a-z, 0-9 and -")
    return _file(issuer)


def issuer_signer(issuer: str) -> Signer:
    """The issuer's key, opened once per process. Raises KeyFault."""
    return _issuer_signer(settings.KEYS_DIR, issuer)


def ocsp_path_of(issuer: str) -> Path:
    """Where the sealed key lies, or would, that signs OCSP responses in the issuer's name. Raises KeyFault."""
    path_of(issuer)
    return _file(_OCSP + issuer)


def delegates(issuer: str) -> bool:
    """Whether the settings have the issuer's OCSP responses signed by a key of their own (RFC 6960 §4.2.2.2)."""
    return settings.OCSP_SIGNERS.get(issuer, settings.OCSP_SIGNERS["*"]) == DELEGATED


def ocsp_signer(issuer: str) -> Signer:
    """The key that signs OCSP responses in the issuer's name, opened once per process and file: another process may set one
    aside and make the next at any time. Raises KeyFault."""
    path = ocsp_path_of(issuer)
    try:
        found = path.stat()
    except OSError as error:
        measures.KEY_FAULTS.labels(path.stem).inc()
        raise _unreadable(path, error) from None
    return _ocsp_signer(path, found.st_ino, found.st_mtime_ns)


def log_signer() -> LogSigner:
    """The log's key, opened once per process. Raises KeyFault."""
    return _log_signer(settings.KEYS_DIR, settings.LOG_ORIGIN)


def revocation_key() -> bytes:
    """The 32 bytes that revocation secrets derive from, read once per process. Raises KeyFault. Not a CA key: whoever
    reads it can revoke, not issue; the web process shows secrets to their owners."""
    return _revocation_key(settings.REVOCATION_KEY_FILE)


def fault(issuer: str, public_key: object) -> str | None:
    """Why the issuer's key cannot be used for a certificate of `public_key`; None if it can."""
    try:
        if issuer_signer(issuer).public_key != public_key:
            return f"{path_of(issuer)} is not the key of the certificate of issuer {issuer}: restore the right file"
    except KeyFault as error:
        return str(error)
    return None


def forget() -> None:
    """Open every key again at its next use."""
    for opened in (_issuer_signer, _ocsp_signer, _log_signer, _revocation_key):
        opened.cache_clear()


@cache
def _issuer_signer(directory: Path, issuer: str) -> Signer:
    """`directory` is settings.KEYS_DIR: keys of another installation in the same process are not these."""
    return _signer(path_of(issuer))


@lru_cache(maxsize=64)
def _ocsp_signer(path: Path, inode: int, modified: int) -> Signer:
    return _signer(path)


def _signer(path: Path) -> Signer:
    try:
        return Signer(_unseal(path))
    except Violation:
        raise _wrong_kind(path) from None


@cache
def _log_signer(directory: Path, origin: str) -> LogSigner:
    key = _unseal(_file(_LOG))
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise KeyFault(f"{_file(_LOG)} is not an Ed25519 key: restore the log's key")
    return LogSigner(origin, key)


@cache
def _revocation_key(path: Path) -> bytes:
    text = _read_private(path)
    if not re.fullmatch(rb"[0-9a-f]{64}\s*", text):
        raise KeyFault(f"{path} does not hold 64 hex digits: restore it, or the revocation secrets that clients hold are void")
    return bytes.fromhex(text.decode())


def _file(stem: str) -> Path:
    return Path(settings.KEYS_DIR) / f"{stem}.key"


def _unseal(path: Path) -> PrivateKey:
    try:
        return _opened(path)
    except KeyFault:
        measures.KEY_FAULTS.labels(path.stem).inc()
        raise


def _opened(path: Path) -> PrivateKey:
    if settings.ROLE == "web":
        raise KeyFault(f"{path} is not for the web process (QUICKLIME_ROLE=web), which opens no CA or log key")
    sealed, passphrase = _read_private(path), _passphrase()
    try:
        key = load_pem_private_key(sealed, passphrase)
    except TypeError:
        raise KeyFault(f"{path} holds its key in plain: seal it with `openssl pkcs8 -topk8`, and regard the key as seen") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFault(f"{path} does not open: wrong passphrase in {_passphrase_source()}, or the file is damaged") from None
    if not isinstance(key, PrivateKey):
        raise _wrong_kind(path)
    return key


def _wrong_kind(path: Path) -> KeyFault:
    return KeyFault(f"{path} holds a key of no kind that Quicklime signs with ({', '.join(KEY_KINDS)}): restore the right file")


def _unreadable(path: Path, error: OSError) -> KeyFault:
    missing = isinstance(error, FileNotFoundError)
    return KeyFault(f"{path} is missing: restore it from the backup" if missing else f"{path} cannot be read: {error.strerror}")


def _read_private(path: Path) -> bytes:
    """The content of a file that its owner alone can read."""
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise KeyFault(f"{path} is open to others (mode {mode:04o}): chmod 600 {path}, and regard its content as seen")
            return file.read()
    except OSError as error:
        raise _unreadable(path, error) from None


# --- making


def create(issuer: str, kind: str) -> Signer:
    """Make the issuer's key, durable before this returns. The key is read back from its file, so that one which cannot be
    opened again is found before a certificate names it.

    A key that is there already is taken if it is of this kind: it is what a crash between key and certificate leaves.
    Raises KeyFault, if it is of another kind or cannot be opened."""
    path = path_of(issuer)
    if not path.exists():
        _seal(path, _MAKE[kind]())
    signer = issuer_signer(issuer)
    if signer.kind != kind:
        raise KeyFault(f"{path} is there already and is {signer.kind}, not {kind}: ask for {signer.kind}, or move the file away")
    return signer


def create_ocsp_key(issuer: str) -> Signer:
    """Make the key that signs OCSP responses in the issuer's name, unless it is there; durable before this returns. Of two
    processes that make it at once, both get the same. Raises KeyFault."""
    if not ocsp_path_of(issuer).exists():
        _seal(ocsp_path_of(issuer), _MAKE["P-256"]())
    return ocsp_signer(issuer)


def set_ocsp_key_aside(issuer: str, signer: Signer) -> None:
    """Have `signer` sign no more, in any process: its file gets another name, made from the key, under which nothing opens it.
    It is not deleted, so that an investigation can look at it. Raises KeyFault."""
    path = ocsp_path_of(issuer)
    if ocsp_signer(issuer).public_key == signer.public_key:  # else another process was faster
        path.rename(path.with_suffix(f".{signer.spki_sha256.hex()[:16]}.aside"))
        _sync(path.parent)


def create_log_key() -> None:
    """Make the log's key, unless it is there."""
    if not _file(_LOG).exists():
        _seal(_file(_LOG), ed25519.Ed25519PrivateKey.generate())


def create_revocation_key() -> None:
    """Make the key of the revocation secrets, unless it is there."""
    _write_once(settings.REVOCATION_KEY_FILE, secrets.token_hex(32).encode() + b"\n")


def _seal(path: Path, key: PrivateKey) -> None:
    if settings.ROLE == "web":
        raise KeyFault("the web process (QUICKLIME_ROLE=web) makes no key")
    _make_passphrase()
    _write_once(path, pkcs8.seal(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), _passphrase()))


def _write_once(path: Path, content: bytes) -> None:
    """Make `path` with mode 0600 and durable, unless it exists. Of two processes that start together one wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600 from its first moment
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.link(temporary, path)  # unlike rename, it replaces nothing
    except FileExistsError:
        return
    finally:
        os.unlink(temporary)
    for directory in (path.parent, path.parent.parent):  # a name is durable when its directory is, which may be new itself
        _sync(directory)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- the passphrase


def _passphrase() -> bytes:
    if settings.KEY_PASSPHRASE:
        return bytes(settings.KEY_PASSPHRASE, "utf-8")
    passphrase = _read_private(_passphrase_file()).strip()
    if not passphrase:
        raise KeyFault(f"{_passphrase_file()} is empty: put the passphrase of the sealed keys there")
    return passphrase


def _passphrase_file() -> Path:
    return Path(settings.KEY_PASSPHRASE_FILE or settings.STATE / "passphrase")


def _passphrase_source() -> str:
    return "QUICKLIME_KEY_PASSPHRASE" if settings.KEY_PASSPHRASE else str(_passphrase_file())


def _make_passphrase() -> None:
    """Where the settings name no passphrase, keep one of our own in the state directory. Not if keys are there already:
    they were sealed with another, and a second one would open only half of them."""
    if settings.KEY_PASSPHRASE or settings.KEY_PASSPHRASE_FILE or any(Path(settings.KEYS_DIR).glob("*.key")):
        return
    _write_once(_passphrase_file(), secrets.token_urlsafe(32).encode() + b"\n")
