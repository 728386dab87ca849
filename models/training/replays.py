"""The trainer runs replays beside trainings, each in a process of its own, one at a time."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from redis.asyncio import Redis
from redis.exceptions import RedisError

from headrace.replaying.queue import ReplayQueue
from headrace.settings import Settings

logger = logging.getLogger(__name__)

JOB = (sys.executable, "-m", "headrace.replaying.job")
_LOOK_S = 0.5
_AGAIN_S = 2.0
"""Pause after Redis was away, or a job died."""


class Replays:
    """Looks for replays that wait."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self._settings = settings
        self._queue = ReplayQueue(redis, settings)

    async def run(self) -> None:
        """Have them run, one after the other, until cancelled."""
        while True:
            pause_s = _LOOK_S
            try:
                if await self._queue.waits() and (status := await self._run_job()):
                    logger.error("a replay's process ended with status %s", status)
                    pause_s = _AGAIN_S
            except (RedisError, OSError) as exc:
                logger.warning("the queue of replays cannot be read: %r", exc)
                pause_s = _AGAIN_S
            await asyncio.sleep(pause_s)

    async def _run_job(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *JOB,
            stdin=asyncio.subprocess.PIPE,
            env={**os.environ, **self._settings.environ()},
        )
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
