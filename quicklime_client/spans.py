"""How long something still takes, as people read it."""

from __future__ import annotations

from datetime import timedelta

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def text(span: timedelta) -> str:
    """The largest unit that leaves at least two of it: "89 d", "35 h", "12 min"; "over" for what has passed."""
    seconds = span.total_seconds()
    if seconds < 0:
        return "over"
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= 2 * size), (1, "s"))
    return f"{seconds // size:.0f} {unit}"
