"""Deletes what was kept for tasks that have ended, or never came to be: whoever was to do so was
killed, or could not tell.
"""

from __future__ import annotations

import asyncio
import logging

from redis.exceptions import RedisError

from headrace.artifact_store import ArtifactStore
from headrace.errors import StoreUnavailable, TaskNotFound
from headrace.settings import Settings
from headrace.task_files import TaskWork, kept_work, version_of
from headrace.task_store import TaskStore
from headrace.tasks import OPEN
from headrace.uploads import Uploads

logger = logging.getLogger(__name__)

_AGAIN_S = 3_600.0
"""Between two looks. A file comes before its task, so what no task needs at one look is deleted at
the next."""


class Leftovers:
    """What lies there for tasks: their work, files that were sent to be trained on, and versions
    that were not brought to the object store to the end."""

    def __init__(self, settings: Settings, tasks: TaskStore) -> None:
        self._settings = settings
        self._tasks = tasks
        self._uploads = Uploads(settings)
        self._store = ArtifactStore(settings)
        self._unneeded: set[str] = set()
        """Files that no task needed at the last look."""
        self._cut_off: set[tuple[str, str]] = set()
        """Models' versions that no task was bringing to the object store at the last look."""

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
        self._cut_off = await self._clear_cut_off(self._cut_off)

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

    async def _clear_cut_off(self, cut_off: set[tuple[str, str]]) -> set[tuple[str, str]]:
        """Delete the versions that were cut off before, too; return those that are now."""
        found = set()
        for model_id in await asyncio.to_thread(self._store.models):
            tasks = await self._tasks.open_of_model(model_id)
            for version in await asyncio.to_thread(self._store.cut_off, model_id):
                if version in map(version_of, tasks):
                    continue
                if (model_id, version) in cut_off:
                    await asyncio.to_thread(self._store.delete, model_id, version)
                else:
                    found.add((model_id, version))
        return found

    async def _is_open(self, task_id: str) -> bool:
        try:
            return (await self._tasks.get(task_id)).status in OPEN
        except TaskNotFound:
            return False
