"""Changes of the catalogue by this server: in Kafka, which keeps their order, and in Redis at once.

A worker applies them too when it comes to them; where a change stands in the topic tells that it
has been applied. So a change counts from the answer on, however far behind the workers are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from aiokafka.errors import KafkaConnectionError

from headrace.catalog import CatalogStore, Item, ItemChange
from headrace.producer import Outgoing, Producer
from headrace.settings import Settings
from headrace.topics import ITEMS, TopicLookup, Topics

_APPLIED_AT_ONCE = 250
"""Changes in one pipeline: Redis answers it well within a server's patience."""
_LOOK_UP_TIMEOUT_MS = 5_000
_TRIES = 3


class CatalogWriter:
    """Changes the catalogue."""

    def __init__(self, settings: Settings, producer: Producer, catalog: CatalogStore) -> None:
        self._topic = Topics(settings).name(ITEMS)
        self._producer = producer
        self._catalog = catalog
        self._lookup = TopicLookup(settings, timeout_ms=_LOOK_UP_TIMEOUT_MS)
        self._topic_id: str | None = None

    async def send(self, changes: Sequence[tuple[str, Item | None]]) -> list[ItemChange]:
        """Send items, None for one that is deleted; return the changes once Kafka has them.

        Raises `aiokafka.errors.KafkaError`.
        """
        records = [
            Outgoing(self._topic, item_id.encode(), msgspec.json.encode(item) if item else None)
            for item_id, item in changes
        ]
        for _ in range(_TRIES):
            before = self._topic_id or await self._look_up()
            positions = await self._producer.send(records)
            self._topic_id = await self._look_up()
            # Where the topic was made anew the offsets may be of the one before, or of this one.
            if self._topic_id == before:
                return [
                    ItemChange(item_id, item, before, position.partition, position.offset)
                    for (item_id, item), position in zip(changes, positions, strict=True)
                ]
        raise KafkaConnectionError(f"the topic {self._topic} is made anew again and again")

    async def apply(self, changes: Sequence[ItemChange]) -> None:
        """Apply changes to Redis; a worker's applying them changes nothing then.

        Raises `redis.exceptions.RedisError` or `OSError`.
        """
        for first in range(0, len(changes), _APPLIED_AT_ONCE):
            await self._catalog.apply(changes[first : first + _APPLIED_AT_ONCE])

    async def close(self) -> None:
        """Disconnect."""
        await asyncio.to_thread(self._lookup.close)

    async def _look_up(self) -> str:
        """Return the topic's id as it is now. Raises `aiokafka.errors.KafkaError`."""
        # Deferred: a server whose catalogue nobody changes need not pay for this import.
        from kafka.errors import KafkaError

        try:
            found = await asyncio.to_thread(self._lookup.look_up, [self._topic])
        except (KafkaError, OSError, ValueError) as exc:
            raise KafkaConnectionError(f"the topics cannot be read: {exc!r}") from exc
        if self._topic not in found:
            raise KafkaConnectionError(f"there is no topic {self._topic}")
        return found[self._topic].id
