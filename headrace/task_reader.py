"""Looking at the tasks in Redis: one, the newest ones, those of a model, their logs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, Struct
from redis.asyncio import Redis

from headrace.errors import TaskNotFound
from headrace.settings import Settings
from headrace.store import text
from headrace.tasks import Status, Task
from headrace.training_kinds import Mode
from headrace.versions import TrainingData

_PAGE = 200
"""Tasks read at once."""


class Success(Struct, frozen=True, kw_only=True):
    """The last training of a model that succeeded."""

    version: str
    """It may have been deleted since."""
    made_with: str
    """Digest of everything that the version depends on besides the data."""
    mode: Mode = "full"
    data: TrainingData


class TaskReader:
    """The tasks, as they stand."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._stem = settings.key("{tasks}")

    async def get(self, task_id: str) -> Task:
        """Return the task. Raises `TaskNotFound`."""
        return (await self._with_positions([await self._stored(task_id)]))[0]

    async def of_model(self, model_id: str) -> Task | None:
        """Return the model's task that has not ended, if there is one that is not held back."""
        task_id = await self._redis.hget(self._key("active"), model_id)
        return None if task_id is None else await self.get(text(task_id))

    async def open_of_model(self, model_id: str) -> list[Task]:
        """Return the model's tasks that have not ended: one, and one that is held back."""
        ids = [await self._redis.hget(self._key(name), model_id) for name in ("active", "held")]
        return [await self.get(text(task_id)) for task_id in ids if task_id is not None]

    async def newest(
        self, limit: int = 100, *, kind: str | None = None, status: Status | None = None
    ) -> list[Task]:
        """Return the newest tasks, newest first; of a kind, or in a status, if that is given."""
        # At once: between two looks a task that is new would move all others on.
        ids = await self._redis.zrevrange(self._key("newest"), 0, -1)
        found: list[Task] = []
        for first in range(0, len(ids), _PAGE):
            found += [
                task
                for task in await self._read(ids[first : first + _PAGE])
                if kind in (None, task.kind) and status in (None, task.status)
            ]
            if len(found) >= limit:
                break
        return await self._with_positions(found[:limit])

    async def log(self, task_id: str) -> str:
        """Return the end of a task's log, "" before it has one. Raises `TaskNotFound`."""
        raw = await self._redis.get(self._key("log", task_id))
        if raw is None:
            await self._stored(task_id)
            return ""
        return text(raw)

    async def last_success(self, model_id: str) -> Success | None:
        """Return the model's last training that succeeded."""
        raw = await self._redis.hget(self._key("successes"), model_id)
        return None if raw is None else msgspec.json.decode(raw, type=Success)

    async def _stored(self, task_id: str) -> Task:
        raw = await self._redis.get(self._key("task", task_id))
        if raw is None:
            raise TaskNotFound(f"No task has the id {task_id!r}.")
        return _decoder.decode(raw)

    async def _read(self, ids: Iterable[Any]) -> list[Task]:
        keys = [self._key("task", text(task_id)) for task_id in ids]
        raws = await self._redis.mget(keys) if keys else []
        return [_decoder.decode(raw) for raw in raws if raw is not None]

    async def _held_back(self) -> list[Task]:
        """Return the tasks that are held back, the oldest first."""
        found = await self._read(await self._redis.hvals(self._key("held")))
        return sorted(found, key=lambda task: task.created_at)

    async def _with_positions(self, tasks: list[Task]) -> list[Task]:
        """Return the tasks, those that are queued with their places in the queue."""
        if not any(task.status == "QUEUED" for task in tasks):
            return tasks
        still_open = await self._read(await self._redis.zrange(self._key("open"), 0, -1))
        still_open += await self._held_back()
        queued = [task.id for task in still_open if task.status == "QUEUED"]
        place = {task_id: number for number, task_id in enumerate(queued, start=1)}
        return [
            msgspec.structs.replace(task, queue_position=place.get(task.id, UNSET))
            if task.status == "QUEUED"
            else task
            for task in tasks
        ]

    def _key(self, *parts: str) -> str:
        return ":".join((self._stem, *parts))

    def _keys(self, *names: str) -> list[str]:
        return [self._key(name) for name in names]


_decoder = msgspec.json.Decoder(Task)
