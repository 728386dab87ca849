"""Offsets at which there is no record for a worker: nobody waits for them."""

from __future__ import annotations

import asyncio
import os
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
from headrace.sessions import SessionStore
from headrace.settings import Settings
from headrace.topics import Place, Topics, ensure_topics

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


async def sent(settings: Settings) -> Place:
    """Send events to a partition; return which."""
    known = await asyncio.to_thread(ensure_topics, settings)
    await send(settings, 1)
    return Place("clicks", known[Topics(settings).name("clicks")].id, 1)


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


async def test_what_was_gone_before_a_worker_came_to_it_is_told(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    place = await sent(settings)
    positions = PositionStore(redis, settings)
    await positions.advance({place: 5})
    await asyncio.to_thread(delete_records, settings, 1, 12)
    with Part("worker", settings, tmp_path) as worker:

        async def is_done() -> bool:
            return (await positions.read()).get(place) == EVENTS

        await eventually(is_done, "the worker goes on with what is left")
        told = f"{Topics(settings).name('clicks')}/1: the records from offset 5 to 12 were gone"
        assert told in worker.log()
        assert (await SessionStore(redis, settings).read("u112")).applied == 1
        assert (await SessionStore(redis, settings).read("u111")).applied == 0


async def test_a_log_that_has_lost_its_end_is_not_read_on_in_silence(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    """What is written at offsets that were applied once would be taken for applied."""
    place = await sent(settings)
    # As if there had been ten more.
    await PositionStore(redis, settings).advance({place: EVENTS + 10})
    with Part("worker", settings, tmp_path) as worker:
        assert await asyncio.to_thread(worker.wait) == os.EX_SOFTWARE
        assert "Kafka has lost its end, or the topic was made anew" in worker.log()
    assert (await PositionStore(redis, settings).read())[place] == EVENTS + 10
