"""Proofs out of the database, against the definitions."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from eventlog import merkle, proofs, tiles
from eventlog.models import Event

from .support import add, execute, naive_consistency, naive_inclusion, naive_root, unguarded

pytestmark = pytest.mark.django_db
SIZE = 256 * 3 + 45
SIZES = [1, 2, 3, 128, 129, 255, 256, 257, 511, 512, 513, 768, 769, SIZE]


@pytest.fixture
def leaves() -> list[bytes]:
    add(*range(400))
    add(*range(SIZE - 400))
    return [bytes(leaf) for leaf in Event.objects.order_by("position").values_list("leaf_hash", flat=True)]


def test_roots(leaves: list[bytes]):
    assert proofs.root_at(0) == merkle.EMPTY_ROOT
    for size in SIZES:
        assert proofs.root_at(size) == naive_root(leaves[:size])


def test_inclusion(leaves: list[bytes]):
    for size in SIZES:
        for position in {1, size // 2 or 1, 256, 257, size}:
            if position <= size:
                assert proofs.inclusion_proof(position, size) == naive_inclusion(position - 1, leaves[:size])


def test_consistency(leaves: list[bytes]):
    for size in SIZES:
        for old in SIZES:
            if old <= size:
                assert proofs.consistency_proof(old, size) == naive_consistency(old, leaves[:size])


def test_a_proof_reads_two_tiles_of_each_level_at_most(leaves: list[bytes]):
    with CaptureQueriesContext(
        connection,
    ) as queries:
        proofs.inclusion_proof(300, SIZE)
    assert len(queries) <= 4


def test_beyond_the_log(leaves: list[bytes]):
    for attempt in (
        lambda: proofs.root_at(SIZE + 1),
        lambda: proofs.inclusion_proof(1, SIZE + 1),
        lambda: proofs.inclusion_proof(0, SIZE),
        lambda: proofs.inclusion_proof(11, 10),
        lambda: proofs.consistency_proof(1, SIZE + 1),
        lambda: proofs.consistency_proof(0, SIZE),
        lambda: proofs.consistency_proof(12, 11),
    ):
        with pytest.raises(ValueError, match=r"log|tree"):
            attempt()


def test_missing_rows_are_an_error_not_a_wrong_proof(leaves: list[bytes]):
    with unguarded():
        execute("DELETE FROM eventlog_event WHERE position = 600")
    with pytest.raises(tiles.NoSuchTile):
        proofs.inclusion_proof(601, SIZE)
