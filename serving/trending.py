"""Trending items, kept for a moment: many requests in one second read them once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from redis.exceptions import RedisError

from headrace.settings import Settings
from headrace.trending import TrendingStore

logger = logging.getLogger(__name__)


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
        self._items: list[tuple[str, float]] = []
        self._read_at = -float("inf")
        self._reading = asyncio.Lock()

    async def items(self) -> list[tuple[str, float]]:
        """Return the trending items, each with its share of all decayed counts."""
        async with self._reading:
            if self._clock() - self._read_at >= self._max_age_s:
                try:
                    self._items = await self._store.top(self._limit)
                except (RedisError, OSError) as exc:
                    logger.warning("trending items cannot be read: %r", exc)
                self._read_at = self._clock()
            return self._items
