"""How long is left, as people read it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from quicklime_client import spans


@pytest.mark.parametrize(
    ("span", "text"),
    [(timedelta(days=89, hours=23), "89 d"), (timedelta(hours=47), "47 h"), (timedelta(minutes=3, seconds=1), "3 min"),
     (timedelta(seconds=119), "119 s"), (timedelta(seconds=-1), "over")],
)  # fmt: skip
def test_the_unit_leaves_at_least_two_of_it(span: timedelta, text: str) -> None:
    assert spans.text(span) == text
