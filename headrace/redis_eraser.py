"""Erasing a user from Redis: the one place that knows all that is kept there of users."""

from __future__ import annotations

from redis.asyncio import Redis

from headrace.erasures import Erasure
from headrace.evaluation import EvaluationStore
from headrace.impressions import ImpressionStore
from headrace.sessions import SessionStore
from headrace.settings import Settings
from headrace.transitions import TransitionStore


class RedisEraser:
    """Erases users from the stores. It may be repeated."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._sessions = SessionStore(redis, settings)
        self._transitions = TransitionStore(redis, settings)
        self._impressions = ImpressionStore(redis, settings)
        self._evaluation = EvaluationStore(redis, settings)

    async def erase(self, erasure: Erasure) -> None:
        """Erase what an erasure covers. Raises `redis.exceptions.RedisError` or `OSError`."""
        await self._sessions.erase(erasure)
        await self._transitions.forget(erasure.user_id)
        await self._impressions.forget(erasure.user_id, until=erasure.at)
        await self._evaluation.forget(erasure.user_id)
