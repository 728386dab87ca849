"""The retrain trigger: at each multiple of so many events, one task, whoever looks how often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiokafka.errors import KafkaError
from events_log import logged
from kafka_tools import read_topic
from redis.asyncio import Redis

from headrace.aggregates import AggregateStore
from headrace.producer import Producer
from headrace.settings import RetrainSettings, Settings
from headrace.task_store import TaskStore
from headrace.topics import ensure_topics
from headrace.training_requests import TrainingRequest, parse_request
from headrace.trending import TrendingStore
from streams.triggers import CountTrigger

pytestmark = pytest.mark.brokers("embedded", "apache")


@pytest.fixture
def every_ten(settings: Settings) -> Settings:
    settings = msgspec.structs.replace(settings, retrain=RetrainSettings(every_events=10))
    ensure_topics(settings)
    return settings


@pytest.fixture
async def producer(settings: Settings) -> AsyncIterator[Producer]:
    producer = Producer(settings)
    yield producer
    await producer.close()


class Counted:
    """Events counted so far, over two partitions."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._aggregates = AggregateStore(redis, settings)
        self._next = 0

    async def up_to(self, count: int) -> None:
        await self._aggregates.apply([logged(n, partition=n % 2) for n in range(self._next, count)])
        self._next = count


def requests(settings: Settings) -> list[TrainingRequest]:
    return [parse_request(record.value) for record in read_topic(settings, "retrain")]


async def test_two_workers_fire_at_each_multiple_and_each_is_one_task(
    every_ten: Settings, redis: Redis, producer: Producer
) -> None:
    trending = TrendingStore(redis, every_ten)
    triggers = [CountTrigger(redis, every_ten, trending, producer) for _ in range(2)]
    counted, keys = Counted(redis, every_ten), []
    for count, due in ((9, None), (10, 10), (19, None), (20, 20), (47, 30), (49, None), (50, 50)):
        await counted.up_to(count)
        fired = await asyncio.gather(*(trigger.check() for trigger in triggers))
        assert any(fired) == (due is not None), count
        again = await asyncio.gather(*(trigger.check() for trigger in triggers))
        assert not any(again), count
        if due is not None:
            keys.append(f"count-default-{due}")
    sent = await asyncio.to_thread(requests, every_ten)
    assert list(dict.fromkeys(request.idempotency_key for request in sent)) == keys
    assert {request.model_id for request in sent} == {"default"}
    tasks = TaskStore(redis, every_ten)
    made = set()
    for number, request in enumerate(sent):
        task = await tasks.create(request, f"t{number}", now=float(number))
        if task.status == "QUEUED" and (claim := await tasks.claim(now=0.0)):
            done = msgspec.structs.replace(claim.task, status="SUCCEEDED")
            await tasks.finish(done, claim.fence)
        made.add(task.id)
    assert len(made) == len(keys)


async def test_a_worker_that_dies_before_it_notes_the_sending_misses_nothing(
    every_ten: Settings, redis: Redis, producer: Producer
) -> None:
    trending = TrendingStore(redis, every_ten)
    await Counted(redis, every_ten).up_to(12)
    gone = Producer(msgspec.structs.replace(every_ten, kafka="127.0.0.1:9"))
    with pytest.raises(KafkaError):
        await CountTrigger(redis, every_ten, trending, gone).check()
    assert await CountTrigger(redis, every_ten, trending, producer).check()
    assert [each.idempotency_key for each in requests(every_ten)] == ["count-default-10"]


async def test_it_asks_for_what_settings_say(
    every_ten: Settings, redis: Redis, producer: Producer
) -> None:
    retrain = RetrainSettings(every_events=10, request={"mode": "full"})
    settings = msgspec.structs.replace(every_ten, retrain=retrain)
    await Counted(redis, every_ten).up_to(12)
    assert await CountTrigger(redis, settings, TrendingStore(redis, settings), producer).check()
    assert [(each.mode, each.requested_by) for each in requests(settings)] == [("full", "worker")]


async def test_zero_means_never(every_ten: Settings, redis: Redis, producer: Producer) -> None:
    never = msgspec.structs.replace(every_ten, retrain=RetrainSettings(every_events=0))
    trending = TrendingStore(redis, never)
    await Counted(redis, every_ten).up_to(100)
    assert not await CountTrigger(redis, never, trending, producer).check()
    assert requests(never) == []


async def test_a_lower_setting_counts_from_the_next_multiple_on(
    every_ten: Settings, redis: Redis, producer: Producer
) -> None:
    trending, counted = TrendingStore(redis, every_ten), Counted(redis, every_ten)
    rarely = msgspec.structs.replace(every_ten, retrain=RetrainSettings(every_events=1_000))
    before = CountTrigger(redis, rarely, trending, producer)
    await redis.set(every_ten.key("retrain", every_ten.model_id, "due"), 1_000)
    await counted.up_to(15)
    assert not await before.check()
    trigger = CountTrigger(redis, every_ten, trending, producer)
    # 10 has passed under another setting.
    assert not await trigger.check()
    await counted.up_to(20)
    assert await trigger.check()
    assert not await trigger.check()
    [request] = requests(every_ten)
    assert request.reason == "20 events counted, 20 were due"
