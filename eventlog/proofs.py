"""Roots and proofs over the log, RFC 6962 §2.1, from at most two tiles of each level, whatever the log's size.

Reads only. Positions are counted from 1, as everywhere in the log; `merkle` holds the algorithms and the verifiers.
"""

from __future__ import annotations

from . import head, merkle, tiles
from .merkle import TILE_HEIGHT, TILE_WIDTH, node_hash


def root_at(size: int) -> bytes:
    """The Merkle root over the first `size` events. Raises ValueError when there are fewer."""
    _require(size)
    return _Subtrees(size)(0, size) if size else merkle.EMPTY_ROOT


def inclusion_proof(position: int, size: int) -> list[bytes]:
    """The hashes from event `position` up to the root over the first `size` events. Raises ValueError for a position not
    among them."""
    _require(size)
    return merkle.inclusion_path(position - 1, size, _Subtrees(size))


def consistency_proof(old: int, size: int) -> list[bytes]:
    """The hashes that show the first `old` events to be a prefix of the first `size`; 0 < old ≤ size, else ValueError."""
    _require(size)
    return merkle.consistency_path(old, size, _Subtrees(size))


def _require(size: int) -> None:
    if size > head.size():
        raise ValueError(f"the log has fewer than {size} events")


class _Subtrees:
    """MTH(D[start:end]) for the ranges that RFC 6962 asks for, with a memory of the tiles read for one proof."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    def __call__(self, start: int, end: int) -> bytes:
        size = end - start
        if size & (size - 1) == 0:
            return self._perfect(start, size)
        middle = start + merkle.split(size)
        return node_hash(self(start, middle), self(middle, end))

    def _perfect(self, start: int, size: int) -> bytes:
        """A perfect subtree from the highest tile level that divides it: 1 to 128 hashes of one tile."""
        level = (size.bit_length() - 1) // TILE_HEIGHT
        first, count = start >> level * TILE_HEIGHT, size >> level * TILE_HEIGHT
        tile, offset = divmod(first, TILE_WIDTH)
        nodes = self._tile(level, tile)[offset : offset + count]
        while len(nodes) > 1:
            nodes = [node_hash(left, right) for left, right in zip(nodes[::2], nodes[1::2], strict=True)]
        return nodes[0]

    def _tile(self, level: int, index: int) -> list[bytes]:
        if (level, index) not in self._tiles:
            complete = self._size >> level * TILE_HEIGHT
            self._tiles[level, index] = tiles.hashes(level, index, min(complete - index * TILE_WIDTH, TILE_WIDTH))
        return self._tiles[level, index]
