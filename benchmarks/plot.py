"""Line charts as SVG, written by hand: no library, no script in the file, the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 880, 200, 64, 16, 34, 34
COLOURS = ("#0b6e4f", "#b3261e")


@dataclass(frozen=True)
class Panel:
    """A chart: the x values run evenly from `begin` to `end`, in `unit`; `lines` are (name, y values); `shaded` a stretch of x."""

    title: str
    begin: float
    end: float
    step: float
    unit: str
    lines: Sequence[tuple[str, Sequence[float]]]
    shaded: tuple[float, float, str] | None = None


def svg(panels: Sequence[Panel]) -> str:
    """The panels below one another."""
    height = HEIGHT * len(panels)
    body = "".join(_panel(panel, number * HEIGHT) for number, panel in enumerate(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="#222">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n{body}</svg>\n'
    )


def _panel(panel: Panel, top: float) -> str:
    highest = _round_up(max(max(values) for _, values in panel.lines))
    parts = [f'<text x="{LEFT}" y="{top + 20}" font-size="14" font-weight="bold">{escape(panel.title)}</text>\n']
    if panel.shaded:
        begin, end, name = panel.shaded
        x, width = _x(panel, begin), _x(panel, end) - _x(panel, begin)
        parts.append(f'<rect x="{x:.1f}" y="{top + TOP}" width="{width:.1f}" height="{HEIGHT - TOP - BOTTOM}" fill="#eee"/>\n')
        parts.append(f'<text x="{x + width / 2:.1f}" y="{top + TOP + 14}" text-anchor="middle" fill="#666">{escape(name)}</text>\n')
    parts += [_horizontal(top, highest, share) for share in (0.0, 0.5, 1.0)]
    parts += [_tick(panel, top, at) for at in _ticks(panel)]
    for number, (name, values) in enumerate(panel.lines):
        parts.append(_line(panel, top, values, highest, COLOURS[number]))
        x = WIDTH - RIGHT - 150 * (len(panel.lines) - number - 1)
        parts.append(f'<text x="{x}" y="{top + 20}" text-anchor="end" fill="{COLOURS[number]}">{escape(name)}</text>\n')
    return "".join(parts)


def _x(panel: Panel, value: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - panel.begin) / (panel.end - panel.begin)


def _y(top: float, share: float) -> float:
    return top + HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def _horizontal(top: float, highest: float, share: float) -> str:
    y = _y(top, share)
    label = f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{highest * share:,.0f}</text>\n'
    return f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ccc"/>\n{label}'


def _ticks(panel: Panel) -> list[float]:
    count = round((panel.end - panel.begin) / panel.step)
    return [panel.begin + number * panel.step for number in range(count + 1)]


def _tick(panel: Panel, top: float, at: float) -> str:
    label = f"{at:g} {panel.unit}" if at == panel.end else f"{at:g}"
    anchor = "end" if at == panel.end else "middle"
    return f'<text x="{_x(panel, at):.1f}" y="{top + HEIGHT - BOTTOM + 16}" text-anchor="{anchor}">{label}</text>\n'


def _line(panel: Panel, top: float, values: Sequence[float], highest: float, colour: str) -> str:
    step = (panel.end - panel.begin) / max(len(values) - 1, 1)
    points = " ".join(f"{_x(panel, panel.begin + number * step):.1f},{_y(top, value / highest):.1f}" for number, value in enumerate(values))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.2"/>\n'


def _round_up(value: float) -> float:
    """To one, two or five times a power of ten."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= value)
