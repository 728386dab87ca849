"""Replays that were asked for over HTTP: queued in Redis, run by a `job`, seen until long after.

A job holds a replay under a lease. When it dies the lease lapses, and the next job goes on with
the replay: one into a shadow where it was left, one into the live state from its beginning, where
what was applied changes nothing.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from headrace.errors import HeadraceError
from headrace.replaying.course import ReplayOptions
from headrace.replaying.shadow import Counts
from headrace.replaying.window import BEGINNING, NOW
from headrace.settings import Settings
from headrace.store import load_script, text

ReplayStatus = Literal["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]
Action = Literal["replay", "promote"]
OPEN: tuple[ReplayStatus, ...] = ("QUEUED", "RUNNING")
LEASE_MS = 10_000
"""Longer than anything keeps a job from renewing it."""
_KEPT = 100
"""Replays that are remembered, the newest ones."""
_OPEN = 20
"""That may wait or run at once."""
ATTEMPTS = 5
"""Jobs that may die at one replay; it is the replay, then."""


class ReplayTask(Struct, frozen=True, kw_only=True, rename={"begin": "from", "end": "to"}):
    """A replay, or the promotion of a shadow, from asking to end. Times are Unix seconds."""

    id: str
    action: Action = "replay"
    status: ReplayStatus = "QUEUED"
    model_id: str
    into: str | None
    """The shadow's namespace; None: the live state."""
    topics: list[str] | None = None
    """Without the prefix; None: all of the model's."""
    begin: str = BEGINNING
    """`beginning`, or a time as it was given."""
    end: str = NOW
    rate: float = 0.0
    """Records a second at the most; 0: as fast as it goes."""
    dry_run: bool = False
    anew: bool = False
    progress: float = 0.0
    """From 0 to 1."""
    step: str = "queued"
    records: int = 0
    """Offsets of the window that lie behind."""
    total: int | None = None
    """Offsets of the window; None: that is not known yet."""
    counts: Counts = {}
    """By topic and outcome, records."""
    goes_on: bool | None = None
    """Whether it began, or of a dry run would begin, where one into this shadow was left; None:
    that is not known yet."""
    state_hash: str | None = None
    """Digest of the shadow once it is complete."""
    created_at: float
    started_at: float | None = None
    updated_at: float
    finished_at: float | None = None
    requested_by: str = ""
    error: str | None = None
    """What happened, in words, and what to do."""
    attempts: int = 0
    """Jobs that have taken it since it was queued."""

    @property
    def options(self) -> ReplayOptions:
        """What was asked for."""
        topics = None if self.topics is None else ",".join(self.topics)
        return ReplayOptions(
            topics, self.begin, self.end, self.into, self.rate, self.dry_run, self.anew
        )


class ReplayNotFound(HeadraceError):
    """No replay has this id."""


class ReplayRefused(HeadraceError):
    """The replay cannot be had now, or not ended, or not gone on with."""


class LeaseLapsed(HeadraceError):
    """Another job has the replay by now."""


