"""Heartbeats: each process tells Redis that it is well, and what it has done."""

from __future__ import annotations

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from headrace.settings import Settings

_EXPIRES_MS = 5_000
INTERVAL_S = 1.0


class Heartbeat(Struct, frozen=True, kw_only=True):
    """What a process says of itself."""

    part: str
    """`worker` or `trainer`."""
    name: str
    """Unlike any other process's: host and process id."""
    pid: int
    at: float
    """Unix seconds."""
    state: str
    address: str = ""
    """Of its own health and metrics, `http://host:port`, if it has them."""
    figures: dict[str, float] = {}


class HeartbeatStore:
    """The heartbeats in Redis. One that is not renewed is gone after five seconds."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Store a heartbeat."""
        key = self._settings.key("heartbeat", heartbeat.part, heartbeat.name)
        await self._redis.set(key, msgspec.json.encode(heartbeat), px=_EXPIRES_MS)

    async def read(self, part: str) -> list[Heartbeat]:
        """Return the heartbeats of the processes of this part that are well."""
        pattern = self._settings.key("heartbeat", part, "*")
        keys = [key async for key in self._redis.scan_iter(pattern, count=1_000)]
        raws = await self._redis.mget(keys) if keys else []
        return [msgspec.json.decode(raw, type=Heartbeat) for raw in raws if raw is not None]
