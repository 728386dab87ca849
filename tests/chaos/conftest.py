"""What tests with faults share: settings under which workers are in the middle of something."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from parts import OwnKafka, OwnRedis

from headrace.local.binaries import find_redis, redis_command
from headrace.local.ports import claim_port
from headrace.settings import Settings

SEED_VARIABLE = "CHAOS_SEED"
"""Repeats a run; each prints its seed."""


@pytest.fixture
def seed() -> int:
    return int(os.environ.get(SEED_VARIABLE) or random.randrange(10**6))


@pytest.fixture
def busy() -> Callable[[Settings], Settings]:
    """Return settings with small batches, short sessions and few things kept."""

    def busy(settings: Settings) -> Settings:
        replace = msgspec.structs.replace
        return replace(
            settings,
            topics=replace(settings.topics, partitions=8),
            sessions=replace(settings.sessions, limit=10),
            trending=replace(settings.trending, limit=100),
            worker=replace(settings.worker, batch_size=50, stall_s=30.0),
        )

    return busy


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[OwnKafka]:
    """A node of Apache Kafka that the test may kill."""
    folder = tmp_path / "kafka"
    folder.mkdir()
    with OwnKafka(folder) as node:
        yield node


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    """A Redis that the test may kill."""
    folder = tmp_path / "redis"
    folder.mkdir()
    port = claim_port(0, host="127.0.0.1", use="a test's Redis", option="")
    with OwnRedis(redis_command(find_redis(os.environ), port, folder), port, folder) as server:
        yield server
