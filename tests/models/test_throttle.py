from __future__ import annotations

from models.retrieval.throttle import Throttle


class Time:
    """Seconds that pass when something is done, or slept through."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds


def test_it_rests_twice_as_long_as_it_worked_and_never_long_at_once() -> None:
    time = Time()
    rest = Throttle(time.clock, time.sleep)
    for worked_s in (0.01, 0.02, 5.0):
        time.now += worked_s
        rest()
    assert time.slept == [0.02, 0.04, 0.25]


def test_what_takes_no_time_is_gathered() -> None:
    time = Time()
    rest = Throttle(time.clock, time.sleep)
    for _ in range(6):
        time.now += 0.0004
        rest()
    # Of three such steps together, twice.
    assert time.slept == [0.0024, 0.0024]
