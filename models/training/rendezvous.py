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


class Rendezvous:
    """The announcement of one cluster."""

    def __init__(self, redis: Redis, settings: Settings, config: ClusterConfig) -> None:
        self._redis = redis
        self._key = settings.key("cluster", config.name)
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
