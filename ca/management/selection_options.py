"""Options by which an operator says which certificates he means."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from django.core.management.base import CommandError

from ca.selections import Selection


def add(parser: ArgumentParser, serials: str) -> None:
    """The options, of which `selection` makes a Selection. `serials`: the help about --serial."""
    which = parser.add_argument_group("which certificates")
    which.add_argument("--issuer", default="", help="name of the intermediate that signed them")
    which.add_argument("--key", type=_key, help="SHA-256 (hex) of the public key's SPKI, or a PEM file with it: "
                       "a certificate, a CSR or a public key")  # fmt: skip
    which.add_argument("--token", default="", help="id of the token that asked for them")
    for name in ("owner", "service", "node", "profile"):
        which.add_argument(f"--{name}", default="")
    which.add_argument("--issued-after", type=_time, metavar="TIME", help="as in 2030-01-31T12:00:00Z")
    which.add_argument("--issued-before", type=_time, metavar="TIME")
    which.add_argument("--serial", type=_serial, action="append", default=[], help=serials)


def selection(options: dict[str, Any]) -> Selection:
    """What the options mean. Raises CommandError."""
    names = ("issuer", "key", "token", "owner", "service", "node", "profile", "issued_after", "issued_before")
    given = {name: options[name] for name in names if options[name]}
    try:
        return Selection(serials=tuple(dict.fromkeys(options["serial"])), **given)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _time(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError("a time is written as in 2030-01-31T12:00:00Z") from None
    if found.tzinfo is None:
        raise ArgumentTypeError("say in which time zone: Z, or +01:00")
    return found.astimezone(UTC).replace(microsecond=0)


def _serial(text: str) -> str:
    digits = text.replace(":", "").lower()  # as openssl prints it
    if not re.fullmatch("[0-9a-f]{1,40}", digits):
        raise ArgumentTypeError("a serial number has up to 40 hex digits")
    return digits.zfill(40)


def _key(text: str) -> str:
    return text if re.fullmatch("[0-9a-f]{64}", text) else _key_in(Path(text))


_READERS: tuple[Callable[[bytes], Any], ...] = (
    lambda pem: x509.load_pem_x509_certificate(pem).public_key(),
    lambda pem: x509.load_pem_x509_csr(pem).public_key(),
    load_pem_public_key,
)


def _key_in(path: Path) -> str:
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise ArgumentTypeError(f"neither 64 hex digits nor a file that can be read: {error.strerror}") from None
    for read in _READERS:
        try:
            spki = read(pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except ValueError:
            continue
        return sha256(spki).hexdigest()
    raise ArgumentTypeError(f"{path} holds no certificate, CSR or public key in PEM")
