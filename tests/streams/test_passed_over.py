"""Offsets at which there is no record for a worker: nobody waits for them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from parts import Part, eventually
from redis.asyncio import Redis

from headrace.heartbeats import HeartbeatStore
from headrace.positions import PositionStore
from headrace.settings import Settings
from headrace.topics import Topics, ensure_topics

pytestmark = pytest.mark.brokers("apache")

EVENTS = 20
STALL_S = 2.0


def click(number: int) -> bytes:
    fields = {"event_id": f"c{number}", "user_id": f"u{number}", "item_id": "i", "timestamp": 1e9}
    return msgspec.json.encode(fields)


async def send(settings: Settings, partition: int, **options: Any) -> None:
    topic = Topics(settings).name("clicks")
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, **options) as producer:
        if "transactional_id" in options:
            async with producer.transaction():
                for number in range(EVENTS):
                    await producer.send(topic, click(number), partition=partition)
        else:
            for number in range(EVENTS):
                await producer.send(topic, click(100 + number), partition=partition)


def delete_records(settings: Settings, partition: int, before: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka)
    try:
        admin.delete_records({TopicPartition(Topics(settings).name("clicks"), partition): before})
    finally:
        admin.close()


async def test_marks_of_transactions_and_deleted_records_are_done_with(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    await send(settings, 0, transactional_id=settings.namespace)
    await send(settings, 1)
    await asyncio.to_thread(delete_records, settings, 1, EVENTS)
    impatient = msgspec.structs.replace(settings.worker, stall_s=STALL_S)
    with Part("worker", msgspec.structs.replace(settings, worker=impatient), tmp_path) as worker:

        async def is_level() -> bool:
            beats = await HeartbeatStore(redis, settings).read("worker")
            return any(
                (beat.figures["applied"], beat.figures["lag"]) == (EVENTS, 0) for beat in beats
            )

        await eventually(is_level, "the worker has no lag")
        await asyncio.sleep(2 * STALL_S)
        assert worker.runs
        positions = await PositionStore(redis, settings).read()
        ends = {place.partition: at for place, at in positions.items() if place.topic == "clicks"}
        assert ends == {0: EVENTS + 1, 1: EVENTS}
