"""Telling a worker that stands still from one that has nothing to do.

Faust is known to stop reading in silence, after a rebalance or an outage of the broker. A partition
that has more to read, and has not moved for long, though nothing is waited for, stands still; the
worker then ends, and its supervisor starts it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from headrace.topics import Place


class Watchdog:
    """Compares each partition's position with its end, again and again."""

    def __init__(self, patience_s: float, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that never go back."""
        self._patience_s = patience_s
        self._clock = clock
        self._standing: dict[Place, tuple[int, float]] = {}
        """By place that has more to read, its position, and when it was first seen there."""
        self._looked = clock()

    def look(self, positions: Mapping[Place, int], ends: Mapping[Place, int]) -> str | None:
        """Return in words which partition of these stands still, or None.

        `ends` are the ends of the partitions that this worker answers for.
        """
        now = self._clock()
        if now - self._looked >= self._patience_s:
            # This process itself was held up, and could not move anything.
            self.excuse()
        self._looked = now
        before, self._standing = self._standing, {}
        for place, end in ends.items():
            position = positions.get(place, 0)
            if position >= end:
                continue
            last, since = before.get(place, (position, now))
            if position != last:
                since = now
            self._standing[place] = (position, since)
            if now - since >= self._patience_s:
                return (
                    f"{place.topic}/{place.partition} stands still at {position} with "
                    f"{end - position} records to read, for {now - since:.0f} s"
                )
        return None

    def excuse(self) -> None:
        """Begin anew: something that is needed is away, so that nothing can move."""
        self._standing = {}
