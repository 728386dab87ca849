"""Trending items, kept for a moment: many requests in one second read them once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any, Protocol

from redis.exceptions import RedisError

from headrace.settings import Settings
from headrace.trending import Ranked, TrendingStore
from models.retrieval.attributes import Mask
from models.retrieval.filters import Filter, parse_filter
from serving.outage import Outage

logger = logging.getLogger(__name__)

Shares = Sequence[tuple[str, float]]
"""Items, most trending first, each with its share of all decayed counts."""
_CATEGORIES_KEPT = 64
"""Categories asked for of late whose trending items are remembered until they are read anew."""


class Catalogued(Protocol):
    """Knows what the catalogue says of items: a retriever, or the table of those without one."""

    def holding(self, item_ids: Sequence[str], asked: Filter) -> Mask:
        """Return of each of these whether it may be shown and the filter holds of it."""


def in_category(category: str) -> Filter:
    """Return the filter that holds of the items of a category."""
    return parse_filter(category_filter(category))


def category_filter(category: str) -> dict[str, Any]:
    """Return the same as requests have it."""
    return {"categories": {"any": [category]}}


class TrendingCache:
    """The trending items, most trending first, with their shares of all events of late.

    They are at most `trending_s` old; while Redis is away, the last ones known.
    """

    def __init__(
        self,
        store: TrendingStore,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._max_age_s = settings.serving.trending_s
        self._limit = settings.trending.limit
        self._clock = clock
        self._all = Ranked([], [])
        self._of_category: dict[str, Shares] = {}
        self._read_at = -float("inf")
        self._reading = asyncio.Lock()
        self._away = Outage(logger, "trending items cannot be read")

    @property
    def is_away(self) -> bool:
        """Whether they could not be read when that was tried last."""
        return self._away.lasts

    async def items(self) -> Shares:
        """Return the most trending items, at most `trending.limit`."""
        return (await self._read()).trending[: self._limit]

    @property
    def faded(self) -> Sequence[str]:
        """The items that were met before and are no longer trending, most met first.

        As they were when they were read last.
        """
        return self._all.faded

    async def of_category(self, category: str, catalogued: Catalogued) -> Shares:
        """Return all trending items that are of this category now, or were a moment ago."""
        everything = (await self._read()).trending
        found = self._of_category.get(category)
        if found is None:
            item_ids = [item_id for item_id, _ in everything]
            mask = catalogued.holding(item_ids, in_category(category))
            found = list(compress(everything, mask.tolist()))
            if len(self._of_category) >= _CATEGORIES_KEPT:
                self._of_category.clear()
            self._of_category[category] = found
        return found

    async def _read(self) -> Ranked:
        if self._away.lasts and self._reading.locked():
            # One finds out whether Redis is back; nobody else waits for that.
            return self._all
        async with self._reading:
            if self._clock() - self._read_at >= self._max_age_s:
                try:
                    self._all = await self._store.ranked()
                except (RedisError, OSError) as exc:
                    self._away.met(exc)
                else:
                    self._away.over()
                self._of_category.clear()
                self._read_at = self._clock()
            return self._all
