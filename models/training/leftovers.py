"""Deletes what was kept for tasks that have ended, or never came to be: whoever was to do so was
killed, or could not tell.
"""

from __future__ import annotations

import asyncio
import logging

from redis.exceptions import RedisError

from headrace.errors import StoreUnavailable, TaskNotFound
from headrace.settings import Settings
from headrace.task_files import TaskWork, kept_work
from headrace.task_store import TaskStore
from headrace.tasks import OPEN
from headrace.uploads import Uploads

logger = logging.getLogger(__name__)

_AGAIN_S = 3_600.0
"""Between two looks at uploads. A file comes before its task, so what no task needs at one look is
deleted at the next."""


class Leftovers:
    """What lies there for tasks: their work, and files that were sent to be trained on."""

    def __init__(self, settings: Settings, tasks: TaskStore) -> None:
        self._settings = settings
        self._tasks = tasks
        self._uploads = Uploads(settings)
        self._unneeded: set[str] = set()
        """Files that no task needed at the last look."""

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                await self.clear()
            except (RedisError, OSError, StoreUnavailable) as exc:
                logger.warning("what ended tasks have left stays for now: %r", exc)
            await asyncio.sleep(_AGAIN_S)

    async def clear(self) -> None:
        """Look once. Raises what Redis and the artifacts' place raise."""
        await self._clear_work()
        self._unneeded = await self._clear_uploads(self._unneeded)

    async def _clear_work(self) -> None:
        for model_id, task_id in await asyncio.to_thread(kept_work, self._settings):
            if not await self._is_open(task_id):
                work = TaskWork(self._settings, model_id, task_id)
                await asyncio.to_thread(work.remove)

    async def _clear_uploads(self, unneeded: set[str]) -> set[str]:
        """Delete the files that no task needs, nor did before; return those that none needs now."""
        found = set()
        for name in await asyncio.to_thread(self._uploads.names):
            if await self._is_open(name.partition(".")[0]):
                continue
            if name in unneeded:
                await asyncio.to_thread(self._uploads.remove, name)
            else:
                found.add(name)
        return found

    async def _is_open(self, task_id: str) -> bool:
        try:
            return (await self._tasks.get(task_id)).status in OPEN
        except TaskNotFound:
            return False
