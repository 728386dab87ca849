"""How far each partition of the topics has been applied: where a worker begins.

The positions stand in Redis beside what was applied, and each is written after it. So a Redis that
lost its last second remembers positions that go with what it still has, and whoever begins there
applies what was lost once more. The offsets committed in Kafka are for those who watch the lag.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.commands.core import AsyncScript

from headrace.settings import Settings
from headrace.store import Reading, load_script, text
from headrace.topics import Place

Positions = Mapping[Place, int]
"""By place, the offset after the last record that is done with."""


class Applied(Struct, frozen=True):
    """The positions, and which topics the workers read now."""

    positions: Positions
    topic_ids: Mapping[str, str]
    """By topic, without its prefix; of one that was made anew, the positions of both are known."""


class PositionStore:
    """The positions in Redis, one hash: `<topic>/<topic id>/<partition>` to an offset."""

    def __init__(self, redis: Redis, settings: Settings, of: str = "positions") -> None:
        """`of`: what has been done up to there, where that is not the applying of events."""
        self._redis = redis
        self._key = settings.state_key(of)
        self._topics_key = settings.state_key("positions", "topics")
        self._script: AsyncScript = redis.register_script(load_script("raise_fields.lua"))

    async def read(self) -> dict[Place, int]:
        """Return all positions; a place without one has not been begun.

        Raises `redis.exceptions.RedisError`.
        """
        return _positions(await self._redis.hgetall(self._key))

    def reading(self) -> Reading[Applied]:
        """Return how to read the positions, and of which topics they are, with other things."""

        def queue(pipeline: Pipeline) -> None:
            pipeline.hgetall(self._key)
            pipeline.hgetall(self._topics_key)

        def parse(answers: list[dict[Any, Any]]) -> Applied:
            positions, topics = answers
            ids = {text(topic): text(topic_id) for topic, topic_id in topics.items()}
            return Applied(_positions(positions), ids)

        return Reading(queue, parse)

    async def begin(self, topic_ids: Mapping[str, str]) -> None:
        """Note which topics are read from now on, by name without the prefix.

        Raises `redis.exceptions.RedisError`.
        """
        fields: dict[Any, Any] = dict(topic_ids)
        await self._redis.hset(self._topics_key, mapping=fields)

    async def advance(self, positions: Positions) -> None:
        """Store positions whose records' effects are stored; none ever goes back.

        Raises `redis.exceptions.RedisError`.
        """
        rows: list[str | int] = []
        for place, offset in positions.items():
            rows += (str(place), offset)
        if rows:
            await self._script(keys=[self._key], args=rows)

    async def forget(self, places: Iterable[Place]) -> None:
        """Delete the positions of topics that are no more. Raises `redis.exceptions.RedisError`."""
        names = [str(place) for place in places]
        if names:
            await self._redis.hdel(self._key, *names)


def _positions(fields: Mapping[Any, Any]) -> dict[Place, int]:
    return {Place.parse(text(name)): int(offset) for name, offset in fields.items()}
