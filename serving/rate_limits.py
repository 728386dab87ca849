"""Limits of how often someone may call: token buckets, in this process alone."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

_KEPT = 10_000
"""Callers remembered, those that called last; one that is forgotten begins with a full bucket."""
_LONGEST_S = 86_400.0
"""Whoever waits for more than a day at a rate that small is told of a day."""


class RateLimits:
    """A bucket for each caller: it fills at a rate, and each request takes one out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, kept: int = _KEPT) -> None:
        """`clock` tells seconds; `kept`: callers remembered."""
        self._clock = clock
        self._kept = kept
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        """By caller: how full the bucket was, and when."""

    def wait_s(self, who: Hashable, rate_per_s: float, burst: int) -> float:
        """Take one out; return 0, or the seconds until there will be one to take."""
        now = self._clock()
        level, at = self._buckets.get(who, (float(burst), now))
        level = min(float(burst), level + (now - at) * rate_per_s)
        wait_s = 0.0
        if level >= 1:
            level -= 1
        else:
            wait_s = min((1 - level) / rate_per_s, _LONGEST_S)
        self._buckets[who] = (level, now)
        self._buckets.move_to_end(who)
        if len(self._buckets) > self._kept:
            self._buckets.popitem(last=False)
        return wait_s
