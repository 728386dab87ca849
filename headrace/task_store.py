"""The queue of tasks in Redis: asked for once, run by one trainer, cancelled in time.

A trainer holds a task under a lease, which lapses when it dies, and a number that rises with each
claim. What it writes bears the number: once another trainer has taken the task, its number is
known no more, and nothing that it does late counts (Kleppmann, 2016, "How to do distributed
locking").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct
from redis.asyncio import Redis

from headrace.commands.durations import seconds
from headrace.errors import (
    HeadraceError,
    InvalidEvent,
    ModelDeleted,
    TaskEnded,
    TaskNotFound,
    TooSoon,
    TrainingRefused,
)
from headrace.settings import Settings
from headrace.store import load_script, text
from headrace.tasks import Status, Task, new_task
from headrace.training_data import DataFile
from headrace.training_kinds import Kind
from headrace.training_requests import TrainingRequest, check_kind, usual_kind

Held = Literal["held", "cancelled"]
_MIN_INTERVAL = "HEADRACE_RETRAIN_MIN_INTERVAL"
_KEPT = 1_000
"""Tasks that are remembered, the newest ones."""
_LOG_S = 30 * 24 * 3600
"""For which the end of a log is kept, in seconds."""
_PAGE = 200


class TrainingInProgress(TrainingRefused):
    """The model is queued or training already; `task` is that training."""

    def __init__(self, task: Task) -> None:
        super().__init__(
            f"The training is still in progress for the same model ID: {task.model_id}"
        )
        self.task = task


class LeaseLost(HeadraceError):
    """Another trainer has the task by now, or it was cancelled."""

    def __init__(self, task: Task) -> None:
        super().__init__(f"task {task.id} of model {task.model_id} is another's by now.")


class Claim(Struct, frozen=True):
    """A task that a trainer holds."""

    task: Task
    fence: int
    """Rises with each claim of any task."""
    attempt: int
    """From 1 on; each further one follows the death of a trainer."""


class Success(Struct, frozen=True, kw_only=True):
    """The last training of a model that succeeded."""

    version: str
    fingerprint: str
    """Of the data."""
    made_with: str
    """Digest of everything else that the version depends on."""


class TaskStore:
    """The tasks in Redis."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        self._stem = settings.key("{tasks}")
        self._lease_ms = int(settings.trainer.lease_s * 1000)
        self._create = redis.register_script(load_script("create_task.lua"))
        self._claim = redis.register_script(load_script("claim_task.lua"))
        self._hold = redis.register_script(load_script("hold_task.lua"))
        self._save = redis.register_script(load_script("save_task.lua"))
        self._finish = redis.register_script(load_script("finish_task.lua"))
        self._release = redis.register_script(load_script("release_task.lua"))
        self._cancel = redis.register_script(load_script("cancel_task.lua"))
        self._delete_own = redis.register_script(load_script("compare_and_delete.lua"))

    # Asking

    async def create(
        self, request: TrainingRequest, task_id: str, *, now: float, data: DataFile | None = None
    ) -> Task:
        """Queue a task for a request that was checked, and return it.

        A request whose key is known gets the task that it got before. Raises `TrainingInProgress`,
        `TooSoon` or `ModelDeleted`, and `InvalidEvent` for what the model's kind does not allow.
        """
        model_id = request.model_id or self._settings.model_id
        request = await self._of_kind(request, model_id)
        task = new_task(request, model_id, task_id, now=now)
        if data is not None:
            params = {**task.params, "data": msgspec.to_builtins(data)}
            task = msgspec.structs.replace(task, params=params)
        interval = self._settings.retrain.min_interval
        wait_s = seconds(interval, _MIN_INTERVAL)
        raw = await self._create(
            keys=[
                # The same key is another request where another model is asked for.
                self._key("key", model_id, request.idempotency_key or task_id),
                *self._keys("active"),
                self._key("task", task_id),
                *self._keys("newest", "open", "deleted", "trained", "kinds"),
            ],
            args=[
                task_id, model_id, msgspec.json.encode(task), repr(now), repr(wait_s), _KEPT,
                self._stem, task.kind,
            ],
        )  # fmt: skip
        outcome, about = map(text, raw)
        if outcome == "deleted":
            raise ModelDeleted(
                f"Model {model_id} was deleted, or is being deleted; "
                f"`PUT /v1/models/{model_id}` creates it again."
            )
        if outcome == "kind":
            raise InvalidEvent(
                "kind",
                f"is {task.kind}; the versions of model {model_id} are of the kind {about}. Train "
                "it under another model's id, or delete the model first",
            )
        if outcome == "soon":
            raise TooSoon(
                f"Model {model_id} was trained less than {interval} ago ({_MIN_INTERVAL}); "
                f"wait {about} s.",
                int(about),
            )
        if outcome == "busy":
            raise TrainingInProgress(await self.get(about))
        return await self.get(about)

    async def _of_kind(self, request: TrainingRequest, model_id: str) -> TrainingRequest:
        """Return the request with the kind that it is for. Raises `InvalidEvent`."""
        kind = request.kind
        if kind is None:
            raw = await self._redis.hget(self._key("kinds"), model_id)
            usual = usual_kind(self._settings, model_id)
            kind = usual if raw is None else msgspec.convert(text(raw), Kind)
            check_kind(request, kind)
        return msgspec.structs.replace(request, kind=kind)

    async def ask_later(self, request: TrainingRequest) -> bool:
        """Let a request wait until its model can be trained; False when one waits already.

        For whoever cannot be told to come again: the clock, the count, the `retrain` topic.
        """
        model_id = request.model_id or self._settings.model_id
        request = msgspec.structs.replace(request, model_id=model_id)
        raw = msgspec.json.encode(request)
        await self._redis.sadd(self._key("waiting"), model_id)
        return bool(await self._redis.set(self._key("waiting", model_id), raw, nx=True))

    async def waiting(self, model_id: str | None) -> TrainingRequest | None:
        """Return the request that waits until a model, the settings' if None, can be trained."""
        raw = await self._redis.get(self._key("waiting", model_id or self._settings.model_id))
        return None if raw is None else msgspec.json.decode(raw, type=TrainingRequest)

    async def ask_waiting(self, new_id: str, *, now: float) -> Task | None:
        """Queue a task under this id for a request that waits and can be had now, if any can."""
        for model_id in map(text, await self._redis.smembers(self._key("waiting"))):
            key = self._key("waiting", model_id)
            raw = await self._redis.get(key)
            if raw is None:
                continue
            task = None
            try:
                request = msgspec.json.decode(raw, type=TrainingRequest)
                task = await self.create(request, new_id, now=now)
            except (ModelDeleted, InvalidEvent):
                pass
            except TrainingRefused:
                continue
            # Only this one: another may wait since another trainer queued it.
            await self._delete_own(keys=[key], args=[raw])
            if task is not None:
                return task
        return None

    async def refuse_model(self, model_id: str) -> None:
        """Take no more requests for a model: it is deleted, or being deleted."""
        await self._redis.sadd(self._key("deleted"), model_id)
        for known in ("kinds", "trained"):
            await self._redis.hdel(self._key(known), model_id)

    async def admit_model(self, model_id: str) -> None:
        """Take requests for a model again."""
        await self._redis.srem(self._key("deleted"), model_id)

    # Seeing

    async def get(self, task_id: str) -> Task:
        """Return the task. Raises `TaskNotFound`."""
        return (await self._with_positions([await self._stored(task_id)]))[0]

    async def of_model(self, model_id: str) -> Task | None:
        """Return the model's task that has not ended, if there is one."""
        task_id = await self._redis.hget(self._key("active"), model_id)
        return None if task_id is None else await self.get(text(task_id))

    async def newest(
        self, limit: int = 100, *, kind: str | None = None, status: Status | None = None
    ) -> list[Task]:
        """Return the newest tasks, newest first; of a kind, or in a status, if that is given."""
        # By id: while pages are read, a new task shifts those that come after it.
        found: dict[str, Task] = {}
        for first in range(0, _KEPT, _PAGE):
            page = await self._redis.zrevrange(self._key("newest"), first, first + _PAGE - 1)
            found |= {
                task.id: task
                for task in await self._read(page)
                if kind in (None, task.kind) and status in (None, task.status)
            }
            if len(page) < _PAGE or len(found) >= limit:
                break
        return await self._with_positions([*found.values()][:limit])

    async def log(self, task_id: str) -> str:
        """Return the end of a task's log, "" before it has one. Raises `TaskNotFound`."""
        raw = await self._redis.get(self._key("log", task_id))
        if raw is None:
            await self._stored(task_id)
            return ""
        return text(raw)

    async def last_success(self, model_id: str) -> Success | None:
        """Return the model's last training that succeeded."""
        raw = await self._redis.hget(self._key("succeeded"), model_id)
        return None if raw is None else msgspec.json.decode(raw, type=Success)

    # Cancelling

    async def cancel(self, task_id: str, *, now: float) -> Task:
        """Cancel a task and return it: CANCELLED, or RUNNING until its trainer has ended it.

        Raises `TaskNotFound`, and `TaskEnded` when it has ended, or is just going live.
        """
        task = await self.get(task_id)
        if task.status == "CANCELLED":
            return task
        cancelled = msgspec.structs.replace(
            task,
            status="CANCELLED",
            step="cancelled",
            queue_position=UNSET,
            updated_at=now,
            finished_at=now,
        )
        outcome = text(
            await self._cancel(
                keys=[
                    *self._keys("open", "leases", "fences", "marks", "attempts"),
                    self._key("task", task_id),
                    *self._keys("active"),
                ],
                args=[task_id, task.model_id, msgspec.json.encode(cancelled)],
            )
        )
        if outcome == "commit":
            raise TaskEnded(f"Task {task_id} has trained its version, which is just going live.")
        task = await self.get(task_id)
        if outcome == "ended" and task.status != "CANCELLED":
            raise TaskEnded(f"Task {task_id} has ended already: {task.status}.")
        return task

    # Running

    async def claim(self, *, now: float) -> Claim | None:
        """Take the oldest open task that no trainer holds; it is RUNNING then.

        A task that a dead trainer left RUNNING is taken again, and keeps its progress. None when
        there is no such task, or `trainer.concurrency` trainings run already.
        """
        raw = await self._claim(
            keys=self._keys("open", "leases", "fences", "fence", "attempts"),
            args=[self._lease_ms, self._settings.trainer.concurrency],
        )
        if not raw:
            return None
        claim = Claim(await self._stored(text(raw[0])), int(raw[1]), int(raw[2]))
        running = msgspec.structs.replace(
            claim.task,
            status="RUNNING",
            step="starting",
            started_at=claim.task.started_at or now,
            updated_at=now,
        )
        await self.save(running, claim.fence)
        return msgspec.structs.replace(claim, task=running)

    async def hold(self, task: Task, fence: int, *, commit: bool = False) -> Held:
        """Keep the lease; tell whether the task is to be cancelled.

        `commit`: its version goes live now, and it can be cancelled no more. Raises `LeaseLost`.
        """
        outcome = text(
            await self._hold(
                keys=self._keys("leases", "fences", "marks"),
                args=[
                    task.id, fence, self._lease_ms, self._settings.trainer.concurrency,
                    "1" if commit else "",
                ],
            )
        )  # fmt: skip
        if outcome == "lost":
            raise LeaseLost(task)
        return "cancelled" if outcome == "cancelled" else "held"

    async def save(self, task: Task, fence: int) -> None:
        """Store the task as it stands. Raises `LeaseLost`."""
        await self._write(task, fence, "task", msgspec.json.encode(task), 0)

    async def save_log(self, task: Task, fence: int, end: bytes) -> None:
        """Store the end of the task's log. Raises `LeaseLost`."""
        await self._write(task, fence, "log", end, _LOG_S)

    async def finish(
        self, task: Task, fence: int, *, trained: bool = False, success: Success | None = None
    ) -> None:
        """Store a task that has come to its end, and give its lease back. Raises `LeaseLost`.

        `trained`: whether a version was made, from which `retrain.min_interval` counts.
        """
        done = await self._finish(
            keys=[
                *self._keys("fences", "leases", "marks", "attempts"),
                self._key("task", task.id),
                *self._keys("open", "active", "trained", "succeeded", "kinds", "deleted"),
            ],
            args=[
                task.id, fence, task.model_id, msgspec.json.encode(task),
                repr(task.updated_at) if trained else "",
                "" if success is None else msgspec.json.encode(success), task.kind,
            ],
        )  # fmt: skip
        if not done:
            raise LeaseLost(task)

    async def release(self, task: Task, fence: int, *, counts: bool = False) -> None:
        """Give a task back that has not ended: whoever looks next takes it.

        `counts`: as an attempt at it that was broken off.
        """
        await self._release(
            keys=self._keys("fences", "leases", "attempts"),
            args=[task.id, fence, "1" if counts else ""],
        )

    async def _write(self, task: Task, fence: int, what: str, value: bytes, ttl_s: int) -> None:
        written = await self._save(
            keys=[*self._keys("fences"), self._key(what, task.id)],
            args=[task.id, fence, value, ttl_s],
        )
        if not written:
            raise LeaseLost(task)

    async def _stored(self, task_id: str) -> Task:
        raw = await self._redis.get(self._key("task", task_id))
        if raw is None:
            raise TaskNotFound(f"No task has the id {task_id!r}.")
        return _decoder.decode(raw)

    async def _read(self, ids: Iterable[Any]) -> list[Task]:
        keys = [self._key("task", text(task_id)) for task_id in ids]
        raws = await self._redis.mget(keys) if keys else []
        return [_decoder.decode(raw) for raw in raws if raw is not None]

    async def _with_positions(self, tasks: list[Task]) -> list[Task]:
        """Return the tasks, those that are queued with their places in the queue."""
        if not any(task.status == "QUEUED" for task in tasks):
            return tasks
        still_open = await self._read(await self._redis.zrange(self._key("open"), 0, -1))
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
