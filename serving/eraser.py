"""Erasing a user: Kafka learns of it, for all who read the log, and Redis forgets at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from aiokafka.errors import KafkaConnectionError

from headrace.erasures import Erasure
from headrace.errors import HeadraceError
from headrace.log import end_offsets
from headrace.producer import Outgoing, Producer
from headrace.redis_eraser import RedisEraser
from headrace.settings import Settings
from headrace.topics import ERASURES, TopicLookup, Topics

_LOOK_UP_TIMEOUT_MS = 5_000
_TRIES = 3


class Eraser:
    """Erases users. Either step may be repeated."""

    def __init__(
        self,
        settings: Settings,
        producer: Producer,
        redis_eraser: RedisEraser,
        clock: Callable[[], float],
    ) -> None:
        """`redis_eraser` erases of all models; `clock` gives Unix seconds."""
        self._settings = settings
        self._topics = Topics(settings)
        self._producer = producer
        self._redis_eraser = redis_eraser
        self._clock = clock
        self._lookup = TopicLookup(settings, timeout_ms=_LOOK_UP_TIMEOUT_MS)

    async def announce(self, user_id: str) -> Erasure:
        """Write to Kafka how far the topics have come; return it once Kafka has acknowledged.

        From then on whoever reads the log ignores the user's events from before. Raises
        `aiokafka.errors.KafkaError`.
        """
        erasure = await self.up_to_now(user_id)
        await self.write(erasure)
        return erasure

    async def write(self, erasure: Erasure) -> None:
        """Write an erasure to Kafka; from then on whoever reads the log goes by it.

        Raises `aiokafka.errors.KafkaError`.
        """
        topic, key = self._topics.name(ERASURES), erasure.user_id.encode()
        await self._producer.send([Outgoing(topic, key, msgspec.json.encode(erasure))])

    async def carry_out(self, erasure: Erasure) -> None:
        """Erase the user from Redis. Raises `redis.exceptions.RedisError` or `OSError`."""
        await self._redis_eraser.erase(erasure)

    async def close(self) -> None:
        """Disconnect."""
        await asyncio.to_thread(self._lookup.close)

    async def up_to_now(self, user_id: str) -> Erasure:
        """Return an erasure of all that the topics of all models' events hold now.

        Nothing is written yet. Raises `aiokafka.errors.KafkaError`.
        """
        ids = await self._ids()
        for _ in range(_TRIES):
            try:
                through = await asyncio.to_thread(
                    end_offsets, self._settings, tuple(self._topics.all_kinds)
                )
            except HeadraceError as exc:
                raise KafkaConnectionError(str(exc)) from exc
            before, ids = ids, await self._ids()
            # Where a topic was made anew the offsets may be of the one before, or of this one.
            if before == ids:
                return Erasure(
                    user_id=user_id,
                    at=self._clock(),
                    topic_ids=ids,
                    through={topic: ends for topic, ends in through.items() if topic in ids},
                )
        raise KafkaConnectionError("topics are made anew again and again")

    async def _ids(self) -> dict[str, str]:
        """Return the topics' ids as they are now. Raises `aiokafka.errors.KafkaError`."""
        # Deferred: a server that erases nobody need not pay for this import.
        from kafka.errors import KafkaError

        names = [self._topics.name(topic) for topic in (*self._topics.all_kinds, ERASURES)]
        try:
            found = await asyncio.to_thread(self._lookup.look_up, names)
        except (KafkaError, OSError, ValueError) as exc:
            raise KafkaConnectionError(f"the topics cannot be read: {exc!r}") from exc
        ids = {self._topics.plain(name): topic.id for name, topic in found.items()}
        # Made by the broker itself it would not be compacted.
        if ids.pop(ERASURES, None) is None:
            raise KafkaConnectionError(
                f"there is no topic {self._topics.name(ERASURES)}; workers make it"
            )
        return ids
