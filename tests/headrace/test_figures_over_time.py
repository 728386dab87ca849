"""Figures in buckets of time: what is told adds up, and is kept as long as it is shown."""

from __future__ import annotations

import random

import numpy as np
import pytest
from events_log import NOW
from redis.asyncio import Redis
from redis.exceptions import RedisError

from headrace.figures import (
    ACCURACY,
    WINDOWS,
    Bucket,
    FiguresStore,
    Tally,
    bin_of,
    percentile,
)
from headrace.settings import Settings

HOUR, DAY = WINDOWS["1h"], WINDOWS["1d"]
START = int(NOW // 300) * 300
"""A bucket of either resolution begins."""


@pytest.fixture
def store(redis: Redis, settings: Settings) -> FiguresStore:
    return FiguresStore(redis, settings)


class Clock:
    """Unix seconds, to be set."""

    def __init__(self) -> None:
        self.now = START + 5.0

    def __call__(self) -> float:
        return self.now


async def test_counts_add_up_and_the_last_value_and_the_highest_peak_stay(
    store: FiguresStore,
) -> None:
    clicks, told, lag = ("events", "clicks"), ("told", "worker"), ("lag", "clicks", "0")
    await store.add(START + 1, {clicks: 3}, {told: 7}, {lag: 7})
    await store.add(START + 9, {clicks: 2, ("ms", "GET", "/v1/a b"): 1}, {told: 5}, {lag: 24})
    await store.add(START + 10, {clicks: 1}, {}, {lag: 0})
    first, second, empty = await store.read(HOUR, [START, START + 10, START + 20])
    assert first == Bucket({clicks: 5, ("ms", "GET", "/v1/a b"): 1}, {told: 5}, {lag: 24})
    assert (second, empty) == (Bucket({clicks: 1}, {}, {lag: 0}), Bucket())
    [whole] = await store.read(DAY, [START])
    assert (whole.counts[clicks], whole.peaks[lag]) == (6, 24)


async def test_a_bucket_is_kept_as_long_as_it_is_shown(
    store: FiguresStore, redis: Redis, settings: Settings
) -> None:
    await store.add(START, {("events", "clicks"): 1}, {})
    for resolution in (HOUR, DAY):
        ttl = await redis.ttl(settings.key("{figures}", f"{resolution.step}:{START}"))
        oldest = resolution.starts(START + ttl)[0]
        assert oldest > START
        assert ttl < resolution.window + resolution.over + 3 * resolution.step
        assert (
            len(resolution.starts(NOW)) == (resolution.window + resolution.over) / resolution.step
        )


async def test_what_is_told_counts_for_the_seconds_before_it(store: FiguresStore) -> None:
    clock = Clock()
    tally = Tally(store, "worker", clock)
    tally.counts["events", "clicks"] += 1
    await tally.tell()
    clock.now = START + 10.0
    tally.counts["events", "clicks"] += 2
    await tally.tell()
    clock.now = START + 15.0
    await tally.tell()
    first, second = await store.read(HOUR, [START, START + 10])
    assert first.counts == {("events", "clicks"): 3}
    assert (first.told_at("worker"), first.told_at("server")) == (START + 10, None)
    assert (second.counts, second.told_at("worker")) == ({}, START + 15)


async def test_what_redis_did_not_take_is_told_later_of_its_own_time(
    store: FiguresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    tally = Tally(store, "worker", clock)

    async def away(*_: object) -> None:
        raise RedisError("away")

    tally.counts["events", "clicks"] += 1
    with monkeypatch.context() as patch:
        patch.setattr(store, "add", away)
        with pytest.raises(RedisError):
            await tally.tell()
        clock.now = START + 15.0
        tally.counts["events", "clicks"] += 2
        with pytest.raises(RedisError):
            await tally.tell()
    clock.now = START + 20.0
    await tally.tell()
    await tally.tell()
    first, second = await store.read(HOUR, [START, START + 10])
    assert first.counts == {("events", "clicks"): 1}
    assert second.counts == {("events", "clicks"): 2}


def test_percentiles_are_right_within_the_accuracy() -> None:
    rng = random.Random(3)
    times = [rng.lognormvariate(1, 1.5) for _ in range(5_000)]
    bins: dict[int, int] = {}
    for time in times:
        bins[bin_of(time)] = bins.get(bin_of(time), 0) + 1
    for share in (0.0, 0.5, 0.95, 0.99, 1.0):
        exact = np.quantile(times, share, method="lower")
        assert percentile(bins, share) == pytest.approx(exact, rel=ACCURACY * 1.001)
    assert percentile({}, 0.5) is None
    assert percentile({bin_of(0.0): 3}, 0.5) == pytest.approx(0.01, rel=2 * ACCURACY)
