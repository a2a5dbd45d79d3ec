"""manage.py export_log [FILE]: the whole log as NDJSON, for import_log or for whoever reads JSON."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from eventlog import backups, head, transfer


class Command(BaseCommand):
    help = "Write the whole log as NDJSON, one event a line: event, hash, position, subject, time, type."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, help="a new file, noted as a backup; default: standard output")

    def handle(self, *, file: Path | None, **options: Any) -> None:
        began, size = datetime.now(UTC), head.size()
        lines = transfer.export(upto=size)
        if file is None:
            self.stdout.ending = ""
            for text in lines:
                self.stdout.write(text.decode())
            return
        with open(file, "xb") as out:
            out.writelines(lines)
            out.flush()
            os.fsync(out.fileno())
        backups.note("export_log", size, began)
