"""manage.py rebuild [NAME]: make projections anew from the log."""

from __future__ import annotations

import gc
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from eventlog import projections

_ALLOCATED = 100_000  # objects; a chunk makes a tenth of it, and gives it back without the collector


class Command(BaseCommand):
    help = "Empty the tables of a projection, or of all, and fill them again from the log."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", nargs="?", help="one projection; default: all")

    def handle(self, *, name: str | None, verbosity: int, **options: Any) -> None:
        if name is not None and name not in projections.names():
            raise CommandError(f"there is no projection {name!r}; there are: {', '.join(projections.names())}")
        gc.freeze()  # what Django loaded lives as long as the command: looking through it again and again took a tenth of the time,
        gc.set_threshold(_ALLOCATED)  # and looking through each chunk as it is read as much of what Python does
        for each in [name] if name else projections.names():
            count = projections.rebuild(each, self._progress if verbosity > 1 else None)
            self.stdout.write(f"{each}: {count} events")

    def _progress(self, position: int, size: int) -> None:
        if not position % 100_000:
            self.stderr.write(f"{position} of {size}")
