"""How often each item was met, by hour and by day of the events' own time.

For people to look at: what a worker had counted and not told when it was killed is missing. Buckets
begin where the newest event is, whenever that was; of each resolution the newest ones are kept, and
of each bucket the items met most.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Literal

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from headrace.settings import Settings
from headrace.store import load_script, text

Step = Literal["hour", "day"]
Counts = Mapping[Step, Mapping[int, Mapping[str, int]]]
"""By step, number of the bucket and item."""
STEP_S: dict[Step, int] = {"hour": 3_600, "day": 86_400}
KEPT: dict[Step, int] = {"hour": 48, "day": 32}
"""Buckets."""
_ITEMS = 20_000
"""Kept of a bucket: two megabytes."""

_AT_ONCE = 500
"""Items told in one Lua call: bounds the time for which Redis and the worker do nothing else."""
_REST_S = 0.02
"""Between two of them: thousands of items in one go would keep events waiting."""


class History(Struct, frozen=True):
    """How often one item was met."""

    at: list[int]
    """When each bucket begins, in Unix seconds, oldest first; empty before the first event."""
    events: list[int]


class PopularityStore:
    """The counts in Redis. All raises `redis.exceptions.RedisError`."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._stem = settings.state_key("popularity", "{items}", "")
        self._add: AsyncScript = redis.register_script(load_script("add_popularity.lua"))

    async def add(self, counts: Counts) -> None:
        """Add how often items were met, all of it or nothing."""
        keys, rows = [], []
        for step, of_step in counts.items():
            for number, of_items in of_step.items():
                keys += [self._buckets(step), self._bucket(step, number)]
                rows.append((number, list(chain.from_iterable(of_items.items()))))
        await self._add(keys=keys, args=[msgspec.msgpack.encode((_ITEMS, rows))])

    async def forget_old(self) -> None:
        """Forget the buckets that are older than those kept."""
        for step, kept in KEPT.items():
            old = (await self._numbers(step))[:-kept]
            if old:
                async with self._redis.pipeline(transaction=True) as pipeline:
                    pipeline.unlink(*(self._bucket(step, number) for number in old))
                    pipeline.zrem(self._buckets(step), *map(str, old))
                    await pipeline.execute()

    async def _numbers(self, step: Step) -> list[int]:
        """Return the numbers of the buckets there are, ascending."""
        return [int(text(each)) for each in await self._redis.zrange(self._buckets(step), 0, -1)]

    async def read(self, item_id: str, step: Step) -> History:
        """Return how often an item was met, from the oldest bucket kept to the newest."""
        numbers = await self._numbers(step)
        if not numbers:
            return History([], [])
        async with self._redis.pipeline(transaction=False) as pipeline:
            for number in numbers:
                pipeline.zscore(self._bucket(step, number), item_id)
            counts = dict(zip(numbers, await pipeline.execute(), strict=True))
        # Where there is no bucket nobody met anything.
        shown = range(max(numbers[0], numbers[-1] - KEPT[step] + 1), numbers[-1] + 1)
        at = [number * STEP_S[step] for number in shown]
        return History(at, [int(counts.get(number) or 0) for number in shown])

    def _buckets(self, step: Step) -> str:
        return f"{self._stem}{step}"

    def _bucket(self, step: Step, number: int) -> str:
        return f"{self._stem}{step}:{number}"


class PopularityTally:
    """What one worker has counted and not told yet."""

    def __init__(self, store: PopularityStore) -> None:
        self._store = store
        self._met: Counter[tuple[int, str]] = Counter()
        """By hour and item."""

    def count(self, met: Iterable[tuple[float, str]]) -> None:
        """Count items that were met, each with when, in Unix seconds."""
        self._met.update((int(at // STEP_S["hour"]), item_id) for at, item_id in met)

    async def tell(self) -> None:
        """Tell what was counted since; what Redis does not take is told the next time.

        Raises `redis.exceptions.RedisError` or `OSError`.
        """
        met, self._met = list(self._met.items()), Counter()
        for first in range(0, len(met), _AT_ONCE):
            some = dict(met[first : first + _AT_ONCE])
            try:
                if first:
                    await asyncio.sleep(_REST_S)
                await self._store.add({step: _by_bucket(some, step) for step in STEP_S})
            except BaseException:
                self._met.update(dict(met[first:]))
                raise
        if met:
            await self._store.forget_old()


def _by_bucket(met: Mapping[tuple[int, str], int], step: Step) -> dict[int, Counter[str]]:
    hours = STEP_S[step] // STEP_S["hour"]
    newest = max(hour for hour, _ in met) // hours
    found: dict[int, Counter[str]] = {}
    for (hour, item_id), count in met.items():
        if (number := hour // hours) > newest - KEPT[step]:
            found.setdefault(number, Counter())[item_id] += count
    return found
