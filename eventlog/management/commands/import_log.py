"""manage.py import_log FILE: rebuild an empty system from export_log's NDJSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from eventlog import projections, transfer
from eventlog.checkpoints import LogBehind


class Command(BaseCommand):
    help = "Load an exported log into an empty system, check it against itself and the saved checkpoints, rebuild every projection."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *, file: Path, **options: Any) -> None:
        try:
            with open(file, "rb") as lines:
                count = transfer.load(lines)
        except (OSError, transfer.BadExport, transfer.NotEmpty, LogBehind) as error:
            raise CommandError(str(error)) from None
        for name in projections.names():
            projections.rebuild(name)
        self.stdout.write(f"{count} events")
