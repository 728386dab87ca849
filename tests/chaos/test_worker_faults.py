"""Workers that stand still, topics that grow, clean stops: what was sent is applied once."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from chaos_events import Load
from chaos_oracle import fold_log, read_log, stored_state
from chaos_steps import check_all_applied_once, send_load, until_counted, until_done
from kafka.admin import KafkaAdminClient
from parts import Part, eventually
from redis.asyncio import Redis

from headrace.heartbeats import HeartbeatStore
from headrace.positions import PositionStore
from headrace.settings import Settings
from headrace.topics import Place, Topics, event_topic_ids

Busy = Callable[[Settings], Settings]
LOAD = Load(events=4_000, users=200, items=200)
both_brokers = pytest.mark.brokers("embedded", "apache")


def with_worker(settings: Settings, **changes: object) -> Settings:
    return msgspec.structs.replace(
        settings,
        worker=msgspec.structs.replace(settings.worker, **changes),  # type: ignore[arg-type]
    )


async def test_a_worker_that_stands_still_ends_and_the_next_one_goes_on(
    settings: Settings, busy: Busy, tmp_path: Path, seed: int
) -> None:
    settings = with_worker(busy(settings), stall_s=3.0)
    await send_load(settings, replace(LOAD, events=100), seed)
    with Part("worker", settings, tmp_path, faults=("stand_still",)) as worker:
        await until_counted(settings, 1)
        await send_load(settings, LOAD, seed + 1)
        assert await asyncio.to_thread(worker.wait) == os.EX_SOFTWARE
        [line] = [line for line in worker.log().splitlines() if "CRITICAL" in line]
        assert "stands still at" in line
        assert "the worker starts again" in line
        worker.faults = ()
        worker.start()
        check_all_applied_once(*await until_done(settings))


@both_brokers
async def test_a_worker_with_nothing_to_do_does_not_stand_still(
    settings: Settings, redis: Redis, busy: Busy, tmp_path: Path, seed: int
) -> None:
    settings = with_worker(busy(settings), stall_s=1.0)
    beats = HeartbeatStore(redis, settings)
    await send_load(settings, replace(LOAD, events=100), seed)
    with Part("worker", settings, tmp_path) as worker:
        await until_done(settings)
        idle_from = time.time()

        async def later() -> bool:
            assert worker.runs, "the worker has ended"
            return any(beat.at > idle_from + 4 for beat in await beats.read("worker"))

        await eventually(later, "the worker has had nothing to do for longer than it may stand")
        await send_load(settings, replace(LOAD, events=100), seed + 1)
        check_all_applied_once(*await until_done(settings))
        assert worker.runs


@pytest.mark.brokers("apache")
async def test_of_a_topic_that_grows_every_event_is_applied_once(
    settings: Settings, busy: Busy, tmp_path: Path, seed: int
) -> None:
    # Twice as many users for twice as many events.
    load = replace(LOAD, users=2 * LOAD.users)
    topics = msgspec.structs.replace(settings.topics, partitions=4)
    settings = msgspec.structs.replace(busy(settings), topics=topics)
    await send_load(settings, load, seed)
    with Part("worker", settings, tmp_path) as worker:
        await until_counted(settings, load.events // 4)
        await asyncio.to_thread(grow, settings, 12)
        topics = msgspec.structs.replace(topics, partitions=12)
        grown = msgspec.structs.replace(settings, topics=topics)
        await send_load(grown, load, seed + 1)
        assert await asyncio.to_thread(worker.wait) == os.EX_SOFTWARE
        assert "has 12 partitions instead of 4" in worker.log()
        worker.start()
        found, wanted = await until_done(grown)
        check_all_applied_once(found, wanted)
        assert worker.runs
    assert {partition for _, partition in wanted.trending} == set(range(12))


@both_brokers
async def test_a_clean_stop_leaves_nothing_that_was_done_uncommitted(
    settings: Settings, redis: Redis, busy: Busy, tmp_path: Path, seed: int
) -> None:
    settings = busy(settings)
    await send_load(settings, LOAD, seed)
    with Part("worker", settings, tmp_path) as worker:
        await until_counted(settings, LOAD.events // 4)
        # 70 would be that of a worker that takes too long, or stops with something undone.
        assert worker.end(signal.SIGTERM) == 0
        positions = await PositionStore(redis, settings).read()
        log = await asyncio.to_thread(read_log, settings)
        assert positions != log.ends, "the worker was not in the middle"
        wanted = fold_log(log.until(positions), settings)
        check_all_applied_once(await stored_state(redis, settings, wanted), wanted)
    committed = await asyncio.to_thread(committed_offsets, settings)
    assert committed == {place: position for place, position in positions.items() if position}


def committed_offsets(settings: Settings) -> dict[Place, int]:
    """What the group has committed in Kafka of the topics of events."""
    topics, ids = Topics(settings), event_topic_ids(settings)
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka)
    try:
        [offsets] = admin.list_group_offsets(settings.worker.group).values()
    finally:
        admin.close()
    return {
        Place(topic, ids[topic], at.partition): found.offset
        for at, found in offsets.items()
        if (topic := topics.plain(at.topic)) in ids and found.offset > 0
    }


def grow(settings: Settings, partitions: int) -> None:
    """Give every topic of events so many partitions."""
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka)
    try:
        admin.create_partitions(dict.fromkeys(Topics(settings).events, partitions))
    finally:
        admin.close()
