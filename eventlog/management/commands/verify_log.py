"""manage.py verify_log: is the log whole? Exit status 1, and the first bad position, when it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from eventlog.verify import verify


class Command(BaseCommand):
    help = "Check every event, the Merkle tree and all signed checkpoints; name the first bad position."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--checkpoints", type=Path, metavar="DIR", help="saved checkpoints; default: QUICKLIME_CHECKPOINT_DIR")
        parser.add_argument("--key", action="append", default=[], metavar="VKEY", help="verifier key to believe, instead of those saved")

    def handle(self, *, checkpoints: Path | None, key: list[str], verbosity: int, **options: Any) -> None:
        report = verify(checkpoints, self._progress if verbosity > 1 else None, tuple(key))
        if not report.ok:
            where = "" if report.first_bad is None else f"first bad position {report.first_bad}: "
            raise CommandError(where + report.problem)
        self.stdout.write(f"The log is whole: {report.size} events, {report.checkpoints} checkpoints hold, root {report.root.hex()}")

    def _progress(self, position: int, size: int) -> None:
        if not position % 100_000:
            self.stderr.write(f"{position} of {size}")
