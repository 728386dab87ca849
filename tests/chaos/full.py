"""The long chaos tests, which `make chaos` runs; `make test` does not collect this file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from chaos_run import Load, Plan, Summary, check, run_chaos
from chaos_steps import check_redis_away
from parts import OwnKafka, OwnRedis

from headrace.settings import Settings

pytestmark = pytest.mark.timeout(1_800)

Busy = Callable[[Settings], Settings]
FULL = Plan(Load(events=100_000, users=5_000, items=3_000), kills=10)
ONE_TOPIC = Plan(Load(events=30_000, users=200, items=1_000, topics=("clicks",)), kills=5)
"""Few users, so that duplicates are farther apart than events are remembered."""
FORGOTTEN = Plan(Load(events=30_000, users=1_500, items=1_000), kills=5)
_STOPPED_WITHIN_S = 3.0
"""From SIGTERM to the end of a worker. It is promised: a worker that has committed all, and has not
taken leave of its broker 2.5 s after it began to stop, ends without."""


async def test_on_apache_kafka(
    own_kafka: OwnKafka, settings: Settings, busy: Busy, tmp_path: Path, seed: int
) -> None:
    on_apache = msgspec.structs.replace(busy(settings), kafka=own_kafka.address)
    _check(await run_chaos(FULL, on_apache, tmp_path, seed=seed, broker=own_kafka))


async def test_on_the_embedded_broker(
    settings: Settings, busy: Busy, tmp_path: Path, seed: int
) -> None:
    _check(await run_chaos(FULL, busy(settings), tmp_path, seed=seed))


@pytest.mark.brokers("embedded", "apache")
async def test_on_one_topic_the_transitions_too(
    settings: Settings, busy: Busy, tmp_path: Path, seed: int
) -> None:
    # With batches as they are shipped, of which each partition takes several calls.
    shipped = msgspec.structs.replace(busy(settings).worker, batch_size=settings.worker.batch_size)
    settings = msgspec.structs.replace(busy(settings), worker=shipped)
    _check(await run_chaos(ONE_TOPIC, settings, tmp_path, seed=seed))


@pytest.mark.brokers("embedded", "apache")
async def test_with_a_redis_that_forgets(
    settings: Settings, own_redis: OwnRedis, busy: Busy, tmp_path: Path, seed: int
) -> None:
    settings = msgspec.structs.replace(busy(settings), redis=own_redis.url)
    _check(await run_chaos(FORGOTTEN, settings, tmp_path, seed=seed, server=own_redis))


async def test_with_a_redis_that_is_away_for_a_minute(
    settings: Settings, busy: Busy, own_redis: OwnRedis, tmp_path: Path, seed: int
) -> None:
    await check_redis_away(
        busy(settings), own_redis, tmp_path, load=FORGOTTEN.load, seed=seed, away_s=60.0
    )


def _check(summary: Summary) -> None:
    check(summary)
    assert max(seconds for _, seconds in summary.stops) < _STOPPED_WITHIN_S, summary.stops
