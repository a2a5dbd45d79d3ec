"""How values look on a page: times, serials, standings.

Owns the words and their markup; everything passes Django's escaping.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from dashboard import decoding, newcomers

register = template.Library()
register.simple_tag(newcomers.state_file)
register.simple_tag(newcomers.host, name="example_host")
_STEPS = ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (86400 * 120, 86400, "d"), (86400 * 730, 86400 * 30.44, "months"))


def distance(delta: timedelta) -> str:
    """ "3 min ago", "in 12 d"."""
    seconds = delta.total_seconds()
    count = _count(abs(seconds))
    return f"in {count}" if seconds > 0 else f"{count} ago"


def _count(seconds: float) -> str:
    for most, unit, name in _STEPS:
        if seconds < most:
            return f"{int(seconds / unit)} {name}"
    return f"{seconds / 86400 / 365.25:.1f} years"


@register.simple_tag(takes_context=True)
def when(context: template.Context, moment: datetime | str | None) -> SafeString | str:
    """A moment, relative to the page's own, with the exact one on hover and for machines."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if moment is None:
        return "never"
    exact = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>', exact, f"{moment:%Y-%m-%d %H:%M:%S}", distance(moment - context["now"])
    )


@register.filter
def short(text: str) -> str:
    """The beginning of a serial or fingerprint, enough to recognise it by."""
    return f"{text[:12]}…" if len(text) > 12 else text


@register.filter
def tail(value: object) -> str:
    """The end of a time-ordered id, in which those of one moment differ."""
    return f"…{str(value)[-12:]}"


@register.filter
def grouped(number: int) -> str:
    """1,234,567."""
    return f"{number:,}"


@register.filter
def stamp(moment: datetime | None) -> str:
    """A moment as a form's field has it; "" for none."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}" if moment else ""


@register.filter
def spoken(word: str) -> str:
    """A name of the program's as people read it: "left behind" of "left_behind"."""
    return word.replace("_", " ").replace("-", " ")


@register.filter
def bare(name: str) -> str:
    """A name without its kind, as people say it: "a.internal" of "dns:a.internal"."""
    return name.removeprefix("dns:").removeprefix("ip:").removeprefix("uri:")


@register.filter
def octets(value: bytes) -> str:
    return decoding.hexadecimal(bytes(value))


_GOOD, _WARN, _BAD, _CALM = "good", "warn", "bad", "calm"
_TONES = {
    "active": _GOOD, "good": _GOOD, "live": _GOOD, "issued": _GOOD, "not listed": _GOOD,
    "current": _GOOD, "sent": _GOOD, "completed": _GOOD,
    "revoked": _BAD, "rejected": _BAD, "failed": _BAD, "not delivered": _BAD,
    "expired": _CALM, "replaced": _CALM, "superseded": _CALM, "waiting": _CALM,
}  # fmt: skip
_SHAPES = {_GOOD: "●", _WARN: "▲", _BAD: "■", _CALM: "○"}


@register.simple_tag
def standing(word: str, tone: str = "") -> SafeString:
    """A status as a word with a shape before it: colour alone says nothing to many people."""
    tone = tone or _TONES.get(word, _WARN)
    return format_html('<span class="standing {}"><span aria-hidden="true">{}</span> {}</span>', tone, _SHAPES[tone], word)


@register.simple_tag
def check(ok: bool) -> SafeString:
    """The sign of one thing that was checked."""
    return standing("holds" if ok else "fails", _GOOD if ok else _BAD)


@register.simple_tag(takes_context=True)
def query(context: template.Context, **changes: Any) -> str:
    """The page's own understood parameters as a query string, with some changed; None or "" leaves one out."""
    return "?" + urlencode({name: value for name, value in {**(context.get("asked") or {}), **changes}.items() if value})
