"""The retrain trigger: after so many new events, a retrain event fires by itself."""

from __future__ import annotations

import msgspec
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from headrace.producer import Outgoing, Producer
from headrace.settings import Settings
from headrace.store import load_script, text
from headrace.topics import RETRAIN, Topics
from headrace.training_requests import usual_request
from headrace.trending import TrendingStore


class CountTrigger:
    """Fires at every multiple of `retrain.every_events` that the count of all events passes.

    It does so for each model that reads the same topics. Every worker checks. The request is sent
    before the next multiple is stored, so that none is missed when a worker dies in between; two
    workers may send the same request, whose key makes it one task.
    """

    def __init__(
        self, redis: Redis, settings: Settings, trending: TrendingStore, producer: Producer
    ) -> None:
        """Raises `InvalidSetting` for what no training can be asked for with."""
        self._redis = redis
        self._settings = settings
        self._usual = {
            model_id: usual_request(settings.of_model(model_id))
            for model_id in settings.models_alike
        }
        self._trending = trending
        self._producer = producer
        self._move: AsyncScript = redis.register_script(load_script("compare_and_set.lua"))

    async def check(self) -> bool:
        """Send the retrain events that are due; return whether there were any."""
        every = self._settings.retrain.every_events
        if not every:
            return False
        counted = await self._trending.events_counted()
        return any([await self._check(model_id, counted, every) for model_id in self._usual])

    async def _check(self, model_id: str, counted: int, every: int) -> bool:
        key = self._settings.key("retrain", model_id, "due")
        stored = await self._redis.get(key)
        due = int(text(stored)) if stored is not None else every
        following = (counted // every + 1) * every
        is_due = counted >= due
        if is_due:
            await self._send(model_id, due, counted)
        # Further off than that it is when the setting was lowered.
        if is_due or following < due:
            await self._move(keys=[key], args=["" if stored is None else due, following])
        return is_due

    async def _send(self, model_id: str, due: int, counted: int) -> None:
        request = msgspec.structs.replace(
            self._usual[model_id],
            idempotency_key=f"count-{model_id}-{due}",
            reason=f"{counted:,} events counted, {due:,} were due",
            requested_by="worker",
        )
        topic = Topics(self._settings).name(RETRAIN)
        await self._producer.send(
            [Outgoing(topic, model_id.encode(), msgspec.json.encode(request))]
        )
