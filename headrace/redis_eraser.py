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

    def __init__(self, redis: Redis, settings: Settings, *others: Settings) -> None:
        """`others`: of models with other topics, whose users are erased, too."""
        states = (settings, *others)
        self._sessions = [SessionStore(redis, state) for state in states]
        self._transitions = [TransitionStore(redis, state) for state in states]
        self._evaluation = [EvaluationStore(redis, state) for state in states]
        self._impressions = ImpressionStore(redis, settings)

    async def erase(self, erasure: Erasure) -> None:
        """Erase what an erasure covers. Raises `redis.exceptions.RedisError` or `OSError`."""
        for sessions in self._sessions:
            await sessions.erase(erasure)
        for transitions in self._transitions:
            await transitions.forget(erasure.user_id)
        await self._impressions.forget(erasure.user_id, until=erasure.at)
        for evaluation in self._evaluation:
            await evaluation.forget(erasure.user_id, until=erasure.at)
