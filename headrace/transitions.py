"""Transitions from item to item: what servers learn rules from. They follow; the workers keep.

Each partition of a topic has a stream of its own, an entry being an item that a user met and the
items that the same user had met just before (`headrace.aggregates`). The topic's id is in the
stream's name: a topic made anew begins another one, and the old one expires.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from redis.asyncio import Redis

from headrace.aggregates import AggregateKeys
from headrace.settings import Settings
from headrace.store import text
from headrace.topics import Place

_READ_AT_ONCE = 512
"""Transitions read in one call: some milliseconds of decoding."""


class Transition(Struct, frozen=True):
    """A user met an item, after others."""

    topic: str
    topic_id: str
    partition: int
    offset: int
    item_id: str
    previous: tuple[str, ...]
    """What the user met just before, newest first, at most `STEPS` items."""


Positions = dict[Place, int]
"""By place, the last offset that is known."""


class TransitionStore:
    """The transitions in Redis. Reading never writes."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._keys = AggregateKeys(settings)

    async def read_after(
        self, positions: Mapping[Place, int], limit: int = _READ_AT_ONCE
    ) -> tuple[Positions, list[Transition]]:
        """Return transitions that came after these positions, and the positions after them.

        A stream that has no position is read from its beginning, each in the log's order. At most
        `limit` transitions, and at least one of each stream that has more: call again until none is
        left. What was trimmed away before it was read is passed over.
        """
        places = await self._with_more(positions)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for place in places:
                after = f"{positions.get(place, -1) + 1}-0"
                pipeline.xrange(self._keys.stream(place), after, count=max(1, limit // len(places)))
            entries = await pipeline.execute() if places else []
        transitions = [
            _transition(place, entry_id, fields)
            for place, of_place in zip(places, entries, strict=True)
            for entry_id, fields in of_place
        ]
        # In the order of the transitions: of each place the last one stays.
        reached = {Place(at.topic, at.topic_id, at.partition): at.offset for at in transitions}
        return {**positions, **reached}, transitions

    async def forget(self, user_id: str) -> None:
        """Forget what the user met last. The streams do not say whose transitions they hold."""
        names = await self._redis.smembers(self._keys.streams)
        partitions = {Place.parse(text(name)).partition for name in names}
        async with self._redis.pipeline(transaction=False) as pipeline:
            for partition in partitions:
                pipeline.delete(self._keys.recent(partition, user_id))
            await pipeline.execute()

    async def _with_more(self, positions: Mapping[Place, int]) -> list[Place]:
        """Return the streams that go on after these positions."""
        names = sorted(text(name) for name in await self._redis.smembers(self._keys.streams))
        places = [Place.parse(name) for name in names]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for place in places:
                pipeline.xrevrange(self._keys.stream(place), count=1)
            newest = await pipeline.execute() if places else []
        return [
            place
            for place, entries in zip(places, newest, strict=True)
            if entries and _offset(entries[0][0]) > positions.get(place, -1)
        ]


def _transition(place: Place, entry_id: bytes, fields: Mapping[bytes, bytes]) -> Transition:
    previous = fields[b"previous"].decode()
    return Transition(
        place.topic,
        place.topic_id,
        place.partition,
        _offset(entry_id),
        fields[b"item"].decode(),
        tuple(previous.split("\n")) if previous else (),
    )


def _offset(entry_id: bytes) -> int:
    return int(entry_id.partition(b"-")[0])
