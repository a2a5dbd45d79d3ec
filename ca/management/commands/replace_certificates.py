"""manage.py replace_certificates: have many renewed before a deadline, dry run first."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ca import mass_replacement
from ca.errors import Problem
from ca.management import selection_options
from ca.mass_replacement import Preview
from ca.models import Certificate, Replacement
from ca.pki.reasons import KEY_COMPROMISE, PERMITTED
from ca.revocation import CHUNK

BY = "manage.py"
LISTED = 20
_TIME = "%Y-%m-%d %H:%M UTC"


class Command(BaseCommand):
    help = (
        "Have every certificate of which all that is given holds renewed before a deadline, and revoke the old ones behind them. "
        "Without --yes nothing happens: it prints what would. Interrupted, the worker goes on. --status shows how far it is."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        selection_options.add(parser, serials="hex; repeatable")
        reasons = [reason for reason in PERMITTED["operator"] if reason != KEY_COMPROMISE]
        parser.add_argument("--deadline", type=_span, default=_span("48h"), metavar="SPAN", help="as in 48h, the default, or 7d")
        parser.add_argument("--reason", choices=reasons, default="superseded", help="for which the old ones are revoked")
        parser.add_argument("--why", default="", help="a sentence for the log")
        parser.add_argument("--yes", action="store_true", help="do it; nothing undoes it")
        parser.add_argument("--status", nargs="?", const="", metavar="ORDER", help="how far the order is; without one, all orders")

    def handle(self, *args: Any, **options: Any) -> None:
        self.console = Console(file=self.stdout, highlight=False, soft_wrap=True)  # type: ignore[arg-type]
        now = datetime.now(UTC).replace(microsecond=0)
        if options["status"] is not None:
            self._status(options["status"], now)
            return
        selection = selection_options.selection(options)
        if not options["why"].strip():
            raise CommandError("--why: the log keeps it")
        deadline, preview = now + options["deadline"], mass_replacement.preview(selection, now)
        try:
            mass_replacement.check(deadline, options["reason"], now)
        except Problem as problem:
            raise CommandError(problem.detail) from None
        self._show(preview, deadline)
        if not options["yes"]:
            self.console.print("This was a dry run: nothing is ordered. Repeat it with --yes.")
            return
        self._mark(mass_replacement.order(selection, deadline, options["reason"], options["why"].strip(), BY, now), preview.total)

    def _show(self, preview: Preview, deadline: datetime) -> None:
        if preview.unknown:
            raise CommandError(f"not issued: {', '.join(preview.unknown)}")
        table = Table("service", "profile", "certificates")
        for service, profile, count in preview.groups:
            table.add_row(service or "-", profile, str(count))
        self.console.print(table)
        self.console.print(f"{preview.total} to replace before {deadline:{_TIME}}; {preview.succeeded} of them have a successor already")
        for serial, names in preview.samples:
            self.console.print(f"  {serial}  {', '.join(names)}", markup=False)
        for warning in preview.warnings:
            self.console.print(f"note: {warning}", markup=False)

    def _mark(self, order: str, total: int) -> None:
        with Progress(console=self.console) as progress:
            bar = progress.add_task("marking", total=total)
            while mass_replacement.mark(order, datetime.now(UTC)):
                progress.advance(bar, CHUNK)
        self.console.print(f"order {order}: nodes learn of it when they check in; see how far it is with --status {order}")

    def _status(self, order: str, now: datetime) -> None:
        rows = Replacement.objects.order_by("-position")
        if order:
            rows = rows.filter(order=order)
            if not rows:
                raise CommandError(f"there is no order {order!r}; its id has 16 hex digits")
        for row in rows:
            self.console.print(_line(row, now), markup=False)
        if order:
            self._waiting(order, now)

    def _waiting(self, order: str, now: datetime) -> None:
        waiting = Certificate.objects.filter(replacement=order, revoked_at=None, replaced_by=None, not_after__gte=now)
        for row in waiting.order_by("service", "node", "log_position")[:LISTED]:
            self.console.print(f"  waiting: {row.service or '-'} {row.node or '-'}  {row.serial}  {', '.join(row.names)}", markup=False)


def _line(row: Replacement, now: datetime) -> str:
    state = "completed" if row.completed_at else "marking" if row.marked_to < row.position else "under way"
    counts = mass_replacement.progress(row.order, now)._asdict()
    return f"{row.order}  {state}, deadline {row.deadline:{_TIME}}: " + ", ".join(f"{count} {name}" for name, count in counts.items())


def _span(text: str) -> timedelta:
    match = re.fullmatch("([1-9][0-9]{0,4})([hd])", text, re.ASCII)
    if not match:
        raise ArgumentTypeError("a deadline is so many hours or days ahead, as in 48h or 7d")
    return timedelta(hours=int(match[1]) * {"h": 1, "d": 24}[match[2]])
