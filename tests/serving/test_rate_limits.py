from __future__ import annotations

import pytest

from serving.rate_limits import RateLimits


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_fills_at_its_rate_and_no_higher_than_its_burst() -> None:
    clock = Clock()
    limits = RateLimits(clock)
    # Full: 3. Three go at once, the fourth is half a second early.
    assert [limits.wait_s("a", 2.0, 3) for _ in range(4)] == [0, 0, 0, 0.5]
    clock.now += 0.25
    assert limits.wait_s("a", 2.0, 3) == pytest.approx(0.25)
    clock.now += 0.25
    assert limits.wait_s("a", 2.0, 3) == 0
    clock.now += 1_000
    assert [limits.wait_s("a", 2.0, 3) for _ in range(4)] == [0, 0, 0, 0.5]


def test_each_has_a_bucket_of_its_own() -> None:
    limits = RateLimits(Clock())
    assert [limits.wait_s(who, 1.0, 1) for who in ("a", "b", "a", "b")] == [0, 0, 1, 1]


def test_who_called_longest_ago_is_forgotten_first() -> None:
    limits = RateLimits(Clock(), kept=2)
    waits = [limits.wait_s(who, 1.0, 1) for who in ("a", "b", "a", "c", "a", "b")]
    # `b` is forgotten when `c` comes, and begins anew.
    assert waits == [0, 0, 1, 0, 1, 0]


def test_at_the_smallest_rate_the_wait_is_a_number() -> None:
    limits = RateLimits(Clock())
    assert [limits.wait_s("a", 5e-324, 1) for _ in range(2)] == [0, 86_400]
