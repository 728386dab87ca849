"""Sending to Kafka: every record is acknowledged by all replicas, or the caller hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError
from aiokafka.partitioner import murmur2
from aiokafka.structs import RecordMetadata
from msgspec import Struct

from headrace.kafka_clients import client_options
from headrace.settings import Settings

_TIMEOUT_S = 10.0


class Outgoing(Struct, frozen=True):
    """A record to be sent."""

    topic: str
    """As the broker names it."""
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Row(Struct, frozen=True):
    """A record of a topic that many are sent to at once."""

    key: bytes
    value: bytes
    time_ms: int
    """The record's own time, in Unix milliseconds."""


class Position(Struct, frozen=True):
    """Where the broker put a record."""

    topic: str
    partition: int
    offset: int


class Producer:
    """An aiokafka producer that connects when it is first used, and again after a failure.

    Keys are hashed as Kafka's own clients hash them (murmur2), so that a user stays on one
    partition whoever sends.
    """

    def __init__(self, settings: Settings, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()

    async def send(self, records: Sequence[Outgoing]) -> list[Position]:
        """Send records and wait until each is acknowledged; return where each one stands.

        Raises `aiokafka.errors.KafkaError`, after `timeout_s` at the latest; some of the records
        may have arrived then, or may do so yet.
        """
        outcomes = await self.send_each(records)
        positions = [outcome for outcome in outcomes if isinstance(outcome, Position)]
        for outcome in outcomes:
            if not isinstance(outcome, Position):
                raise outcome
        return positions

    async def send_each(self, records: Sequence[Outgoing]) -> list[Position | KafkaError]:
        """Send records; return where each one stands, or why it has not been acknowledged.

        Returns after `timeout_s` at the latest. One that has not been acknowledged by then may have
        arrived, or may do so yet.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout_s
        why: KafkaError = KafkaTimeoutError(f"{self._settings.kafka} has not acknowledged")
        pending: list[asyncio.Future[RecordMetadata]] = []
        try:
            await asyncio.wait_for(self._begin(records, pending), self._timeout_s)
        except asyncio.TimeoutError:
            pass
        except KafkaError as exc:
            why = exc
        if pending:
            await asyncio.wait(pending, timeout=max(0.0, deadline - clock()))
        outcomes = [_outcome(acknowledgement, why) for acknowledgement in pending]
        return outcomes + [why] * (len(records) - len(pending))

    async def _begin(
        self, records: Sequence[Outgoing], pending: list[asyncio.Future[RecordMetadata]]
    ) -> None:
        """Hand records over to be sent; put what will tell of each one into `pending`."""
        producer = await self.connect()
        for record in records:
            acknowledgement = await producer.send(
                record.topic, key=record.key, value=record.value, headers=list(record.headers)
            )
            # Nobody may be left to hear of a failure; asyncio would log each one.
            acknowledgement.add_done_callback(_heard)
            pending.append(acknowledgement)

    async def send_batched(self, topic: str, rows: Sequence[Row]) -> None:
        """Send records of one topic, as few batches of them as will do, and wait until all arrived.

        A record by itself costs several times as much. Raises `aiokafka.errors.KafkaError`, after
        `timeout_s` at the latest; some of the records may have arrived then, or may do so yet.
        """
        try:
            await asyncio.wait_for(self._send_batched(topic, rows), self._timeout_s)
        except asyncio.TimeoutError as exc:
            raise KafkaTimeoutError(f"{self._settings.kafka} has not acknowledged") from exc

    async def _send_batched(self, topic: str, rows: Sequence[Row]) -> None:
        producer = await self.connect()
        count = len(await producer.partitions_for(topic))
        by_partition: dict[int, list[Row]] = {}
        for row in rows:
            by_partition.setdefault(partition_of(row.key, count), []).append(row)
        pending: list[asyncio.Future[RecordMetadata]] = []
        for partition, of_partition in by_partition.items():
            batch = producer.create_batch()
            for row in of_partition:
                if not _put(batch, row):
                    pending.append(await producer.send_batch(batch, topic, partition=partition))
                    batch = producer.create_batch()
                    _put(batch, row)
            pending.append(await producer.send_batch(batch, topic, partition=partition))
        for acknowledgement in pending:
            acknowledgement.add_done_callback(_heard)
        if pending:
            # What is given up on is not cancelled: the producer still means to tell of it.
            done, _ = await asyncio.wait(pending)
            for acknowledgement in done:
                acknowledgement.result()

    async def connect(self) -> AIOKafkaProducer:
        """Connect, if that is not done yet. Raises `aiokafka.errors.KafkaError`."""
        async with self._connecting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **client_options(self._settings),
                    acks="all",
                    request_timeout_ms=int(self._timeout_s * 1000),
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def ping(self) -> None:
        """Ask the broker for its metadata. Raises `aiokafka.errors.KafkaError` or `OSError`."""
        producer = await self.connect()
        if not await producer.client.force_metadata_update():
            raise KafkaConnectionError(f"{self._settings.kafka} does not answer")

    async def close(self) -> None:
        """Send what is buffered and disconnect."""
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, count: int) -> int:
    """Return on which of so many partitions Kafka's own clients put records of this key."""
    hashed: int = murmur2(key)
    return (hashed & 0x7FFFFFFF) % count


def _put(batch: Any, row: Row) -> bool:
    """Put a record into a batch; return whether there was room for it. An empty one has room."""
    return batch.append(timestamp=row.time_ms, key=row.key, value=row.value) is not None


def _outcome(
    acknowledgement: asyncio.Future[RecordMetadata], why_not: KafkaError
) -> Position | KafkaError:
    if not acknowledgement.done() or acknowledgement.cancelled():
        return why_not
    error = acknowledgement.exception()
    if error is None:
        at = acknowledgement.result()
        return Position(at.topic, at.partition, at.offset)
    if not isinstance(error, KafkaError):
        raise error
    return error


def _heard(acknowledgement: asyncio.Future[Any]) -> None:
    if not acknowledgement.cancelled():
        acknowledgement.exception()
