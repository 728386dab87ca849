"""Sending to and reading from a real broker, with kafka-python."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from headrace.dead_letters import DeadLetters, Record
from headrace.errors import InvalidEvent
from headrace.producer import Producer
from headrace.settings import Settings
from headrace.topics import Topics, ensure_topics

_PATIENCE_S = 30.0


@contextmanager
def sender(settings: Settings) -> Iterator[KafkaProducer]:
    """A producer that has sent everything when the block is left."""
    producer = KafkaProducer(bootstrap_servers=settings.kafka, acks="all", linger_ms=1)
    try:
        yield producer
        producer.flush(_PATIENCE_S)
    finally:
        producer.close()


def send_events(
    settings: Settings, topic: str, events: Sequence[dict[str, Any]]
) -> list[tuple[int, int]]:
    """Send events as any Kafka client does; return the partition and offset of each."""
    name = Topics(settings).name(topic)
    with sender(settings) as producer:
        pending = [
            producer.send(name, key=event["user_id"].encode(), value=json.dumps(event).encode())
            for event in events
        ]
        sent = [each.get(_PATIENCE_S) for each in pending]
    return [(each.partition, each.offset) for each in sent]


def send_raw(
    settings: Settings,
    topic: str,
    records: Sequence[tuple[bytes | None, bytes | None]],
    partition: int | None = None,
) -> list[tuple[int, int]]:
    """Send keys and values as they are; return the partition and offset of each."""
    name = Topics(settings).name(topic)
    with sender(settings) as producer:
        pending = [
            producer.send(name, key=key, value=value, partition=partition) for key, value in records
        ]
        sent = [each.get(_PATIENCE_S) for each in pending]
    return [(each.partition, each.offset) for each in sent]


def read_topic(settings: Settings, topic: str) -> list[Any]:
    """All records that the topic holds now, by partition and offset."""
    name = Topics(settings).name(topic)
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka, enable_auto_commit=False)
    try:
        partitions = [
            TopicPartition(name, number) for number in consumer.partitions_for_topic(name) or ()
        ]
        # The end of a batch, not always that of the log: the fetches tell the rest.
        filled = [at for at, end in consumer.end_offsets(partitions).items() if end]
        if not filled:
            return []
        consumer.assign(filled)
        consumer.seek_to_beginning()
        records: list[Any] = []
        deadline = time.monotonic() + _PATIENCE_S
        while any(consumer.position(at) != consumer.highwater(at) for at in filled):
            assert time.monotonic() < deadline, f"{name} cannot be read to its end"
            for polled in consumer.poll(timeout_ms=200).values():
                records += polled
        return sorted(records, key=lambda record: (record.partition, record.offset))
    finally:
        consumer.close()


def delete_topic(settings: Settings, topic: str) -> None:
    """Delete the topic and wait until it is gone."""
    name = Topics(settings).name(topic)
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka)
    try:
        admin.delete_topics([name])
        deadline = time.monotonic() + _PATIENCE_S
        while name in admin.list_topics():
            assert time.monotonic() < deadline, f"{name} is not deleted"
            time.sleep(0.05)
    finally:
        admin.close()


def make_topic(settings: Settings, topic: str, config: dict[str, str]) -> None:
    """Make a topic that the broker keeps in this way."""
    made = NewTopic(Topics(settings).name(topic), settings.topics.partitions, 1, None, config)
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka)
    try:
        admin.create_topics([made])
    finally:
        admin.close()


async def bury(
    settings: Settings,
    topic: str,
    records: list[tuple[bytes | None, bytes | None, str]],
    times: int = 1,
) -> None:
    """Bury records that have been at the offsets 0, 1, … of partition 1, as a worker does.

    Each is a key, a value and the reason.
    """
    known = await asyncio.to_thread(ensure_topics, settings)
    producer = Producer(settings)
    letters = DeadLetters(producer, settings, {name: each.id for name, each in known.items()})
    name = Topics(settings).name(topic)
    for offset, (key, value, reason) in enumerate(records):
        for _ in range(times):
            record = Record(name, 1, offset, time.time(), key, value)
            await letters.send([(record, InvalidEvent("", reason))])
    await producer.close()
