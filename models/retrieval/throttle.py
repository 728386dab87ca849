"""Long work that makes way: after each step of it its thread rests, longer than the step took.

Loading a version takes a core for a second or so, and much of Python's lock. Two cores that answer
requests for three quarters of the time have no such second to give: a queue would stand until long
after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Rest = Callable[[], None]
"""Called between steps."""

_TIMES = 2.0
"""Rests are as many times as long as what came before them."""
_LONGEST_S = 0.25
_LEAST_S = 0.001
"""Work that is gathered before a rest: sleeping has its price, too."""


def no_rest() -> None:
    """Go on at once: nobody is kept waiting."""


class Throttle:
    """Rests by what it has seen, waits for a core or for Python's lock included."""

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Work begins now."""
        self._clock, self._sleep = clock, sleep
        self._since = clock()

    def __call__(self) -> None:
        """Rest for the time worked since the last rest."""
        worked_s = self._clock() - self._since
        if worked_s >= _LEAST_S:
            self._sleep(min(_TIMES * worked_s, _LONGEST_S))
            self._since = self._clock()
