"""What the log's tests share: a signer, events to append, an independent Merkle tree, and a vandal's access to the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.db import connection, transaction

from eventlog.append import NewEvent, StoredEvent, append
from eventlog.notes import CheckpointSigner, vkey_of

NOW = datetime(2026, 1, 31, 8, 0, tzinfo=UTC)
HAPPENED, ENDED = "quicklime/test.happened/1-0-0", "quicklime/test.ended/1-0-0"


class TestSigner:
    """A log key made from one repeated byte."""

    __test__ = False

    def __init__(self, origin: str = "test/log", seed: int = 1) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.origin = origin
        self.public_key = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data)


SIGNER = TestSigner()
VKEY = vkey_of(SIGNER)


def happened(number: int, subject: str = "alice", schema: str = HAPPENED) -> NewEvent:
    return NewEvent(schema, subject, {"number": number})


def add(*numbers: int, sign: CheckpointSigner | None = SIGNER, now: datetime = NOW) -> list[StoredEvent]:
    """Append one happened event for each number, in one transaction."""
    with transaction.atomic():
        return append([happened(number) for number in numbers], now, sign)


def rolled_back(work: Callable[[], object]) -> None:
    """Do `work` in a transaction that then fails."""
    try:
        with transaction.atomic():
            work()
            raise _GivenUp
    except _GivenUp:
        pass


class _GivenUp(Exception): ...


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, by its definition."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_inclusion(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH of RFC 6962 §2.1.1, by its definition."""
    if len(leaves) == 1:
        return []
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if index < k:
        return [*naive_inclusion(index, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_inclusion(index - k, leaves[k:]), naive_root(leaves[:k])]


def naive_consistency(old: int, leaves: Sequence[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 6962 §2.1.2, by its definition."""
    if old == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    if old <= k:
        return [*naive_consistency(old, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_consistency(old - k, leaves[k:], False), naive_root(leaves[:k])]


def execute(sql: str, parameters: Sequence[Any] = ()) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def rows(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


@contextmanager
def unguarded() -> Iterator[Callable[..., None]]:
    """The database owner's power: the triggers stand aside. Yields execute(sql, parameters)."""
    if connection.vendor == "postgresql":
        execute("SET session_replication_role = replica")
        yield execute
        execute("SET session_replication_role = DEFAULT")
    else:
        triggers = rows("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        for name, _ in triggers:
            execute(f'DROP TRIGGER "{name}"')
        yield execute
        for _, sql in triggers:
            execute(sql)
