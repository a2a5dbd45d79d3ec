"""Charts as plain SVG: geometry in numbers, drawn by templates/dashboard/svg/.

Owns the arithmetic from values to coordinates. Every chart is also text: a label for each mark, and a table beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

WIDTH, HEIGHT = 720, 120
_EDGE = 24  # closer to an end of the field no text is centred


@dataclass(frozen=True, slots=True)
class Mark:
    """A rectangle. `kind` its class; `label` what it says."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    label: str


class Tick(NamedTuple):
    """A text below the field; `anchor` is which of its ends is at `x`, so that none is cut off."""

    x: float
    text: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Chart:
    """`marks` in a field of `width` × `height`, `ticks` below it."""

    title: str
    width: int
    height: int
    marks: Sequence[Mark]
    ticks: Sequence[Tick]
    top: str = ""  # what the full height stands for


def columns(title: str, values: Sequence[tuple[str, Sequence[tuple[str, int]]]], every: int = 1) -> Chart:
    """Stacked columns: [(label, [(kind, count), …])]; every so many-th label is written below."""
    most = max((sum(count for _, count in parts) for _, parts in values), default=0)
    step = WIDTH / max(len(values), 1)
    marks: list[Mark] = []
    for index, (label, parts) in enumerate(values):
        marks += _stack(index * step + step * 0.1, step * 0.8, label, parts, most)
    ticks = [_tick(index * step + step / 2, label) for index, (label, _) in enumerate(values) if index % every == 0]
    return Chart(title, WIDTH, HEIGHT, marks, ticks, f"{most:,}" if most else "")


def _tick(x: float, text: str) -> Tick:
    return Tick(round(x, 1), text, "start" if x < _EDGE else "end" if x > WIDTH - _EDGE else "middle")


def _stack(x: float, width: float, label: str, parts: Sequence[tuple[str, int]], most: int) -> list[Mark]:
    marks, base = [], float(HEIGHT)
    for kind, count in parts:
        if count:
            height = max(2.0, count / most * (HEIGHT - 4))
            base -= height
            marks.append(Mark(round(x, 1), round(base, 1), round(width, 1), round(height, 1), kind, f"{label}: {count:,} {kind}"))
    return marks


def spans(title: str, bars: Sequence[tuple[str, str, datetime, datetime]], now: datetime) -> Chart:
    """Lifetimes on one time axis, a row each: [(label, kind, start, end)], with a line at `now`."""
    starts, ends = [bar[2] for bar in bars] + [now], [bar[3] for bar in bars] + [now]
    first, whole = min(starts), max((max(ends) - min(starts)).total_seconds(), 1.0)

    def at(moment: datetime) -> float:
        return round((moment - first).total_seconds() / whole * WIDTH, 1)

    rows = [
        Mark(at(start), 4.0 + 18 * row, max(2.0, at(end) - at(start)), 12.0, kind, label)
        for row, (label, kind, start, end) in enumerate(bars)
    ]
    height = 18 * len(bars) + 6
    line = Mark(min(at(now), WIDTH - 1.5), 0.0, 1.5, float(height), "now", "now")
    return Chart(title, WIDTH, height, [*rows, line], [_tick(0.0, f"{first:%Y-%m-%d}"), _tick(float(WIDTH), f"{max(ends):%Y-%m-%d}")])


def share(start: datetime, end: datetime, now: datetime) -> int:
    """How much of a lifetime has passed, in whole percent from 0 to 100."""
    return max(0, min(100, round((now - start) / (end - start) * 100))) if end > start else 100
