"""The table of thresholds: who renews in time reaches none, whatever the length of life."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ca.profiles import LEAF, PROFILES
from dashboard import thresholds
from dashboard.thresholds import NAMES, THRESHOLDS, moment, next_moment, reached
from quicklime_client.schedule import RENEW_AT, SPREAD

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def end(life: timedelta) -> datetime:
    """notAfter of a certificate that lives so long, its last second included."""
    return BEGIN + life - SECOND


@pytest.mark.parametrize(("profile", "life", "first", "second"), [
    ("server", timedelta(days=90), timedelta(days=72), timedelta(days=85.5)),
    ("server", timedelta(days=397), timedelta(days=367), timedelta(days=390)),
    ("client", timedelta(days=10), timedelta(days=8), timedelta(days=9.5)),
    ("short-lived", timedelta(hours=24), timedelta(hours=19.2), timedelta(hours=21.6)),
    ("short-lived", timedelta(days=7), timedelta(days=5.6), timedelta(days=6.3)),
])  # fmt: skip
def test_moments(profile: str, life: timedelta, first: timedelta, second: timedelta) -> None:
    assert [moment(each, BEGIN, end(life)) - BEGIN for each in THRESHOLDS[profile]] == [first, second, life]


@pytest.mark.parametrize("profile", LEAF)
@pytest.mark.parametrize("minutes", [10, 24 * 60, 397 * 24 * 60])
def test_who_renews_as_agents_do_reaches_nothing(profile: str, minutes: int) -> None:
    life = timedelta(minutes=minutes)
    assert reached(profile, BEGIN, end(life), BEGIN + life * (RENEW_AT + SPREAD)) == ""


@pytest.mark.parametrize("profile", LEAF)
def test_they_come_in_one_order_and_the_gravest_counts(profile: str) -> None:
    life = PROFILES[profile].default
    moments = [moment(each, BEGIN, end(life)) for each in THRESHOLDS[profile]]
    assert moments == sorted(set(moments))
    assert tuple(each.name for each in THRESHOLDS[profile]) == NAMES
    assert [reached(profile, BEGIN, end(life), at) for at in moments] == list(NAMES)
    assert [reached(profile, BEGIN, end(life), at - SECOND) for at in moments] == ["", *NAMES[:-1]]
    assert [next_moment(profile, BEGIN, end(life), after) for after in ("", *NAMES)] == [*moments, None]


def test_a_certificate_is_good_in_its_last_second() -> None:
    assert reached("server", BEGIN, BEGIN + timedelta(days=9), BEGIN + timedelta(days=9)) == "expiring"


@pytest.mark.parametrize("profile", ["ocsp-signer", "intermediate", "unheard-of"])
def test_what_is_not_watched_reaches_nothing(profile: str) -> None:
    assert next_moment(profile, BEGIN, end(timedelta(days=1)), "") is None
    assert reached(profile, BEGIN, end(timedelta(days=1)), BEGIN + timedelta(days=9)) == ""


def test_graver() -> None:
    assert thresholds.graver("expired", "renewal-missed")
    assert thresholds.graver("renewal-missed", "")
    assert not thresholds.graver("expiring", "expiring")
