"""The queue of tasks in Redis: asked for once, run by one trainer, cancelled in time.

A trainer holds a task under a lease, which lapses when it dies, and a number that rises with each
claim. What it writes bears the number: once another trainer has taken the task, its number is
known no more, and nothing that it does late counts (Kleppmann, 2016, "How to do distributed
locking").
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Struct
from redis.asyncio import Redis

from headrace.commands.durations import seconds
from headrace.errors import (
    HeadraceError,
    InvalidEvent,
    ModelDeleted,
    TaskEnded,
    TooSoon,
    TrainingRefused,
)
from headrace.settings import Settings
from headrace.store import load_script, text
from headrace.task_reader import Success, TaskReader
from headrace.tasks import Task, new_task
from headrace.training_data import DataFile
from headrace.training_kinds import Kind
from headrace.training_requests import TrainingRequest, check_kind, usual_kind

Held = Literal["held", "cancelled"]
_MIN_INTERVAL = "HEADRACE_RETRAIN_MIN_INTERVAL"
_KEPT = 1_000
"""Tasks that are remembered, the newest ones."""
_LOG_S = 30 * 24 * 3600
"""For which the end of a log is kept, in seconds."""
_HELD_BACK = (
    f"waits: its model is busy, or was trained less than {_MIN_INTERVAL} ago; whoever asks for the "
    "same by then is left out, and this is cancelled for all of them"
)


class TrainingInProgress(TrainingRefused):
    """The model is queued or training already; `task` is that training."""

    def __init__(self, task: Task) -> None:
        super().__init__(
            f"The training is still in progress for the same model ID: {task.model_id}"
        )
        self.task = task


class AnotherWaits(TrainingRefused):
    """A task of the model is held back already; `task` is that one."""

    def __init__(self, task: Task) -> None:
        super().__init__(
            f"Task {task.id} of model {task.model_id} waits already until the model can be trained."
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


class TaskStore(TaskReader):
    """The tasks in Redis."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        super().__init__(redis, settings)
        self._lease_ms = int(settings.trainer.lease_s * 1000)
        self._create = redis.register_script(load_script("create_task.lua"))
        self._claim = redis.register_script(load_script("claim_task.lua"))
        self._hold = redis.register_script(load_script("hold_task.lua"))
        self._save = redis.register_script(load_script("save_task.lua"))
        self._finish = redis.register_script(load_script("finish_task.lua"))
        self._release = redis.register_script(load_script("release_task.lua"))
        self._cancel = redis.register_script(load_script("cancel_task.lua"))

    # Asking

    async def create(
        self,
        request: TrainingRequest,
        task_id: str,
        *,
        now: float,
        data: DataFile | None = None,
        waits: bool = False,
    ) -> Task:
        """Queue a task for a request that was checked, and return it.

        A request whose key is known gets the task that it got before. Raises `TrainingInProgress`,
        `TooSoon` or `ModelDeleted`, and `InvalidEvent` for what the model's kind does not allow.

        `waits`: for whoever cannot be told to come again, a task whose model is busy, or was
        trained too lately, is held back until `queue_held` finds it free. Of a model one is:
        `AnotherWaits` is raised for a second.
        """
        model_id = request.model_id or self._settings.model_id
        request = await self._of_kind(request, model_id)
        task = new_task(request, model_id, task_id, now=now)
        if data is not None:
            params = {**task.params, "data": msgspec.to_builtins(data)}
            task = msgspec.structs.replace(task, params=params)
        outcome, about = await self._queue(
            task,
            now,
            # The same key is another request where another model is asked for.
            key=request.idempotency_key or task_id,
            held=msgspec.structs.replace(task, step=_HELD_BACK) if waits else None,
        )
        if outcome in ("deleted", "kind"):
            raise _refusal(task, outcome, about)
        if outcome == "soon":
            interval = self._settings.retrain.min_interval
            raise TooSoon(
                f"Model {model_id} was trained less than {interval} ago ({_MIN_INTERVAL}); "
                f"wait {about} s.",
                int(about),
            )
        if outcome == "busy":
            raise TrainingInProgress(await self.get(about))
        if outcome == "waits":
            raise AnotherWaits(await self.get(about))
        return await self.get(about)

    async def queue_held(self, *, now: float) -> list[Task]:
        """Queue the tasks that are held back and can be run now; return those that are no more so.

        One that can be run no more, for its model was deleted or is of another kind by now, has
        FAILED and says so.
        """
        settled = []
        for task in await self._held_back():
            queued = msgspec.structs.replace(task, step="queued", updated_at=now)
            outcome, about = await self._queue(queued, now)
            if outcome in ("deleted", "kind"):
                queued = msgspec.structs.replace(
                    task,
                    status="FAILED",
                    updated_at=now,
                    finished_at=now,
                    error=str(_refusal(task, outcome, about)),
                )
                outcome = "made" if await self._end_unheld(queued) == "cancelled" else "gone"
            if outcome == "made":
                settled.append(queued)
        return settled

    async def _queue(
        self, task: Task, now: float, *, key: str | None = None, held: Task | None = None
    ) -> tuple[str, str]:
        """Return what came of it, and more about it; see `create_task.lua`.

        `key`: under which the request is known; None: the task is held back already.
        """
        wait_s = seconds(self._settings.retrain.min_interval, _MIN_INTERVAL)
        outcome, about = await self._create(
            keys=[
                self._key("key", task.model_id, key or task.id),
                *self._keys("active"),
                self._key("task", task.id),
                *self._keys("newest", "open", "deleted", "trained", "kinds", "held"),
            ],
            args=[
                task.id, task.model_id, msgspec.json.encode(task), repr(now), repr(wait_s), _KEPT,
                self._stem, task.kind, repr(task.created_at),
                "" if held is None else msgspec.json.encode(held), "1" if key is None else "",
            ],
        )  # fmt: skip
        return text(outcome), text(about)

    async def _of_kind(self, request: TrainingRequest, model_id: str) -> TrainingRequest:
        """Return the request with the kind that it is for. Raises `InvalidEvent`."""
        kind = request.kind
        if kind is None:
            kind = await self._kind_of(model_id)
            check_kind(request, kind, self._settings)
        return msgspec.structs.replace(request, kind=kind)

    async def _kind_of(self, model_id: str) -> Kind:
        """Return the kind of a model's versions; before the first, of what is trained, or usual."""
        raw = await self._redis.hget(self._key("kinds"), model_id)
        if raw is not None:
            known: Kind = msgspec.convert(text(raw), Kind)
            return known
        task_id = await self._redis.hget(self._key("active"), model_id)
        if task_id is not None:
            return (await self._stored(text(task_id))).kind
        return usual_kind(self._settings, model_id)

    async def refuse_model(self, model_id: str) -> None:
        """Take no more requests for a model: it is deleted, or being deleted."""
        await self._redis.sadd(self._key("deleted"), model_id)
        # What was claimed up to now says nothing of the model that may be created again.
        last = int(await self._redis.get(self._key("fence")) or 0)
        await self._redis.hset(self._key("refused"), model_id, str(last))
        for known in ("kinds", "trained"):
            await self._redis.hdel(self._key(known), model_id)

    async def admit_model(self, model_id: str) -> None:
        """Take requests for a model again."""
        await self._redis.srem(self._key("deleted"), model_id)

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
        outcome = await self._end_unheld(cancelled)
        if outcome == "commit":
            raise TaskEnded(f"Task {task_id} has trained its version, which is just going live.")
        task = await self.get(task_id)
        if outcome == "ended" and task.status != "CANCELLED":
            raise TaskEnded(f"Task {task_id} has ended already: {task.status}.")
        return task

    async def _end_unheld(self, task: Task) -> str:
        """Store a task that has ended, if no trainer holds it; else have its trainer cancel it.

        Returns what came of it; see `cancel_task.lua`.
        """
        return text(
            await self._cancel(
                keys=[
                    *self._keys("open", "leases", "fences", "marks", "attempts"),
                    self._key("task", task.id),
                    *self._keys("active", "held", "pauses"),
                ],
                args=[task.id, task.model_id, msgspec.json.encode(task)],
            )
        )

    # Running

    async def claim(self, *, now: float) -> Claim | None:
        """Take the oldest open task that no trainer holds, and that is in no pause; it is RUNNING.

        A task that a dead trainer left RUNNING is taken again, and keeps its progress. None when
        there is no such task, or `trainer.concurrency` trainings run already.
        """
        raw = await self._claim(
            keys=self._keys("open", "leases", "fences", "fence", "attempts", "pauses"),
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
                *self._keys("open", "active", "trained", "successes", "kinds"),
                *self._keys("deleted", "refused"),
            ],
            args=[
                task.id, fence, task.model_id, msgspec.json.encode(task),
                repr(task.updated_at) if trained else "",
                "" if success is None else msgspec.json.encode(success), task.kind,
            ],
        )  # fmt: skip
        if not done:
            raise LeaseLost(task)

    async def release(
        self, task: Task, fence: int, *, counts: bool = False, pause_s: float = 0.0
    ) -> None:
        """Give a task back that has not ended: whoever looks next takes it, after the pause.

        Meanwhile it takes no other task's place, and is cancelled like one that is queued.
        `counts`: as an attempt at it that was broken off.
        """
        await self._release(
            keys=self._keys("fences", "leases", "attempts", "pauses", "marks"),
            args=[task.id, fence, "1" if counts else "", int(pause_s * 1000)],
        )

    async def _write(self, task: Task, fence: int, what: str, value: bytes, ttl_s: int) -> None:
        written = await self._save(
            keys=[*self._keys("fences"), self._key(what, task.id)],
            args=[task.id, fence, value, ttl_s],
        )
        if not written:
            raise LeaseLost(task)


def _refusal(task: Task, why: str, about: str) -> ModelDeleted | InvalidEvent:
    """Return in words what stands in a task's way for good; see `create_task.lua`."""
    model_id = task.model_id
    if why == "deleted":
        return ModelDeleted(
            f"Model {model_id} was deleted, or is being deleted; "
            f"`PUT /v1/models/{model_id}` creates it again."
        )
    return InvalidEvent(
        "kind",
        f"is {task.kind}; the versions of model {model_id} are of the kind {about}. Train it "
        "under another model's id, or delete the model first",
    )
