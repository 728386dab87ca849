"""Tasks: what was asked of the trainer, in one queue in Redis, visible from start to end."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from headrace.errors import InvalidEvent, TaskNotFound
from headrace.events import EventId, decode
from headrace.settings import ModelId, Settings
from headrace.store import load_script, text

Status = Literal["QUEUED", "RUNNING", "SUCCEEDED", "REJECTED", "FAILED"]
OPEN: tuple[Status, ...] = ("QUEUED", "RUNNING")


class RetrainRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message of the `retrain` topic. The same `idempotency_key` always means the same task."""

    idempotency_key: EventId
    model_id: ModelId = "default"
    reason: Annotated[str, Meta(max_length=512)] = ""
    requested_by: Annotated[str, Meta(max_length=128)] = ""
    params: dict[str, float] = {}
    """Overrides of training parameters, by name."""


class Task(Struct, frozen=True, kw_only=True):
    """One training, from the asking to its end. Times are Unix seconds."""

    id: str
    model_id: str
    object: str = "task"
    kind: str = "retrieval"
    status: Status = "QUEUED"
    progress: float = 0.0
    """From 0 to 1."""
    step: str = "queued"
    created_at: float
    started_at: float | None = None
    updated_at: float
    finished_at: float | None = None
    requested_by: str = ""
    reason: str = ""
    params: dict[str, float] = {}
    data: dict[str, Any] = {}
    """What it trains on: offsets, and in the end the number of events."""
    metrics: dict[str, float] = {}
    version: str | None = None
    error: str | None = None


_request_decoder = msgspec.json.Decoder(RetrainRequest)
_task_decoder = msgspec.json.Decoder(Task)


def parse_request(raw: bytes | None) -> RetrainRequest:
    """Read a message of the `retrain` topic. Raises `InvalidEvent`."""
    if raw is None:
        raise InvalidEvent("", "the record has no value; a retrain event is a JSON object")
    request: RetrainRequest = decode(_request_decoder, raw, InvalidEvent)
    return request


class TaskStore:
    """The tasks in Redis. One trainer at a time holds the lease on a model."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._stem = settings.key("{tasks}")
        self._lease_ms = int(settings.trainer.lease_s * 1000)
        self._create: AsyncScript = redis.register_script(load_script("create_task.lua"))
        self._delete_own: AsyncScript = redis.register_script(load_script("compare_and_delete.lua"))

    async def create(self, request: RetrainRequest, task_id: str, *, now: float) -> Task:
        """Queue a task for the request and return it.

        A request whose key is known gets the task that it got before; one for a model with a task
        still queued joins that task, which will read the log as far as it goes when it starts.
        """
        task = Task(
            id=task_id,
            model_id=request.model_id,
            created_at=now,
            updated_at=now,
            requested_by=request.requested_by,
            reason=request.reason,
            params=request.params,
        )
        created = await self._create(
            keys=[
                f"{self._stem}:key:{request.idempotency_key}",
                self._queued_key(request.model_id),
                self._task_key(task_id),
                f"{self._stem}:newest",
                f"{self._stem}:open",
            ],
            args=[task_id, msgspec.json.encode(task), repr(now)],
        )
        return task if text(created) == task_id else await self.get(text(created))

    async def get(self, task_id: str) -> Task:
        """Return the task. Raises `TaskNotFound`."""
        raw = await self._redis.get(self._task_key(task_id))
        if raw is None:
            raise TaskNotFound(f"No task has the id {task_id!r}.")
        return _task_decoder.decode(raw)

    async def newest(self, limit: int = 100) -> list[Task]:
        """Return the newest tasks, newest first."""
        ids = await self._redis.zrevrange(f"{self._stem}:newest", 0, limit - 1)
        return await self._read(list(ids))

    async def claim(self, trainer: str, *, now: float) -> Task | None:
        """Take the oldest open task whose model no trainer is busy with; it is RUNNING then.

        A task that a dead trainer left RUNNING is taken again, from its start.
        """
        for found in await self._read(list(await self._redis.zrange(f"{self._stem}:open", 0, -1))):
            lease = self._lease_key(found.model_id)
            if not await self._redis.set(lease, trainer, nx=True, px=self._lease_ms):
                continue
            # Read again under the lease: its last trainer may have ended it meanwhile.
            task = await self.get(found.id)
            if task.status not in OPEN:
                await self.release(task, trainer)
                continue
            running = msgspec.structs.replace(
                task,
                status="RUNNING",
                step="starting",
                progress=0.0,
                started_at=now,
                updated_at=now,
            )
            await self.save(running)
            # Only if it is this one: another may be queued behind a task that is taken again.
            await self._delete_own(keys=[self._queued_key(task.model_id)], args=[task.id])
            return running
        return None

    async def renew(self, task: Task, trainer: str) -> bool:
        """Keep the lease on the task's model; False when another trainer holds it by now."""
        lease = self._lease_key(task.model_id)
        holder = await self._redis.get(lease)
        if holder is None:
            # It ran out, while Redis was away perhaps, and nobody else wanted it.
            return bool(await self._redis.set(lease, trainer, nx=True, px=self._lease_ms))
        return text(holder) == trainer and bool(await self._redis.pexpire(lease, self._lease_ms))

    async def save(self, task: Task) -> None:
        """Store the task as it stands."""
        await self._redis.set(self._task_key(task.id), msgspec.json.encode(task))

    async def finish(self, task: Task, trainer: str) -> None:
        """Store a task that has come to its end, and give its model's lease back."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.set(self._task_key(task.id), msgspec.json.encode(task))
            pipeline.zrem(f"{self._stem}:open", task.id)
            await pipeline.execute()
        await self.release(task, trainer)

    async def release(self, task: Task, trainer: str) -> None:
        """Give the lease on the task's model back, if this trainer has it."""
        await self._delete_own(keys=[self._lease_key(task.model_id)], args=[trainer])

    async def _read(self, ids: list[Any]) -> list[Task]:
        if not ids:
            return []
        raws = await self._redis.mget([self._task_key(text(task_id)) for task_id in ids])
        return [_task_decoder.decode(raw) for raw in raws if raw is not None]

    def _task_key(self, task_id: str) -> str:
        return f"{self._stem}:task:{task_id}"

    def _queued_key(self, model_id: str) -> str:
        return f"{self._stem}:queued:{model_id}"

    def _lease_key(self, model_id: str) -> str:
        return f"{self._stem}:lease:{model_id}"
