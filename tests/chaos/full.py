"""The long chaos tests, which `make chaos` runs; `make test` does not collect this file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from chaos_run import Load, Plan, check, run_chaos
from parts import OwnKafka
from redis.asyncio import Redis

from headrace.settings import Settings

pytestmark = pytest.mark.timeout(1_800)

Busy = Callable[[Settings], Settings]
FULL = Plan(Load(events=100_000, users=5_000, items=3_000), kills=10)
ONE_TOPIC = Plan(Load(events=30_000, users=200, items=1_000, topics=("clicks",)), kills=5)
"""Few users, so that duplicates are farther apart than events are remembered."""


async def test_on_apache_kafka(
    own_kafka: OwnKafka, settings: Settings, redis: Redis, busy: Busy, tmp_path: Path, seed: int
) -> None:
    on_apache = msgspec.structs.replace(busy(settings), kafka=own_kafka.address)
    check(await run_chaos(FULL, on_apache, redis, tmp_path, seed=seed, broker=own_kafka))


async def test_on_the_embedded_broker(
    settings: Settings, redis: Redis, busy: Busy, tmp_path: Path, seed: int
) -> None:
    check(await run_chaos(FULL, busy(settings), redis, tmp_path, seed=seed))


@pytest.mark.brokers("embedded", "apache")
async def test_on_one_topic_the_transitions_too(
    settings: Settings, redis: Redis, busy: Busy, tmp_path: Path, seed: int
) -> None:
    summary = await run_chaos(ONE_TOPIC, busy(settings), redis, tmp_path, seed=seed)
    check(summary)
