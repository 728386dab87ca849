"""Transitions from item to item, in Redis, each event once: what servers learn rules from.

The workers keep them; servers follow. Each partition of a topic has a stream of its own, an entry
being an item that a user met and the items that the same user had met just before. The topic's id
is in the stream's name: a topic made anew begins another one, and the old one expires.

All of a partition number lies in one slot: there the topics share what each user met last, so that
a purchase follows the click before it. An event's entry and its user's items change in one step.
An event that a producer sent twice is kept once while it is among its user's newest.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from headrace.sessions import LoggedEvent
from headrace.settings import Settings
from headrace.store import load_script, text

STEPS = 10
"""Items that are kept of what the user met before."""
REMEMBERED = 50
"""Newest events of a user among which one that a producer sends again is known by its `event_id`:
half a kilobyte."""

_EVENTS_A_CALL = 250
"""Of one partition number, in one Lua call: bounds the time for which Redis does nothing else."""
_READ_AT_ONCE = 512
"""Transitions read in one call: some milliseconds of decoding."""


class Place(Struct, frozen=True):
    """A partition of a topic as it was made: where a stream's transitions come from."""

    topic: str
    """Without the prefix."""
    topic_id: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.topic_id}/{self.partition}"

    @classmethod
    def parse(cls, name: str) -> Place:
        """Return the place of this name; the reverse of `str`."""
        topic, _, rest = name.partition("/")
        topic_id, _, partition = rest.rpartition("/")
        return cls(topic, topic_id, int(partition))


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
        self._settings = settings
        self._script: AsyncScript = redis.register_script(load_script("keep_transitions.lua"))

    async def apply(self, events: Sequence[LoggedEvent]) -> int:
        """Keep the transitions to these events, in the order given; return how many were new.

        An event at or before the last one of its topic's partition changes nothing, so the same
        batch may be applied again after a failure; nor does one whose `event_id` one of its user's
        newest `REMEMBERED` events had. Raises `redis.exceptions.RedisError`.
        """
        async with self._redis.pipeline(transaction=False) as pipeline:
            # First: a stream that there is, is listed.
            pipeline.sadd(self._streams_key(), *{str(_place(logged)) for logged in events})
            for partition, of_partition in _by_partition(events).items():
                for first in range(0, len(of_partition), _EVENTS_A_CALL):
                    keys, arguments = self._call(
                        partition, of_partition[first : first + _EVENTS_A_CALL]
                    )
                    await self._script(keys=keys, args=arguments, client=pipeline)
            return sum((await pipeline.execute())[1:])

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
                pipeline.xrange(self._stream(place), after, count=max(1, limit // len(places)))
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
        names = await self._redis.smembers(self._streams_key())
        partitions = {Place.parse(text(name)).partition for name in names}
        async with self._redis.pipeline(transaction=False) as pipeline:
            for partition in partitions:
                pipeline.delete(self._recent(partition, user_id))
            await pipeline.execute()

    async def _with_more(self, positions: Mapping[Place, int]) -> list[Place]:
        """Return the streams that go on after these positions."""
        names = sorted(text(name) for name in await self._redis.smembers(self._streams_key()))
        places = [Place.parse(name) for name in names]
        async with self._redis.pipeline(transaction=False) as pipeline:
            for place in places:
                pipeline.xrevrange(self._stream(place), count=1)
            newest = await pipeline.execute() if places else []
        return [
            place
            for place, entries in zip(places, newest, strict=True)
            if entries and _offset(entries[0][0]) > positions.get(place, -1)
        ]

    def _call(
        self, partition: int, events: Sequence[LoggedEvent]
    ) -> tuple[list[str], list[str | int]]:
        """Return keys and arguments of a call of the script."""
        streams: dict[str, int] = {}
        users: dict[str, int] = {}
        rows: list[str | int] = []
        for logged in events:
            stream, user = self._stream(_place(logged)), logged.event.user_id
            rows += (
                streams.setdefault(stream, len(streams) + 1),
                users.setdefault(user, len(users) + 1),
                logged.offset,
                logged.event.item_id,
                f"{zlib.crc32(logged.event.event_id.encode()):08x}",
            )
        bounds = (STEPS, REMEMBERED, self._settings.rules.window, self._settings.sessions.ttl_s)
        keys = [*streams, *(self._recent(partition, user) for user in users)]
        return keys, [len(streams), *bounds, *rows]

    def _streams_key(self) -> str:
        return self._settings.key("transitions", "streams")

    def _stream(self, place: Place) -> str:
        return self._key(place.partition, "of", place.topic, place.topic_id)

    def _recent(self, partition: int, user_id: str) -> str:
        return self._key(partition, "recent", user_id)

    def _key(self, partition: int, *parts: str) -> str:
        # One slot a partition number in a cluster: what stands in the first braces is hashed.
        return self._settings.key("transitions", f"{{{partition}}}", *parts)


def _place(logged: LoggedEvent) -> Place:
    return Place(logged.topic, logged.topic_id, logged.partition)


def _by_partition(events: Iterable[LoggedEvent]) -> dict[int, list[LoggedEvent]]:
    grouped: dict[int, list[LoggedEvent]] = {}
    for logged in events:
        grouped.setdefault(logged.partition, []).append(logged)
    return grouped


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
