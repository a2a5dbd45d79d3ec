"""When to renew and when to try again: numbers, with time and chance held still."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicklime_client.schedule import CAP, FIRST, LATE_CAP, is_due, renew_at, retry_at

NOW = datetime(2030, 1, 1, tzinfo=UTC)
FAR = NOW + timedelta(days=30)


def low(least: float, most: float) -> float:
    return least


def high(least: float, most: float) -> float:
    return most


def test_renewal_is_around_two_thirds_of_life() -> None:
    end = NOW + timedelta(days=90)
    assert renew_at(NOW, end, low) == NOW + timedelta(days=55.5)
    assert renew_at(NOW, end, high) == NOW + timedelta(days=64.5)
    times = {renew_at(NOW, end) for _ in range(100)}
    assert len(times) > 90
    assert min(times) > NOW + timedelta(days=55)


def test_attempts_become_rare_but_not_too_rare() -> None:
    waits = [retry_at(failures, None, FAR, NOW, high) - NOW for failures in range(1, 12)]
    assert waits[:4] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert waits[-1] == CAP
    assert [retry_at(failures, None, FAR, NOW, low) - NOW for failures in (1, 11)] == [FIRST / 2, CAP / 2]


def test_with_little_life_left_attempts_stay_frequent() -> None:
    assert retry_at(20, None, NOW + timedelta(hours=2), NOW, high) - NOW == timedelta(minutes=12)
    for end in (NOW, NOW - timedelta(days=1), NOW + timedelta(minutes=1)):
        assert retry_at(20, None, end, NOW, high) - NOW == LATE_CAP


def test_a_wish_of_the_server_is_honoured_with_a_little_more() -> None:
    assert retry_at(1, 600, FAR, NOW, low) - NOW == timedelta(seconds=600)
    assert retry_at(1, 600, FAR, NOW, high) - NOW == timedelta(seconds=750)
    assert retry_at(1, 1, FAR, NOW, high) - NOW == FIRST


def test_a_wish_of_the_server_never_lets_the_certificate_expire() -> None:
    assert retry_at(1, 1e300, NOW + timedelta(days=4), NOW, high) - NOW == timedelta(days=1)


@given(
    st.integers(1, 10**6),
    st.none() | st.floats(0, 1e12),
    st.none() | st.integers(-(10**9), 10**9).map(lambda seconds: NOW + timedelta(seconds=seconds)),
)
def test_the_next_attempt_is_always_ahead(failures: int, asked: float | None, end: datetime | None) -> None:
    planned = retry_at(failures, asked, end, NOW)
    assert planned > NOW
    if end and end > NOW + timedelta(hours=1):
        assert planned < end


@pytest.mark.parametrize(("hours", "due"), [(-0.1, True), (0, False), (0.5, False), (1, True), (24, True)])
def test_a_clock_that_was_set_back_holds_nothing_up(hours: float, due: bool) -> None:
    assert is_due(NOW + timedelta(hours=1), NOW, NOW + timedelta(hours=hours)) is due
