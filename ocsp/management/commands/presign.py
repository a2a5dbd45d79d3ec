"""manage.py presign [--all] [--processes N]: make OCSP responses for everything now, without waiting for beat."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import Any

import django
from django.core.management.base import BaseCommand, CommandParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eventlog import clock, projections
from ocsp import presign
from ocsp.projections import NAME
from ocsp.responses import Answers

_PIECES = 64  # parts of all serials: the unit of progress, and of what a process does next
_BUDGET = 3600.0  # a slice ends by its rows here, not by its time


class Command(BaseCommand):
    help = "Sign OCSP responses for every certificate that has none or whose are due; with --all for every one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--all", action="store_true", help="also those whose responses are fresh")
        parser.add_argument("--processes", type=int, default=1, metavar="N", help="so many at once; default: 1")

    def handle(self, *, all: bool, processes: int, **options: Any) -> None:
        began = time.monotonic()
        projections.catch_up(NAME)
        which = presign.EVERYTHING if all else presign.MISSING_OR_DUE
        pieces = [(*part, which) for part in presign.parts(_PIECES)]
        stored = 0
        for count in self._shown(_in_processes(pieces, processes) if processes > 1 else map(sign_piece, pieces)):
            stored += count
        seconds = time.monotonic() - began
        self.stdout.write(f"{stored} certificates have new responses, {2 * stored / seconds:.0f} responses per second")

    def _shown(self, counts: Iterable[int]) -> Iterator[int]:
        columns = TextColumn("{task.fields[stored]:,} certificates"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task, stored = progress.add_task("", total=_PIECES, stored=0), 0
            for count in counts:
                stored += count
                progress.update(task, advance=1, stored=stored)
                yield count


def sign_piece(piece: tuple[str, str, str]) -> int:
    """Sign for the serials of one piece, slice by slice; how many certificates."""
    after: str | None
    after, upto, which = piece
    total, unable = 0, set[str]()
    while after is not None:
        now = datetime.now(UTC)
        clock.check(now)
        stored, after = presign.sign_from(after, upto, which, Answers(now, unable), now, _BUDGET)
        total += stored
    return total


def _in_processes(pieces: list[tuple[str, str, str]], processes: int) -> Iterator[int]:
    """Each process is a new interpreter: a fork would share this one's database connection."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=django.setup) as pool:
        for done in as_completed([pool.submit(sign_piece, piece) for piece in pieces]):
            yield done.result()
