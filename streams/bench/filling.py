"""Putting many events into the topics, a batch a request, faster than a worker reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer

from headrace.kafka_clients import client_options
from headrace.settings import Settings
from headrace.topics import Topics
from streams.bench.events import Piece


class Filler:
    """Sends events to the topics' partitions in batches as large as a producer's are by default."""

    def __init__(self, producer: AIOKafkaProducer, topics: Topics) -> None:
        self._producer = producer
        self._topics = topics

    async def fill(
        self, pieces: Iterable[Piece], advance: Callable[[int], object] = lambda _: None
    ) -> int:
        """Send the events and return how many there were; `advance` is told of each piece."""
        sent = 0
        for piece in pieces:
            pending = []
            for (topic, partition), records in piece.items():
                pending += await self.send(topic, partition, records)
            await asyncio.gather(*pending)
            count = sum(map(len, piece.values()))
            advance(count)
            sent += count
        return sent

    async def send(
        self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes]]
    ) -> list[asyncio.Future[Any]]:
        """Send records to a partition; return what is done when they are acknowledged."""
        name = self._topics.name(topic)
        pending = []
        batch = self._producer.create_batch()
        for key, value in records:
            if batch.append(timestamp=None, key=key, value=value) is None:
                pending.append(await self._producer.send_batch(batch, name, partition=partition))
                batch = self._producer.create_batch()
                batch.append(timestamp=None, key=key, value=value)
        pending.append(await self._producer.send_batch(batch, name, partition=partition))
        return pending


@asynccontextmanager
async def filler(settings: Settings) -> AsyncIterator[Filler]:
    """A filler that is connected inside the block."""
    producer = AIOKafkaProducer(**client_options(settings), acks="all")
    await producer.start()
    try:
        yield Filler(producer, Topics(settings))
    finally:
        await producer.stop()
