"""The head row: the sequencer's lock and the state of the incremental tree.

Owns the order of appends. Whoever changes the log holds lock() from its first to its last write.
"""

from __future__ import annotations

from typing import Any

from django.db import connection

from .bulk import insert_rows, read_rows
from .merkle import Tree
from .models import Head, TileHash

_READ = "SELECT size, nodes FROM eventlog_head WHERE id = 1"


def lock() -> Tree:
    """The tree over everything committed; until the transaction ends nobody else can append.

    PostgreSQL locks the row; SQLite's transactions are IMMEDIATE and exclude each other from their start.
    """
    statement = _READ + " FOR UPDATE" if connection.vendor == "postgresql" else _READ
    with connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone()
        if row is None:  # the very first append; two of them agree on one row
            cursor.execute("INSERT INTO eventlog_head (id, size, nodes) VALUES (1, 0, %s) ON CONFLICT DO NOTHING", [b""])
            cursor.execute(statement)
            row = cursor.fetchone()
    return _tree(row)


def read() -> Tree:
    """The tree as last committed, without a lock."""
    with connection.cursor() as cursor:
        cursor.execute(_READ)
        row = cursor.fetchone()
    return _tree(row) if row else Tree()


def size() -> int:
    """How many events there are."""
    rows = read_rows(Head, ("size",), "WHERE id = 1")
    return int(rows[0][0]) if rows else 0


def save(tree: Tree) -> None:
    """Store the tree that lock() gave and add() grew."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE eventlog_head SET size = %s, nodes = %s WHERE id = 1", [tree.size, tree.to_bytes()])
    save_complete(tree)


def save_complete(tree: Tree) -> None:
    """Store the tile hashes that became complete, and forget them in `tree`."""
    if tree.complete:
        insert_rows(TileHash, ("level", "index", "hash"), tree.complete)
        tree.complete.clear()


def _tree(row: tuple[Any, ...]) -> Tree:
    return Tree.from_bytes(row[0], bytes(row[1]))
