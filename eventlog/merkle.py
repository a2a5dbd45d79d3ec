"""The Merkle tree of RFC 6962 §2.1 / RFC 9162 §2.1, and its proofs.

Pure: knows hashes and sizes, no database. A leaf is counted from 0 here and as in the RFCs; positions in the log are
counted from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

EMPTY_ROOT = sha256().digest()
TILE_HEIGHT = 8  # a tile spans 2**8 hashes of one level, C2SP tlog-tiles
TILE_WIDTH = 1 << TILE_HEIGHT

Subtree = Callable[[int, int], bytes]  # (start, end) → MTH(D[start:end])


def leaf_hash(body: bytes) -> bytes:
    return sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def root_of(nodes: Sequence[bytes]) -> bytes:
    """The root over perfect subtrees of falling size, largest first."""
    if not nodes:
        return EMPTY_ROOT
    root = nodes[-1]
    for node in reversed(nodes[:-1]):
        root = node_hash(node, root)
    return root


class Tree:
    """A tree that only grows. `size` leaves, and `nodes`: the roots of their perfect subtrees, largest first.

    add() costs two hashes on average. `complete` collects (level, index, hash) of the tile hashes (level ≥ 1) that
    have become complete; the caller takes and clears it.
    """

    def __init__(self, size: int = 0, nodes: Sequence[bytes] = ()) -> None:
        if len(nodes) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} perfect subtrees, not {len(nodes)}")
        self.size, self.nodes = size, list(nodes)
        self.complete: list[tuple[int, int, bytes]] = []

    @classmethod
    def from_bytes(cls, size: int, nodes: bytes) -> Tree:
        """The inverse of to_bytes(). Raises ValueError for what to_bytes() cannot have made."""
        if len(nodes) % 32:
            raise ValueError("a node has 32 bytes")
        return cls(size, [nodes[start : start + 32] for start in range(0, len(nodes), 32)])

    def to_bytes(self) -> bytes:
        return b"".join(self.nodes)

    def add(self, leaf: bytes) -> None:
        nodes = self.nodes
        nodes.append(leaf)
        self.size += 1
        height, index = 0, self.size
        while not index & 1:  # a subtree as large as its left neighbour joins it
            right = nodes.pop()
            nodes[-1] = sha256(b"\x01" + nodes[-1] + right).digest()
            height, index = height + 1, index >> 1
            if not height % TILE_HEIGHT:
                self.complete.append((height // TILE_HEIGHT, index - 1, nodes[-1]))

    def root(self) -> bytes:
        return root_of(self.nodes)


def split(size: int) -> int:
    """The largest power of two smaller than `size` (≥ 2)."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_path(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962 §2.1.1, leaf to root."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    path, start, end = [], 0, size
    while end - start > 1:
        middle = start + split(end - start)
        if index < middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(start, middle))
            start = middle
    return path[::-1]


def consistency_path(old: int, size: int, subtree: Subtree) -> list[bytes]:
    """PROOF(old, D[size]) of RFC 6962 §2.1.2; empty for old == size."""
    if not 0 < old <= size:
        raise ValueError(f"a tree of {old} is not a prefix of one of {size}")
    path, start, end, whole = [], 0, size, True
    while old != end:
        middle = start + split(end - start)
        if old <= middle:
            path.append(subtree(middle, end))
            end = middle
        else:
            path.append(subtree(start, middle))
            start, whole = middle, False
    if not whole:
        path.append(subtree(start, end))
    return path[::-1]


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that `path` leads to from `leaf`, or None when its length does not fit (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size:
        return None
    root, last, rest = leaf, size - 1, iter(path)
    while last:
        if index & 1 or index < last:
            node = next(rest, None)
            if node is None:
                return None
            root = node_hash(node, root) if index & 1 else node_hash(root, node)
        index, last = index >> 1, last >> 1
    return root if next(rest, None) is None else None


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether `path` shows `leaf` at `index` (from 0) of the tree of `size` leaves under `root`."""
    return root_from_inclusion(leaf, index, size, path) == root


def verify_consistency(old: int, size: int, path: Sequence[bytes], old_root: bytes, root: bytes) -> bool:
    """Whether `path` shows that the tree of `old` leaves is a prefix of that of `size` (RFC 9162 §2.1.4.2)."""
    if not 0 < old <= size:
        return False
    if old == size:
        return not path and old_root == root
    nodes = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not nodes:
        return False
    return _climb(old - 1, size - 1, nodes) == (old_root, root)


def _climb(old_last: int, last: int, nodes: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Both roots from a consistency path; `old_last` and `last` are the trees' last leaves."""
    while old_last & 1:
        old_last, last = old_last >> 1, last >> 1
    old_root = root = nodes[0]
    for node in nodes[1:]:
        if not last:
            return None
        if old_last & 1 or old_last == last:
            old_root, root = node_hash(node, old_root), node_hash(node, root)
            while old_last and not old_last & 1:
                old_last, last = old_last >> 1, last >> 1
        else:
            root = node_hash(root, node)
        old_last, last = old_last >> 1, last >> 1
    return (old_root, root) if not last else None
