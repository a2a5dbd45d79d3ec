"""`quicklime verify-receipt`: is this certificate in the log? Answered offline, by exit status and in words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509

from .notes import LogKey, Malformed
from .receipts import NotProven, Proven, Receipt, verify

NOT_PROVEN, UNREADABLE = 1, 2
_UNCHECKED_KEY = (
    "note: the log key was taken from the receipt itself, so this shows only that the receipt agrees with itself;\n"
    "      for an independent check give the key you know by other means: --log-key"
)


def verify_receipt(
    receipt: Annotated[Path, typer.Argument(help="The receipt, as GET certificates/{serial}/receipt/ gave it.")],
    certificate: Annotated[Path, typer.Option(help="The certificate, PEM; the first one in the file.")],
    log_key: Annotated[str | None, typer.Option(help="The log's key, name+id+base64, or a file that holds it.")] = None,
) -> None:
    """Check offline that the log holds a certificate. Exit status: 0 proven, 1 not proven, 2 unreadable input."""
    try:
        parsed, leaf = Receipt.parse(receipt.read_text()), _certificate(certificate)
        key = LogKey.parse(_key_text(log_key) if log_key else parsed.log_key)
    except (OSError, UnicodeDecodeError, Malformed) as error:
        typer.echo(f"FAIL  unreadable: {error}", err=True)
        raise typer.Exit(UNREADABLE) from None
    try:
        _passed(verify(parsed, leaf, key), key)
    except (Malformed, NotProven) as error:
        typer.echo(f"FAIL  {error}", err=True)
        raise typer.Exit(NOT_PROVEN) from None
    if not log_key:
        typer.echo(_UNCHECKED_KEY)


def _passed(proven: Proven, key: LogKey) -> None:
    typer.echo(f"ok    the event is the issuance of this certificate, serial {proven.serial}")
    typer.echo(f"ok    it is entry {proven.position} of {proven.size} in the log {proven.origin}")
    typer.echo(f"ok    the log's key {key.name}+{key.key_id.hex()} signed that")


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except ValueError:
        raise Malformed(f"{path} holds no certificate in PEM") from None


def _key_text(given: str) -> str:
    """A key has two plus signs, which a file's name need not avoid: a file that exists is read."""
    return Path(given).read_text() if Path(given).is_file() else given
