"""manage.py block_key: never certify a public key again."""

import re
from argparse import ArgumentParser
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.core.management.base import BaseCommand, CommandError

from ca import blocklist


class Command(BaseCommand):
    help = "Refuse a public key for ever, for example because its private key leaked. Nothing undoes this."

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--certificate", type=Path, help="PEM certificate whose key it is")
        which.add_argument("--spki-sha256", help="hex SHA-256 of the key's SubjectPublicKeyInfo")
        parser.add_argument("--code", default="keyCompromise", help="why (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        digest = _of_hex(options["spki_sha256"]) if options["spki_sha256"] else _of_certificate(options["certificate"])
        blocklist.block(digest, options["code"], datetime.now(UTC), by="manage.py")
        self.stdout.write(f"no certificate will be issued for the key {digest.hex()}")


def _of_hex(text: str) -> bytes:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise CommandError("--spki-sha256: give 64 lower-case hex digits")
    return bytes.fromhex(text)


def _of_certificate(path: Path) -> bytes:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CommandError(f"--certificate {path}: {error}") from None
    return sha256(certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
