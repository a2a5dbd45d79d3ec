"""The list of certificates: newest first, filtered, in pages.

Owns filters and cursors. Only whitelisted names reach the database, each by code of its own. Must never look at more than a
bounded number of rows, however many certificates there are: every page walks one index, newest first. A filter that this
index cannot serve is tried on the next WINDOW rows of it, so such a page may be short, or empty, and still have a next one.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from operator import and_, or_
from typing import Any

from django.db import connection
from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.db.models.lookups import Contains

from ca.errors import Problem
from ca.models import Certificate, CertificateName

from .representations import ACTIVE, CERTIFICATE_COLUMNS, EXPIRED, REVOKED, Row
from .submissions import NAME_KINDS, instant, name_value

DEFAULT_LIMIT, MAX_LIMIT = 50, 200
WINDOW = 10_000  # rows that one page looks at
MATCHES = 1_000  # rows of one name, or of one prefix
_LIMIT = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)
_CURSOR = re.compile(r"[A-Za-z0-9_-]{11}", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{1,64}", re.ASCII)


Walk = QuerySet[Any]  # of a model with log_position


@dataclass(frozen=True, slots=True)
class Page:
    """`rows` have CERTIFICATE_COLUMNS; `cursor` leads to the next page, None if there is none."""

    rows: list[Row]
    cursor: str | None


def page(parameters: Mapping[str, str], owner: str | None, now: datetime, own: Collection[str] | None = None) -> Page:
    """The page that `parameters` (each of PARAMETERS, at most once) ask for; of `owner` alone, or None for all. `own`: of these owners
    only, whatever is asked; None: of any. Raises Problem."""
    most, before = limit(parameters.get("limit")), _before(parameters.get("cursor"))
    walk, rest = _plan(parameters, owner, now)
    rest = rest if own is None else rest & Q(owner__in=own)
    window, floor = _window(walk if before is None else walk.filter(log_position__lt=before), bool(rest))
    rows: list[Row] = list(window.filter(rest).order_by("-log_position").values(*CERTIFICATE_COLUMNS)[: most + 1])
    if len(rows) > most:
        return Page(rows[:most], _cursor(rows[most - 1]["log_position"]))
    return Page(rows, None if floor is None else _cursor(floor + 1))


def _window(walk: Walk, is_filtered: bool) -> tuple[QuerySet[Certificate], int | None]:
    """The certificates that one page of `walk` may look at, and the position of the first one after them, if any."""
    positions = walk.order_by("-log_position").values_list("log_position", flat=True)
    if walk.model is CertificateName:
        first = list(positions[: MATCHES + 1])
        return Certificate.objects.filter(log_position__in=first[:MATCHES]), next(iter(first[MATCHES:]), None)
    floor = next(iter(positions[WINDOW : WINDOW + 1]), None) if is_filtered else None
    return (walk if floor is None else walk.filter(log_position__gt=floor)), floor


def limit(text: str | None) -> int:
    """How many entries a page has, by its parameter `limit`. Raises Problem."""
    if text is None:
        return DEFAULT_LIMIT
    if not _LIMIT.fullmatch(text) or int(text) > MAX_LIMIT:
        raise Problem("invalidParameter", f"limit is a whole number from 1 to {MAX_LIMIT}", "limit")
    return int(text)


# --- Cursors: the log position below which the next page begins


def _cursor(position: int) -> str:
    return urlsafe_b64encode(position.to_bytes(8, "big")).decode().rstrip("=")


def _before(text: str | None) -> int | None:
    if text is None:
        return None
    position = int.from_bytes(urlsafe_b64decode(text + "="), "big") if _CURSOR.fullmatch(text) else 0
    if not 0 < position < 1 << 63 or _cursor(position) != text:
        raise Problem("invalidParameter", "cursor is not one of ours: take it from a page's `next`", "cursor")
    return position


# --- Filters


def _plan(parameters: Mapping[str, str], owner: str | None, now: datetime) -> tuple[Walk, Q]:
    """What to walk, as an index orders it, and what the certificates met there must fulfil besides."""
    rest = {name: _FILTERS[name](text, now) for name, text in parameters.items() if name in _FILTERS}
    if owner is not None:
        rest["owner"] = Q(owner=owner)
    few, matches = _search(parameters["q"]) if "q" in parameters else (False, Q())
    walk: Walk
    if "name" in parameters:
        walk = CertificateName.objects.filter(name=name_value(parameters["name"]))
    elif few:
        walk, matches = Certificate.objects.filter(matches), Q()
    elif "service" in rest:
        walk = Certificate.objects.filter(rest.pop("service"), rest.pop("node", Q()))
    else:
        walk = Certificate.objects.filter(rest.pop("owner", Q()))
    return walk, reduce(and_, rest.values(), matches)


def _status(text: str, now: datetime) -> Q:
    if text not in _STATUSES:
        raise Problem("invalidParameter", f"status is one of {', '.join(_STATUSES)}", "status")
    return _STATUSES[text](now)


_STATUSES: Mapping[str, Callable[[datetime], Q]] = {
    ACTIVE: lambda now: Q(revoked_at=None, not_after__gte=now),
    EXPIRED: lambda now: Q(revoked_at=None, not_after__lt=now),
    REVOKED: lambda now: Q(revoked_at__isnull=False),
}
_FILTERS: Mapping[str, Callable[[str, datetime], Q]] = {
    "service": lambda text, now: Q(service=text),
    "node": lambda text, now: Q(node=text),
    "profile": lambda text, now: Q(profile=text),
    "status": _status,
    "expires_before": lambda text, now: Q(not_after__lt=instant(text, "expires_before", "invalidParameter")),
    "expires_after": lambda text, now: Q(not_after__gt=instant(text, "expires_after", "invalidParameter")),
}
PARAMETERS = frozenset({"limit", "cursor", "name", "q", *_FILTERS})


# --- Search: certificates of which a name, the serial or the fingerprint begins with a text


def _search(text: str) -> tuple[bool, Q]:
    """True and the positions of all matches, if they are few; else False and the comparison to make row by row: so common
    a beginning is met soon whichever way one walks."""
    if not text:
        raise Problem("invalidParameter", "q is the beginning of a name, serial or fingerprint", "q")
    name, number = name_value(text), text.replace(":", "").lower()
    lookups: list[Walk] = [CertificateName.objects.filter(_begins("name", name))]
    compared = reduce(or_, (Q(Contains(Cast("names", TextField()), f'"{kind}:{name}')) for kind in NAME_KINDS))
    if _HEX.fullmatch(number):
        lookups += [Certificate.objects.filter(_begins(field, number)) for field in ("serial", "fingerprint")]
        compared |= Q(serial__startswith=number) | Q(fingerprint__startswith=number)
    found = [list(rows.values_list("log_position", flat=True)[: MATCHES + 1]) for rows in lookups]
    few = all(len(positions) <= MATCHES for positions in found)
    return few, Q(log_position__in={position for positions in found for position in positions}) if few else compared


def _begins(field: str, prefix: str) -> Q:
    """LIKE on PostgreSQL, where the index is made for it and a range would follow the database's collation; a range on
    SQLite, where LIKE does not use the index."""
    if connection.vendor == "postgresql":
        return Q(**{f"{field}__startswith": prefix})
    return Q(**{f"{field}__gte": prefix, f"{field}__lt": prefix + "\U0010ffff"})
