"""The heartbeat of a trainer's process."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable, Mapping

from redis.asyncio import Redis
from redis.exceptions import RedisError

from headrace.heartbeats import INTERVAL_S, Heartbeat, HeartbeatStore
from headrace.settings import Settings

logger = logging.getLogger(__name__)


class Beat:
    """Tells again and again that a trainer is well, and what it does."""

    def __init__(self, redis: Redis, settings: Settings, clock: Callable[[], float]) -> None:
        self._store = HeartbeatStore(redis, settings)
        self._clock = clock
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"

    async def run(
        self, state: Callable[[], str], figures: Callable[[], Mapping[str, float]]
    ) -> None:
        """Tell what these return, until cancelled."""
        while True:
            heartbeat = Heartbeat(
                part="trainer",
                name=self._name,
                pid=os.getpid(),
                at=self._clock(),
                state=state(),
                figures=dict(figures()),
            )
            try:
                await self._store.beat(heartbeat)
            except (RedisError, OSError) as exc:
                logger.warning("no heartbeat: %r", exc)
            await asyncio.sleep(INTERVAL_S)
