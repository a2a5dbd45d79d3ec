"""Tiles, C2SP tlog-tiles: 256 hashes of one level, or 256 entries, as the database holds them.

Reads only. A tile of level L holds the roots of complete subtrees of 256^L events; what is not complete yet is never hashed upward.
"""

from __future__ import annotations

from django.db.models import QuerySet

from .merkle import TILE_WIDTH
from .models import Event, TileHash


class NoSuchTile(LookupError):
    """The log is not that large yet; or, below its size, rows are missing (verify_log finds them)."""


def hashes(level: int, index: int, width: int = TILE_WIDTH) -> list[bytes]:
    """The first `width` hashes of tile `index` on `level`. Raises NoSuchTile unless there are so many."""
    first = index * TILE_WIDTH
    if level:
        rows = TileHash.objects.filter(level=level, index__gte=first, index__lt=first + width).order_by("index")
        found = [bytes(value) for value in rows.values_list("hash", flat=True)]
    else:
        found = [bytes(value) for value in _events(first, width).values_list("leaf_hash", flat=True)]
    return _whole(found, width)


def entries(index: int, width: int = TILE_WIDTH) -> list[bytes]:
    """The bodies of the first `width` events of entry bundle `index`. Raises NoSuchTile unless there are so many."""
    return _whole([bytes(value) for value in _events(index * TILE_WIDTH, width).values_list("body", flat=True)], width)


def bundle(index: int, width: int = TILE_WIDTH) -> bytes:
    """The entry bundle: each body behind its length as 16 bits, big-endian."""
    return b"".join(len(body).to_bytes(2, "big") + body for body in entries(index, width))


def _events(first: int, width: int) -> QuerySet[Event]:
    return Event.objects.filter(position__gt=first, position__lte=first + width).order_by("position")


def _whole(found: list[bytes], width: int) -> list[bytes]:
    if len(found) != width:
        raise NoSuchTile(f"the tile has {len(found)} of {width} entries")
    return found
