"""What a user takes in Redis, and what a worker holds as events go by."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from headrace.store import connect, text
from streams.bench.events import ITEMS, SHARES, MadeUpEvents, Piece
from streams.bench.filling import filler
from streams.bench.ground import Ground
from streams.bench.workers import shipped_workers

INTERACTIONS = 50
"""Of each user, with as many items."""
_KEYS_AT_ONCE = 1_000
_AHEAD = 100_000
"""Events that are in the topics and not yet done, so that the worker is never idle."""
_CHUNK = 50_000
_WARM_SHARE = 0.2
"""Of the events, before the slope begins: a million of five."""
_LOOK_S = 1.0


@dataclass(frozen=True)
class UserBytes:
    """Bytes in Redis of users with 50 interactions each, a user."""

    users: int
    of_keys: float
    """By MEMORY USAGE of the keys that bear a user's id."""
    of_server: float
    """By what Redis used more than before, less MEMORY USAGE of the keys that users share."""
    keys: float
    """Keys a user."""


@dataclass(frozen=True)
class Growth:
    """Resident memory of a worker, in MiB, as events went by."""

    events: int
    first_mb: float
    """When the slope begins."""
    last_mb: float
    mb_per_million: float
    """The slope of least squares."""
    error: float
    """Its standard error, as if the samples were independent."""
    samples: int


async def user_bytes(ground: Ground, users: int) -> UserBytes:
    """Have a worker apply 50 events of each of so many users, and see what Redis takes for them."""
    ids = [f"user-{number:06}" for number in range(users)]
    redis = connect(ground.settings)
    try:
        async with shipped_workers(ground) as workers, filler(ground.settings) as filling:
            before = await _used(redis)
            await filling.fill([_interactions(ground.events, ids)])
            await workers.until(users * INTERACTIONS)
            # What the last batch has left to do; a key that lives seconds may be gone then.
            await asyncio.sleep(_LOOK_S)
        used = await _used(redis) - before
        own, shared, keys = 0, 0, 0
        for key, size in await _sizes(redis, ground.settings.key("*")):
            if "user-" in key:
                own, keys = own + size, keys + 1
            else:
                shared += size
    finally:
        await redis.aclose()
    return UserBytes(users, own / users, (used - shared) / users, keys / users)


async def growth(ground: Ground, events: int, advance: Callable[[int], object]) -> Growth:
    """Keep a worker busy until it has done so many events, and see whether its memory grows."""
    log, samples, sent = ground.events, [], 0
    async with shipped_workers(ground) as workers, filler(ground.settings) as filling:
        async for done in workers.progress(events, _LOOK_S):
            samples.append((done, workers.rss_mb()))
            advance(done)
            while sent < min(events, done + _AHEAD):
                count = min(_CHUNK, events - sent)
                sent += await filling.fill(log.pieces(count, first=sent))
    return slope(np.array([each for each in samples if each[0] >= _WARM_SHARE * events]), events)


def slope(samples: NDArray[np.float64], events: int) -> Growth:
    """Return what `[n, 2]` samples come to: events done, and MiB."""
    millions, rss = samples[:, 0] / 1e6, samples[:, 1]
    apart = millions - millions.mean()
    squares = float((apart**2).sum()) or math.inf
    slope = float((apart * rss).sum()) / squares
    residuals = rss - rss.mean() - slope * apart
    error = math.sqrt(float((residuals**2).sum()) / max(1, len(rss) - 2) / squares)
    return Growth(events, float(rss[0]), float(rss[-1]), slope, error, len(rss))


def _interactions(log: MadeUpEvents, users: list[str]) -> Piece:
    """Return 50 events of each user, with items of their own, in the topics' shares."""
    topics = [topic for topic, share in SHARES.items() for _ in range(round(10 * share))]
    piece: Piece = {}
    for nth in range(INTERACTIONS):
        topic = topics[nth % len(topics)]
        for number, user_id in enumerate(users):
            item_id = f"item-{(number + 997 * nth) % ITEMS:05}"
            value = log.value(topic, nth * len(users) + number, user_id, item_id)
            piece.setdefault((topic, log.partition_of(user_id)), []).append(
                (user_id.encode(), value)
            )
    return piece


async def _used(redis: Redis) -> int:
    return int((await redis.info("memory"))["used_memory"])


async def _sizes(redis: Redis, pattern: str) -> list[tuple[str, int]]:
    """Return each key of this pattern, and its bytes, counted to the last element."""
    keys = [key async for key in redis.scan_iter(pattern, count=_KEYS_AT_ONCE)]
    sizes: list[tuple[str, int]] = []
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        some = keys[start : start + _KEYS_AT_ONCE]
        async with redis.pipeline(transaction=False) as pipeline:
            for key in some:
                pipeline.memory_usage(key, samples=0)
            found = await pipeline.execute()
        sizes += [(text(key), size or 0) for key, size in zip(some, found, strict=True)]
    return sizes
