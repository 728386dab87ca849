"""How the versions fare with users, read now and then: metrics and lists of versions tell of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from redis.exceptions import RedisError

from headrace.evaluation import EvaluationStore, Score
from headrace.settings import EvaluationSettings

logger = logging.getLogger(__name__)

_EVERY_S = 10.0


class EvaluationCache:
    """The scores by label, at most some seconds old; while Redis is away the last ones known."""

    def __init__(
        self, settings: EvaluationSettings, store: EvaluationStore, clock: Callable[[], float]
    ) -> None:
        """`clock` gives Unix seconds."""
        self.k = settings.k
        self.window_s = settings.window_s
        self._store = store
        self._clock = clock
        self.scores: Mapping[str, Score] = {}

    async def refresh(self) -> Mapping[str, Score]:
        """Read the scores and return them. Raises `redis.exceptions.RedisError` or `OSError`."""
        self.scores = await self._store.read(self._clock())
        return self.scores

    async def follow(self) -> None:
        """Read again and again, until cancelled."""
        while True:
            try:
                await self.refresh()
            except (RedisError, OSError) as exc:
                logger.warning("how versions fare cannot be read: %r", exc)
            await asyncio.sleep(_EVERY_S)
