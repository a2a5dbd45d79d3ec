"""manage.py revoke_certificates: revoke many at once, dry run first."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ca import mass_revocation
from ca.errors import Problem
from ca.events import RevocationCompleted
from ca.management import selection_options
from ca.mass_revocation import Preview
from ca.pki.reasons import PERMITTED
from ca.selections import Selection

BY = "manage.py"


class Command(BaseCommand):
    help = (
        "Revoke every certificate of which all that is given holds. Without --yes nothing happens: it prints what would. "
        "Interrupted, it goes on with --resume. Revoke a leaked token first, or it has new certificates made meanwhile."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        selection_options.add(parser, serials="hex; repeatable; also of an orphaned intent")
        parser.add_argument("--reason", choices=PERMITTED["operator"], help="compromised keys are also blocked for ever")
        parser.add_argument("--why", default="", help="a sentence for the log")
        parser.add_argument("--yes", action="store_true", help="do it; nothing undoes it")
        parser.add_argument("--resume", metavar="ORDER", help="go on with the order that was interrupted")

    def handle(self, *args: Any, **options: Any) -> None:
        self.console = Console(file=self.stdout, highlight=False, soft_wrap=True)  # type: ignore[arg-type]
        if options["resume"]:
            self._carry_out(options["resume"])
            return
        selection = selection_options.selection(options)
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


def _ordered(selection: Selection, reason: str, why: str) -> str:
    try:
        return mass_revocation.order(selection, reason, why, BY, datetime.now(UTC))
    except Problem as problem:
        raise CommandError(problem.detail) from None
