"""manage.py rebuild [NAME]: make projections anew from the log."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from eventlog import projections


class Command(BaseCommand):
    help = "Empty the tables of a projection, or of all, and fill them again from the log."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", help="one projection; default: all")

    def handle(self, *, name: str | None, verbosity: int, **options: Any) -> None:
        if name is not None and name not in projections.names():
            raise CommandError(f"there is no projection {name!r}; there are: {', '.join(projections.names())}")
        for each in [name] if name else projections.names():
            count = projections.rebuild(each, self._progress if verbosity > 1 else None)
            self.stdout.write(f"{each}: {count} events")

    def _progress(self, position: int, size: int) -> None:
        if not position % 100_000:
            self.stderr.write(f"{position} of {size}")
