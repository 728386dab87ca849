"""What all users together did, kept in Redis: transitions from item to item, and trending counts.

One script takes an event into both, in one step with the mark of its topic's partition, so each
counts once. All of a partition number lies in one slot of a cluster: there the topics share what
each user met last, so that a purchase follows the click before it. An event that a producer sent
again is taken once while it is among its user's newest `REMEMBERED`.

`headrace.transitions` and `headrace.trending` read what is kept here.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.commands.core import AsyncScript

from headrace.sessions import LoggedEvent
from headrace.settings import Settings
from headrace.store import call, load_script, pieces, pipelined
from headrace.topics import Place

STEPS = 10
"""Items that are kept of what the user met before."""
REMEMBERED = 50
"""Newest events of a user among which one that a producer sends again is known by 32 bits of its
`event_id`: half a kilobyte, and one new event in 2**32 / 50 is taken for one of them."""

_EVENTS_A_CALL = 100
"""Of one partition number, in one Lua call: bounds the time for which Redis does nothing else."""


class AggregateKeys:
    """The names of the keys in which aggregates are kept."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._recent = settings.state_key("transitions", "")
        self.streams = settings.state_key("transitions", "streams")
        """Set: the places that have a stream of transitions."""

    def marks(self, partition: int) -> str:
        """Return the key of the marks of a partition number."""
        return self._key("aggregates", partition, "marks")

    def stream(self, place: Place) -> str:
        """Return the key of the transitions to the events of a place."""
        return self._key("transitions", place.partition, "of", place.topic, place.topic_id)

    def recent(self, partition: int, user_id: str) -> str:
        """Return the key of what a user met last, on this partition number."""
        return f"{self._recent}{{{partition}}}:recent:{user_id}"

    def trending(self, topic: str, partition: int) -> str:
        """Return the key of the decayed counts of a topic's partition."""
        return self._key("trending", partition, topic)

    def _key(self, kind: str, partition: int, *parts: str) -> str:
        # One slot a partition number in a cluster: what stands in the first braces is hashed.
        return self._settings.state_key(kind, f"{{{partition}}}", *parts)


class AggregateStore:
    """Takes events into the aggregates."""

    def __init__(self, redis: Redis, settings: Settings, *, expiring: bool = True) -> None:
        """What is not `expiring` stays until somebody deletes it."""
        self._redis = redis
        self._keys = AggregateKeys(settings)
        self._script: AsyncScript = redis.register_script(load_script("aggregate_events.lua"))
        trending = settings.trending
        self._half_life_s = trending.half_life_s
        self._log2_weight = {
            "click": math.log2(trending.click_weight),
            "purchase": math.log2(trending.purchase_weight),
            "rating": math.log2(trending.rating_weight),
        }
        ttl_s = settings.sessions.ttl_s if expiring else 0
        bounds = (STEPS, REMEMBERED, settings.rules.window, trending.limit, ttl_s)
        self._given = (*bounds, repr(trending.half_life_s))

    async def apply(self, events: Sequence[LoggedEvent]) -> int:
        """Take events, in the order given; return how many were new.

        An event at or before the last one of its topic's partition changes nothing, so the same
        batch may be applied again after a failure; nor does one whose `event_id` one of its user's
        newest `REMEMBERED` events had, nor one that was counted as another user's before they were
        merged. Raises `redis.exceptions.RedisError`.
        """
        events = [logged for logged in events if logged.event.merged is not True]
        if not events:
            return 0
        calls = [
            each
            for partition, of_partition in _by_partition(events).items()
            for each in self._calls(partition, of_partition)
        ]
        places = {str(place_of(logged)) for logged in events}

        def queue(pipeline: Pipeline) -> None:
            # First: a stream that there is, is listed.
            pipeline.sadd(self._keys.streams, *places)
            for keys, argument in calls:
                call(pipeline, self._script, keys, argument)

        return sum((await pipelined(self._redis, queue, self._script))[1:])

    def _calls(
        self, partition: int, events: Sequence[LoggedEvent]
    ) -> Iterator[tuple[list[str], bytes]]:
        """Yield keys and argument of each call; it names what the ones before it reach."""
        reached: dict[tuple[str, str], int] = {}
        for piece in pieces(events, _EVENTS_A_CALL):
            yield self._call(partition, piece, reached)
            reached |= {(logged.topic, logged.topic_id): logged.offset for logged in piece}

    def _call(
        self,
        partition: int,
        events: Sequence[LoggedEvent],
        reached: Mapping[tuple[str, str], int],
    ) -> tuple[list[str], bytes]:
        topics: dict[tuple[str, str], int] = {}
        users: dict[str, int] = {}
        rows = []
        for logged in events:
            event = logged.event
            rows.append(
                (
                    topics.setdefault((logged.topic, logged.topic_id), len(topics) + 1),
                    users.setdefault(event.user_id, len(users) + 1),
                    logged.offset,
                    event.item_id,
                    f"{zlib.crc32(event.event_id.encode()):08x}",
                    event.timestamp,
                    self._log2_weight[event.kind] + event.timestamp / self._half_life_s,
                )
            )
        keys = [self._keys.marks(partition)]
        for topic, topic_id in topics:
            keys.append(self._keys.stream(Place(topic, topic_id, partition)))
            keys.append(self._keys.trending(topic, partition))
        keys += [self._keys.recent(partition, user) for user in users]
        fields = [f"{topic}/{topic_id}" for topic, topic_id in topics]
        before = [reached.get(topic, -1) for topic in topics]
        return keys, msgspec.msgpack.encode((*self._given, fields, before, rows))


def place_of(logged: LoggedEvent) -> Place:
    """Return where in the log the event stands, but for its offset."""
    return Place(logged.topic, logged.topic_id, logged.partition)


def _by_partition(events: Iterable[LoggedEvent]) -> dict[int, list[LoggedEvent]]:
    grouped: dict[int, list[LoggedEvent]] = {}
    for logged in events:
        grouped.setdefault(logged.partition, []).append(logged)
    return grouped
