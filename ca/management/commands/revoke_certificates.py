"""manage.py revoke_certificates: revoke many at once, dry run first."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ca import mass_revocation
from ca.errors import Problem
from ca.events import RevocationCompleted
from ca.mass_revocation import Preview, Selection
from ca.pki.reasons import PERMITTED

BY = "manage.py"


class Command(BaseCommand):
    help = (
        "Revoke every certificate of which all that is given holds. Without --yes nothing happens: it prints what would. "
        "Interrupted, it goes on with --resume. Revoke a leaked token first, or it has new certificates made meanwhile."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_argument_group("which certificates")
        which.add_argument("--issuer", default="", help="name of the intermediate that signed them")
        which.add_argument("--key", type=_key, help="SHA-256 (hex) of the public key's SPKI, or a PEM file with it: "
                           "a certificate, a CSR or a public key")  # fmt: skip
        which.add_argument("--token", default="", help="id of the token that asked for them")
        for name in ("owner", "service", "node", "profile"):
            which.add_argument(f"--{name}", default="")
        which.add_argument("--issued-after", type=_time, metavar="TIME", help="as in 2030-01-31T12:00:00Z")
        which.add_argument("--issued-before", type=_time, metavar="TIME")
        which.add_argument("--serial", type=_serial, action="append", default=[], help="hex; repeatable; also of an orphaned intent")
        parser.add_argument("--reason", choices=PERMITTED["operator"], help="compromised keys are also blocked for ever")
        parser.add_argument("--why", default="", help="a sentence for the log")
        parser.add_argument("--yes", action="store_true", help="do it; nothing undoes it")
        parser.add_argument("--resume", metavar="ORDER", help="go on with the order that was interrupted")

    def handle(self, *args: Any, **options: Any) -> None:
        self.console = Console(file=self.stdout, highlight=False, soft_wrap=True)  # type: ignore[arg-type]
        if options["resume"]:
            self._carry_out(options["resume"])
            return
        selection = _selection(options)
        if not (options["reason"] and options["why"].strip()):
            raise CommandError("--reason and --why: the log keeps both")
        preview = mass_revocation.preview(selection, options["reason"], datetime.now(UTC))
        self._show(preview)
        if not options["yes"]:
            self.console.print("This was a dry run: nothing is revoked. Repeat it with --yes.")
            return
        self._carry_out(_ordered(selection, options["reason"], options["why"].strip()))

    def _show(self, preview: Preview) -> None:
        if preview.unknown:
            raise CommandError(f"neither issued nor orphaned: {', '.join(preview.unknown)}")
        table = Table("service", "profile", "certificates")
        for service, profile, count in preview.groups:
            table.add_row(service or "-", profile, str(count))
        if preview.orphans:
            table.add_row("-", "orphaned", str(len(preview.orphans)))
        self.console.print(table)
        self.console.print(f"{preview.total} to revoke; expired ones, and those revoked already, are not among them")
        for serial, names in preview.samples:
            self.console.print(f"  {serial}  {', '.join(names)}", markup=False)

    def _carry_out(self, order: str) -> None:
        try:
            completed = self._with_progress(order)
        except mass_revocation.NoSuchOrder:
            raise CommandError(f"there is no order {order!r}; its id has 16 hex digits") from None
        except mass_revocation.OrderCompleted:
            raise CommandError(f"the order {order} was carried out already") from None
        except BaseException:  # Ctrl-C above all
            self.stderr.write(f"interrupted; go on with: manage.py revoke_certificates --resume {order}")
            raise
        changed = f", {completed.escalated} now have keyCompromise as their reason" if completed.escalated else ""
        self.console.print(f"order {order}: {completed.revoked} are revoked{changed}")

    def _with_progress(self, order: str) -> RevocationCompleted:
        with Progress(console=self.console) as progress:
            bar = progress.add_task("revoking", total=mass_revocation.selected_by(order))
            return mass_revocation.carry_out(order, BY, _clock, lambda done: progress.update(bar, completed=done))


def _clock() -> datetime:
    return datetime.now(UTC)


def _selection(options: dict[str, Any]) -> Selection:
    names = ("issuer", "key", "token", "owner", "service", "node", "profile", "issued_after", "issued_before")
    given = {name: options[name] for name in names if options[name]}
    try:
        return Selection(serials=tuple(dict.fromkeys(options["serial"])), **given)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _ordered(selection: Selection, reason: str, why: str) -> str:
    try:
        return mass_revocation.order(selection, reason, why, BY, datetime.now(UTC))
    except Problem as problem:
        raise CommandError(problem.detail) from None


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
