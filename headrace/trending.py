"""Trending items: decayed counts over all kinds of events, and the number of events there were.

Each partition of a topic has counts of its own, which `headrace.aggregates` keeps. A count decays
by half every `half_life_s` of event time (forward decay; Cormode et al., "Forward Decay: A
Practical Time Decay Model for Streaming Systems", ICDE 2009); it is kept as its base-2 logarithm
relative to time 0, which never overflows and never has to be touched again, unless the half-life is
changed: counts then go on from what was left of them at the newest event.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from headrace.aggregates import AggregateKeys
from headrace.settings import Settings
from headrace.store import pieces, text
from headrace.topics import Place

_PLACES_AT_ONCE = 4
"""Partitions of topics read in one round trip: others have their turn after some milliseconds."""


class Ranked(NamedTuple):
    """All items of which there are counts."""

    trending: list[tuple[str, float]]
    """Most trending first, each with its share of all decayed counts of such items."""
    faded: list[str]
    """Those whose counts have faded below that, most met first: at most `trending.limit`."""


class _Sums(NamedTuple):
    """Items, with the base-2 logarithms of their decayed counts, as they are kept."""

    item_ids: list[bytes]
    counts: NDArray[np.float64]
    least: float
    """The least one of an item that is trending."""


class TrendingStore:
    """Trending items and counts of events in Redis. Reading never writes."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings.trending
        self._keys = AggregateKeys(settings)

    async def top(self, k: int | None = None) -> list[tuple[str, float]]:
        """Return up to k items, most trending first, each with its share of all decayed counts.

        Without k, all that are trending: at most `trending.limit` of each partition of each topic.

        An item is trending while its count is at least that of one click `window_s` before the
        newest event. Raises `redis.exceptions.RedisError`.
        """
        return _top(await self._sums(), k)

    async def ranked(self) -> Ranked:
        """Return all that are trending, and those that no longer are.

        Raises `redis.exceptions.RedisError`.
        """
        sums = await self._sums()
        return Ranked(_top(sums, None), _faded(sums, self._settings.limit))

    async def _sums(self) -> _Sums:
        position_of: dict[bytes, int] = {}
        positions: list[int] = []
        counts: list[float] = []
        newest = 0.0
        for some in pieces(await self._places(), _PLACES_AT_ONCE):
            for (at, half_life), rows in await self._read(some):
                if at is None:
                    continue
                newest = max(newest, float(at))
                shift = self._shift(float(at), half_life)
                positions += [position_of.setdefault(item, len(position_of)) for item, _ in rows]
                counts += [count + shift for _, count in rows]
        sums = np.full(len(position_of), -math.inf)
        np.logaddexp2.at(sums, positions, counts)
        return _Sums(list(position_of), sums, self._least(newest))

    async def _read(self, places: Sequence[tuple[str, int]]) -> list[Any]:
        """Return of each place what its marks say, and its items with their counts."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for topic, partition in places:
                pipeline.hmget(self._keys.marks(partition), ("newest", "half_life"))
                pipeline.zrange(self._keys.trending(topic, partition), 0, -1, withscores=True)
            answers = await pipeline.execute()
        return list(zip(answers[::2], answers[1::2], strict=True))

    async def events_counted(self) -> int:
        """Return how many events there have been in all, each counted once."""
        partitions = {partition for _, partition in await self._places()}
        async with self._redis.pipeline(transaction=False) as pipeline:
            for partition in partitions:
                pipeline.hget(self._keys.marks(partition), "events")
            return sum(int(events or 0) for events in await pipeline.execute())

    def _shift(self, newest: float, half_life: bytes | None) -> float:
        """Return what to add to counts that are kept with this half-life.

        There is something to add until the first event after it was changed.
        """
        kept_s = float(half_life or self._settings.half_life_s)
        return newest / self._settings.half_life_s - newest / kept_s

    def _least(self, newest: float) -> float:
        """Return the least count of an item that is trending, as it is kept."""
        begin = newest - self._settings.window_s
        return math.log2(self._settings.click_weight) + begin / self._settings.half_life_s

    async def _places(self) -> list[tuple[str, int]]:
        """Return the topics' partitions of which there are counts."""
        names = await self._redis.smembers(self._keys.streams)
        places = [Place.parse(text(name)) for name in names]
        return sorted({(place.topic, place.partition) for place in places})


def _top(sums: _Sums, k: int | None) -> list[tuple[str, float]]:
    counts = np.where(sums.counts < sums.least, -math.inf, sums.counts)
    total = np.logaddexp2.reduce(counts)
    ranked = sorted((-counts[at], sums.item_ids[at]) for at in _greatest(counts, k))[:k]
    return [(text(item_id), float(2 ** (-count - total))) for count, item_id in ranked]


def _faded(sums: _Sums, limit: int) -> list[str]:
    at = np.flatnonzero(sums.counts < sums.least)
    order = at[np.argsort(-sums.counts[at], kind="stable")]
    return [text(sums.item_ids[position]) for position in order[:limit].tolist()]


def _greatest(sums: NDArray[np.float64], k: int | None) -> NDArray[np.int64]:
    """Return where the k greatest are, and those equal to the last of them; none that is -inf."""
    least = -math.inf
    if k is not None and k < len(sums):
        least = float(np.partition(sums, len(sums) - k)[len(sums) - k]) if k else math.inf
    return np.flatnonzero((sums >= least) & (sums > -math.inf))
