"""Where the processes of a distributed training meet: the chief's job, in Redis, for the others.

It stands there as long as the chief renews it. Each attempt has a token of its own, so whoever
follows ends what it had in hand when another attempt begins, or none goes on.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from headrace.settings import Settings
from models.training.cluster_config import ClusterConfig
from models.training.job_messages import Job


class Announced(Struct, frozen=True):
    """A job that all processes are to run together."""

    token: str
    """Of this attempt at it alone."""
    job: Job


class Failure(Struct, frozen=True, kw_only=True):
    """Why a process that follows could not go on."""

    token: str
    """Of the attempt at which it failed."""
    reason: str
    may_pass: bool
    """Whether another attempt may do better."""


class Rendezvous:
    """The announcement of one cluster."""

    def __init__(self, redis: Redis, settings: Settings, config: ClusterConfig) -> None:
        self._redis = redis
        self._key = settings.key("cluster", config.name)
        self._failed_key = settings.key("cluster", config.name, "failed")
        self._lapses_ms = int(settings.trainer.lease_s * 1000)

    async def announce(self, announced: Announced) -> None:
        """Have the others run this job. Raises `redis.exceptions.RedisError`."""
        await self._redis.set(self._key, msgspec.json.encode(announced), px=self._lapses_ms)

    async def renew(self) -> None:
        """Say that it still holds. Raises `redis.exceptions.RedisError`."""
        await self._redis.pexpire(self._key, self._lapses_ms)

    async def withdraw(self) -> None:
        """Have the others end. Raises `redis.exceptions.RedisError`."""
        await self._redis.delete(self._key)

    async def read(self) -> Announced | None:
        """Return the job to run, None for none. Raises `redis.exceptions.RedisError`."""
        raw = await self._redis.get(self._key)
        return None if raw is None else msgspec.json.decode(raw, type=Announced)

    async def fail(self, failure: Failure) -> None:
        """Have the chief know why this process could not go on. Raises `RedisError`."""
        raw = msgspec.json.encode(failure)
        await self._redis.set(self._failed_key, raw, px=self._lapses_ms)

    async def failure(self, announced: Announced) -> Failure | None:
        """Return why another process could not go on with this job. Raises `RedisError`."""
        raw = await self._redis.get(self._failed_key)
        failure = None if raw is None else msgspec.json.decode(raw, type=Failure)
        return failure if failure is not None and failure.token == announced.token else None
