"""Hints over Redis: what one costs while Redis does not answer."""

from __future__ import annotations

import pytest
import redis

from ca import wakeups


class Redis:
    """Answers with the next of `answers`, an error by raising it; `asked` counts."""

    def __init__(self, *answers: object) -> None:
        self._answers = iter(answers)
        self.asked = 0

    def set(self, *_: object, **__: object) -> object:
        self.asked += 1
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def answering(monkeypatch: pytest.MonkeyPatch, *answers: object) -> Redis:
    fake = Redis(*answers)
    monkeypatch.setattr(wakeups, "client", lambda: fake)
    monkeypatch.setattr(wakeups, "_silent_until", 0.0)
    return fake


def test_a_redis_that_does_not_answer_is_spared_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = answering(monkeypatch, redis.TimeoutError(), True)
    for _ in range(3):
        with pytest.raises(redis.TimeoutError):
            wakeups.claim_wake_up()
    assert fake.asked == 1
    monkeypatch.setattr(wakeups, "_silent_until", 0.0)
    assert wakeups.claim_wake_up()


def test_a_redis_that_refuses_at_once_is_asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = answering(monkeypatch, redis.ConnectionError(), True)
    with pytest.raises(redis.ConnectionError):
        wakeups.claim_wake_up()
    assert wakeups.claim_wake_up()
    assert fake.asked == 2
