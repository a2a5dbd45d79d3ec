"""manage.py note_backup COMMAND…: run what makes a backup, and note that there is one."""

from __future__ import annotations

import subprocess
from argparse import REMAINDER
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from eventlog import backups, head


class Command(BaseCommand):
    help = "Run COMMAND, which copies the database to elsewhere. If it succeeds, /readyz and the dashboard count from when it began."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("command", nargs=REMAINDER, help="for example: pg_dump -Fc -f /backup/quicklime.dump quicklime")

    def handle(self, *, command: list[str], **options: Any) -> None:
        if not command:
            raise CommandError("say what makes the backup: note_backup COMMAND…")
        began, size = datetime.now(UTC), head.size()
        try:
            done = subprocess.run(command, check=False)
        except OSError as error:
            raise CommandError(f"{command[0]}: {error.strerror}") from None
        if done.returncode:
            raise CommandError(f"{command[0]} failed with {done.returncode}: no backup was noted", returncode=done.returncode % 256 or 1)
        backups.note(command[0], size, began)
        self.stdout.write(f"noted: {size} events")
