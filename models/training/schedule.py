"""The clock asks for a training: every so often, or at the times of a cron expression."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timezone

import msgspec
from croniter import CroniterBadDateError, croniter  # type: ignore[import-untyped]
from redis.asyncio import Redis

from headrace.commands.durations import seconds
from headrace.errors import HeadraceError, InvalidSetting
from headrace.settings import Settings
from headrace.store import load_script, text
from headrace.training_requests import TrainingRequest, usual_request

_LEAST_S = 60.0


def last_tick(every: str) -> Callable[[float], float]:
    """Return what tells of a time, in Unix seconds, the last tick up to it.

    Raises `InvalidSetting` for what is neither a duration nor cron syntax.
    """
    if len(every.split()) == 5:
        if not croniter.is_valid(every):
            raise InvalidSetting(_INVALID.format(every=every))
        return lambda now: _cron_tick(every, now)
    try:
        period = seconds(every, "HEADRACE_RETRAIN_EVERY")
    except HeadraceError as exc:
        raise InvalidSetting(_INVALID.format(every=every)) from exc
    if period < _LEAST_S:
        raise InvalidSetting(f"HEADRACE_RETRAIN_EVERY has value {every!r}. It is 60s at the least.")
    return lambda now: now // period * period


_INVALID = (
    "HEADRACE_RETRAIN_EVERY has value {every!r}. It is a duration like 6h, or five fields of cron "
    "like '0 3 * * *', in UTC."
)


def _cron_tick(every: str, now: float) -> float:
    # Of a time that is a tick itself croniter tells the one before.
    moment = datetime.fromtimestamp(math.floor(now) + 1, tz=timezone.utc)
    try:
        return float(croniter(every, moment).get_prev(float))
    except CroniterBadDateError:
        # It never ticks: the thirtieth of February.
        return 0.0


class ClockTrigger:
    """Asks at every tick of `retrain.every`, however many trainers look.

    Ticks that nobody saw are one: the last of them counts. The request is made before the tick is
    noted, so that none is missed; its key makes it one task.
    """

    def __init__(self, redis: Redis, settings: Settings) -> None:
        """Raises `InvalidSetting`."""
        every = settings.retrain.every.strip()
        self._redis = redis
        self._model_id = settings.model_id
        self._usual = usual_request(settings)
        self._tick = last_tick(every) if every else None
        self._every = every
        self._key = settings.key("retrain", settings.model_id, "tick")
        self._move = redis.register_script(load_script("compare_and_set.lua"))

    async def due(self, now: float) -> tuple[TrainingRequest, float] | None:
        """Return what is to be asked for now, and the tick to note then; None when nothing is."""
        if self._tick is None:
            return None
        tick = self._tick(now)
        # From the first look on, not for the past.
        if await self._redis.set(self._key, repr(tick), nx=True):
            return None
        noted = await self._redis.get(self._key)
        if noted is None or tick <= float(text(noted)):
            return None
        request = msgspec.structs.replace(
            self._usual,
            idempotency_key=f"clock-{self._model_id}-{tick:.0f}",
            reason=f"by the clock: {self._every}",
            requested_by="clock",
        )
        return request, tick

    async def note(self, tick: float) -> None:
        """Say that this tick was asked for, and all before it."""
        noted = await self._redis.get(self._key)
        if noted is None or float(text(noted)) < tick:
            seen = "" if noted is None else text(noted)
            await self._move(keys=[self._key], args=[seen, repr(tick)])
