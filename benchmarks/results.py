"""Measured figures: how they are taken (guard, medians) and where they are kept (one JSON file for each section)."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine, paths
from benchmarks.failure import Paused

Row = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """How a section is run. `tries`: how often a disturbed run is taken again before the least disturbed one counts.
    `until`: on the monotonic clock, when no other row is begun."""

    seconds: int = 10
    runs: int = 3
    tries: int = 4
    events: int = 1_000_000
    resume: bool = False
    until: float = float("inf")
    quick: bool = False


@dataclass
class Section:
    """The rows of one section, by key, each saved as soon as it is measured so that a broken run can go on."""

    name: str
    command: str
    options: Options
    rows: dict[str, Row] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.options.resume and (old := load(self.name, self.options.quick)):
            self.rows, self.facts = old["rows"], old["facts"]
        self._disk = machine.disk(paths.DISK)

    def measure(self, key: str, take: Callable[[], Row]) -> Row:
        """The row `key`: the median of `take`'s runs, or the row of the run that is resumed. Raises Paused when it is too late."""
        if key in self.rows:
            print(f"  {self.name}: {key}: kept from before", flush=True)
            return self.rows[key]
        if time.monotonic() > self.options.until:
            raise Paused
        runs = [undisturbed(take, self.options.tries, f"{self.name}: {key}") for _ in range(self.options.runs)]
        return self.record(key, median(runs))

    def record(self, key: str, row: Row) -> Row:
        """Keep a row that was taken already."""
        self.rows[key] = row
        self.save()
        print(f"  {self.name}: {key}: {_short(row)}", flush=True)
        return row

    def save(self) -> None:
        facts = {"machine": machine.describe(), "disk": self._disk, **self.facts}
        asked = self.options
        options = {"seconds": asked.seconds, "runs": asked.runs, "tries": asked.tries, "events": asked.events}
        taken = {"at": datetime.now(UTC).isoformat(timespec="minutes"), "command": self.command, "options": options, "facts": facts}
        content = {**taken, "rows": self.rows}
        _file(self.name, self.options.quick).write_text(json.dumps(content, indent=1))


def _file(name: str, quick: bool) -> Path:
    return paths.results("results-quick" if quick else "results") / f"{name}.json"


def load(name: str, quick: bool = False) -> dict[str, Any] | None:
    """What a section left, or None. Quick runs are kept apart."""
    file = _file(name, quick)
    return json.loads(file.read_text()) if file.exists() else None


def undisturbed(take: Callable[[], Row], tries: int, what: str) -> Row:
    """A run during which others used less than the limit; after `tries`, the least disturbed one, with its figure."""
    taken: list[Row] = []
    while len(taken) < tries:
        taken.append(take())
        if taken[-1]["foreign_cores"] <= machine.FOREIGN_LIMIT:
            return taken[-1]
        print(f"  {what}: others used {taken[-1]['foreign_cores']:.2f} cores ({len(taken)} of {tries} tries)", flush=True)
    return min(taken, key=lambda row: row["foreign_cores"])


def median(runs: list[Row]) -> Row:
    """The median of each number; dicts number by number; anything else from the first run."""
    return {key: _median([run.get(key) for run in runs]) for key in runs[0]}


def _median(values: list[Any]) -> Any:
    if isinstance(values[0], dict):
        keys = {key: None for value in values for key in value}
        return {key: _median([value.get(key, 0.0) for value in values]) for key in keys}
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return statistics.median(values) if numbers else values[0]


def _short(row: Row) -> str:
    return ", ".join(f"{key} {value:,.2f}" for key, value in row.items() if isinstance(value, float))


def cpu_columns(usage: machine.Usage, made: int) -> Row:
    """CPU in ms for each of `made` things: by process, the servers' core busy with none of them, and that core idle."""
    each = 1e3 / max(made, 1)
    other = max(usage.core_busy - sum(usage.cpu.values()), 0.0)
    return {
        "cpu_ms": {name: seconds * each for name, seconds in sorted(usage.cpu.items())},
        "core_other_ms": other * each,
        "core_idle_ms": max(usage.seconds - usage.core_busy, 0.0) * each,
        "load_core": usage.load / usage.seconds,
        "foreign_cores": usage.foreign,
    }