class ReplayQueue:
    """The replays in Redis. All raises `redis.exceptions.RedisError`."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._stem = settings.key("{replays}")
        self._newest, self._active, self._cancelled = (
            f"{self._stem}:{name}" for name in ("newest", "active", "cancelled")
        )
        self._save_held = redis.register_script(load_script("save_held.lua"))
        self._finish_held = redis.register_script(load_script("finish_held.lua"))
        self._give_back = redis.register_script(load_script("compare_and_delete.lua"))

    async def add(self, task: ReplayTask) -> ReplayTask:
        """Queue a new replay.

        Raises `ReplayRefused` while one into the same state has not ended, or too many wait.
        """
        waiting = sum(each.status in OPEN for each in await self.newest())
        if waiting >= _OPEN:
            raise ReplayRefused(f"{waiting} replays wait or run; cancel one, or wait.")
        await self._claim_target(task)
        await self._store(task)
        await self._redis.zadd(self._newest, {task.id: task.created_at})
        for old in map(text, await self._redis.zrange(self._newest, 0, -1 - _KEPT)):
            await self._redis.zrem(self._newest, old)
            await self._redis.delete(self._task(old))
        return task

    async def get(self, replay_id: str) -> ReplayTask:
        """Return a replay. Raises `ReplayNotFound`."""
        raw = await self._redis.get(self._task(replay_id))
        if raw is None:
            raise ReplayNotFound(f"No replay has the id {replay_id!r}.")
        return _decoder.decode(raw)

    async def newest(self) -> list[ReplayTask]:
        """Return the replays, newest first."""
        ids = await self._redis.zrevrange(self._newest, 0, _KEPT - 1)
        raws = await self._redis.mget([self._task(text(each)) for each in ids]) if ids else []
        return [_decoder.decode(raw) for raw in raws if raw is not None]

    async def cancel(self, replay_id: str, *, now: float) -> ReplayTask:
        """Cancel a replay and return it: CANCELLED, or as it is until its job has ended it.

        Raises `ReplayNotFound`, and `ReplayRefused` when it has ended, or is a promotion that has
        begun, which has to come to its end.
        """
        task = await self.get(replay_id)
        if task.status == "CANCELLED":
            return task
        if task.status not in OPEN:
            raise ReplayRefused(f"Replay {replay_id} has ended already: {task.status}.")
        if task.action == "promote" and task.status == "RUNNING":
            raise ReplayRefused(f"{task.into} is being promoted, which has to end.")
        await self._redis.sadd(self._cancelled, replay_id)
        if await self._redis.set(self._lease(replay_id), "cancel", nx=True, px=LEASE_MS):
            # No job has it, and none can take it meanwhile; but one may just have ended it.
            task = await self.get(replay_id)
            if task.status in OPEN:
                await self.finish(ended(task, "CANCELLED", "cancelled", now=now), "cancel")
            else:
                await self.give_back(replay_id, "cancel")
        return await self.get(replay_id)

    async def resume(self, replay_id: str, *, now: float) -> ReplayTask:
        """Queue a replay again that was cancelled or has failed.

        Raises what `cancel` and `add` raise.
        """
        task = await self.get(replay_id)
        if task.status in OPEN or task.status == "SUCCEEDED":
            raise ReplayRefused(
                f"Replay {replay_id} is {task.status}: there is nothing to go on with."
            )
        task = msgspec.structs.replace(
            task,
            status="QUEUED",
            step="queued",
            error=None,
            finished_at=None,
            updated_at=now,
            attempts=0,
        )
        await self._claim_target(task)
        await self._redis.srem(self._cancelled, replay_id)
        await self._store(task)
        return task

    async def waits(self) -> bool:
        """Return whether there is a replay that no job has."""
        return await self._free() is not None

    async def claim(self, holder: str, *, now: float) -> ReplayTask | None:
        """Take the oldest replay that no job has; it is RUNNING then. None: there is none."""
        task = await self._free()
        if task is None:
            return None
        if not await self._redis.set(self._lease(task.id), holder, nx=True, px=LEASE_MS):
            return None
        # It may have ended since it was looked at.
        task = await self.get(task.id)
        if task.status not in OPEN:
            await self._redis.delete(self._lease(task.id))
            return None
        task = msgspec.structs.replace(
            task,
            status="RUNNING",
            step="starting",
            started_at=task.started_at or now,
            attempts=task.attempts + 1,
        )
        await self.save(task, holder)
        return task

    async def save(self, task: ReplayTask, holder: str) -> None:
        """Store the replay as it stands, and keep the lease. Raises `LeaseLapsed`."""
        saved = await self._save_held(
            keys=[self._lease(task.id), self._task(task.id)],
            args=[holder, msgspec.json.encode(task), LEASE_MS],
        )
        if not saved:
            raise _lapsed(task)

    async def is_cancelled(self, replay_id: str) -> bool:
        """Return whether somebody has asked for its end."""
        return bool(await self._redis.sismember(self._cancelled, replay_id))

    async def finish(self, task: ReplayTask, holder: str) -> None:
        """Store a replay at its end, and give the lease back, at once. Raises `LeaseLapsed`."""
        finished = await self._finish_held(
            keys=[self._lease(task.id), self._task(task.id), self._cancelled, self._active],
            args=[holder, task.id, msgspec.json.encode(task), _target(task)],
        )
        if not finished:
            raise _lapsed(task)

    async def give_back(self, replay_id: str, holder: str) -> None:
        """Let the next job go on with a replay."""
        await self._give_back(keys=[self._lease(replay_id)], args=[holder])

    async def _free(self) -> ReplayTask | None:
        for task in reversed(await self.newest()):
            if task.status in OPEN and not await self._redis.exists(self._lease(task.id)):
                return task
        return None

    async def _claim_target(self, task: ReplayTask) -> None:
        if task.dry_run:
            await self._check_target(task)
            return
        while not await self._redis.hsetnx(self._active, _target(task), task.id):
            await self._check_target(task)
            # Whoever put it there died before it was queued, or after it had ended.
            await self._redis.hdel(self._active, _target(task))

    async def _check_target(self, task: ReplayTask) -> None:
        """Raise `ReplayRefused` while another replay writes to the same, or is to."""
        other_id = await self._redis.hget(self._active, _target(task))
        raw = await self._redis.get(self._task(text(other_id))) if other_id else None
        other = None if raw is None else _decoder.decode(raw)
        if other is not None and other.status in OPEN and other.id != task.id:
            where = "the live state" if task.into is None else task.into
            raise ReplayRefused(
                f"Replay {other.id} into {where} has not ended; cancel it, or wait."
            )

    async def _store(self, task: ReplayTask) -> None:
        await self._redis.set(self._task(task.id), msgspec.json.encode(task))

    def _task(self, replay_id: str) -> str:
        return f"{self._stem}:task:{replay_id}"

    def _lease(self, replay_id: str) -> str:
        return f"{self._stem}:lease:{replay_id}"


_decoder = msgspec.json.Decoder(ReplayTask)


def ended(
    task: ReplayTask, status: ReplayStatus, step: str, *, now: float, error: str | None = None
) -> ReplayTask:
    """Return the replay at its end."""
    return msgspec.structs.replace(
        task, status=status, step=step, updated_at=now, finished_at=now, error=error
    )


def _lapsed(task: ReplayTask) -> LeaseLapsed:
    return LeaseLapsed(f"Replay {task.id} is another job's by now.")


def _target(task: ReplayTask) -> str:
    """Return the field that stands for what a replay writes to."""
    return f"{task.model_id}/{task.into or ''}"
