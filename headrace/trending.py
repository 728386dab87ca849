"""Trending items: decayed counts over all kinds of events, and the number of events there were.

Each partition of a topic has a store of its own with a mark of its own, so that redelivered events
count once. A count decays by half every `half_life_s` of event time (forward decay; Cormode et al.,
"Forward Decay: A Practical Time Decay Model for Streaming Systems", ICDE 2009); it is kept as its
base-2 logarithm relative to time 0, which never overflows and never has to be touched again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import reduce

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from headrace.sessions import LoggedEvent
from headrace.settings import Settings
from headrace.store import load_script, text


class TrendingStore:
    """Trending items and counts of events in Redis."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._script: AsyncScript = redis.register_script(load_script("count_events.lua"))

    async def apply(self, events: Sequence[LoggedEvent]) -> int:
        """Count events, in the order given; return how many were new.

        An event at or before its partition's mark changes nothing. Raises
        `redis.exceptions.RedisError`.
        """
        async with self._redis.pipeline(transaction=False) as pipeline:
            for mark, of_partition in _by_partition(events).items():
                arguments: list[str | int] = [
                    self._settings.trending.limit,
                    of_partition[0].topic_id,
                ]
                for logged in of_partition:
                    arguments += (
                        logged.offset,
                        logged.event.item_id,
                        repr(self._log_weight(logged)),
                    )
                await self._script(keys=self._keys(mark), args=arguments, client=pipeline)
            pipeline.sadd(self._partitions_key(), *_by_partition(events))
            return sum((await pipeline.execute())[:-1])

    async def top(self, k: int) -> list[tuple[str, float]]:
        """Return up to k items, most trending first, each with its share of all decayed counts."""
        marks = await self._marks()
        async with self._redis.pipeline(transaction=False) as pipeline:
            for mark in marks:
                pipeline.zrange(self._keys(mark)[0], 0, -1, withscores=True)
            partitions = await pipeline.execute()
        counts: dict[str, float] = {}
        for rows in partitions:
            for item, count in rows:
                item_id = text(item)
                counts[item_id] = _log2_sum(counts.get(item_id, -math.inf), count)
        total = reduce(_log2_sum, counts.values(), -math.inf)
        ranked = sorted(counts.items(), key=lambda row: (-row[1], row[0]))[:k]
        return [(item_id, 2 ** (count - total)) for item_id, count in ranked]

    async def events_counted(self) -> int:
        """Return how many events there have been in all, each counted once."""
        marks = await self._marks()
        async with self._redis.pipeline(transaction=False) as pipeline:
            for mark in marks:
                pipeline.hget(self._keys(mark)[1], "events")
            return sum(int(events or 0) for events in await pipeline.execute())

    async def _marks(self) -> list[str]:
        members = await self._redis.smembers(self._partitions_key())
        return sorted(text(member) for member in members)

    def _partitions_key(self) -> str:
        return self._settings.key("trending", "partitions")

    def _keys(self, mark: str) -> tuple[str, str]:
        stem = self._settings.key("trending", "{" + mark + "}")
        return f"{stem}:items", f"{stem}:mark"

    def _log_weight(self, logged: LoggedEvent) -> float:
        trending = self._settings.trending
        weight = {
            "click": trending.click_weight,
            "purchase": trending.purchase_weight,
            "rating": trending.rating_weight,
        }[logged.event.kind]
        return math.log2(weight) + logged.event.timestamp / trending.half_life_s


def _log2_sum(a: float, b: float) -> float:
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log2(1 + 2 ** (low - high))


def _by_partition(events: Iterable[LoggedEvent]) -> dict[str, list[LoggedEvent]]:
    grouped: dict[str, list[LoggedEvent]] = {}
    for logged in events:
        grouped.setdefault(logged.mark, []).append(logged)
    return grouped
