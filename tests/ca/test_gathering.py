"""The guess of how many will come together."""

from __future__ import annotations

from ca.gathering import Expectation


def expected(sizes: list[int], later: float = 0.0) -> int:
    """What is expected `later` seconds after batches of these sizes, one a second, each of which tells for two."""
    guess = Expectation(2.0)
    for second, size in enumerate(sizes):
        guess.came(size, float(second))
    return guess.number(len(sizes) - 1 + later)


def test_nothing_is_expected_before_anything_came() -> None:
    assert Expectation(2.0).number(0.0) == 1


def test_a_small_batch_among_large_ones_lowers_nothing() -> None:
    assert expected([64, 3, 64, 2]) == 64


def test_when_load_falls_that_is_soon_noticed() -> None:
    assert [expected([64] + [16] * number) for number in range(6)] == [64, 64, 64, 64, 16, 16]


def test_after_a_pause_the_past_tells_nothing() -> None:
    assert (expected([64], 1.9), expected([64], 2.0)) == (64, 1)
    guess = Expectation(2.0)
    guess.came(64, 0.0)
    guess.came(3, 2.0)
    assert guess.number(2.0) == 3
