"""How long after a producer has its acknowledgement a user's session dictionary has changed."""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from redis.asyncio import Redis

from headrace.errors import StackError
from headrace.producer import Outgoing, Producer
from headrace.sessions import SessionStore
from headrace.store import connect, read_together
from headrace.topics import Topics
from streams.bench.ground import Ground
from streams.bench.workers import Workers, child, shipped_workers

_APART_S = (0.02, 0.06)
"""Between two probes: drawn from this range, so that they fall into step with nothing."""
_LOOK_S = 0.002
_PATIENCE_S = 60.0
_LEVEL_S = 3
"""For so many seconds in a row the worker does as many events as come."""
_LEVEL_WITHIN = 0.15
"""As many: but for this share of them."""


@dataclass(frozen=True)
class Freshness:
    """What a run came to."""

    probes: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    looked_every_ms: float
    """The median between two looks at Redis: as much finer it cannot be told."""
    asked_per_s: float
    """Events a second that the load was to be."""
    applied_per_s: float
    """Events a second that the worker did meanwhile, the probes included."""


async def freshness(
    ground: Ground, rate: float, probes: int, advance: Callable[[int], object]
) -> Freshness:
    """Send a probe now and again beside a load of `rate` events a second, and watch for each.

    A probe is the first event of a user of its own. `advance` is told how many have been seen.
    """
    seconds = probes * sum(_APART_S) / 2
    # It goes on until it is ended: the load is there before the first probe and after the last.
    load = (sys.executable, "-m", "streams.bench.load", str(rate), str(2 * seconds + _PATIENCE_S))
    async with (
        shipped_workers(ground) as workers,
        child(ground, load, ground.folder / f"{ground.settings.namespace}-load.log"),
    ):
        await _until_level(workers, rate)
        return await _measure(ground, workers, rate, probes, advance)


async def _until_level(workers: Workers, rate: float) -> None:
    """Wait until the worker has done what came while it started, and does what comes.

    Raises `StackError` when it does not catch up.
    """
    deadline = time.perf_counter() + _PATIENCE_S
    level, before = 0, await workers.count()
    while level < _LEVEL_S:
        if time.perf_counter() > deadline:
            raise StackError(f"The worker has not caught up in {_PATIENCE_S:.0f} s.")
        await asyncio.sleep(1)
        count = await workers.count()
        level = level + 1 if abs(count - before - rate) < _LEVEL_WITHIN * rate else 0
        before = count


async def _measure(
    ground: Ground, workers: Workers, rate: float, probes: int, advance: Callable[[int], object]
) -> Freshness:
    redis, producer = connect(ground.settings), Producer(ground.settings)
    watch = _Watch(redis, SessionStore(redis, ground.settings), advance)
    try:
        before, began = await workers.count(), time.perf_counter()
        await asyncio.gather(watch.see(probes), _send(ground, producer, probes, watch.acknowledged))
        done, seconds = await workers.count() - before, time.perf_counter() - began
    finally:
        await producer.close()
        await redis.aclose()
    p50, p99 = np.percentile(watch.seconds, (50, 99))
    return Freshness(
        probes,
        p50_ms=float(p50) * 1000,
        p99_ms=float(p99) * 1000,
        worst_ms=max(watch.seconds) * 1000,
        looked_every_ms=statistics.median(watch.pauses) * 1000,
        asked_per_s=rate,
        applied_per_s=done / seconds,
    )


async def _send(
    ground: Ground, producer: Producer, probes: int, acknowledged: Callable[[str], object]
) -> None:
    rng, log = random.Random(0), ground.events  # noqa: S311 - nothing secret
    topic = Topics(ground.settings).name("clicks")
    for number in range(probes):
        user_id = f"probe-{number:06}"
        # Numbers of their own, apart from the load's.
        value = log.value("clicks", number, user_id, "item-00001")
        await producer.send([Outgoing(topic, user_id.encode(), value)])
        acknowledged(user_id)
        await asyncio.sleep(rng.uniform(*_APART_S))


@dataclass
class _Watch:
    """Looks again and again for users who were acknowledged and have no session yet."""

    redis: Redis
    sessions: SessionStore
    advance: Callable[[int], object]
    seconds: list[float] = field(default_factory=list)
    """Of each probe seen, from acknowledged to changed."""
    pauses: list[float] = field(default_factory=list)
    """Between two looks, in seconds."""
    _waiting: dict[str, float] = field(default_factory=dict)

    def acknowledged(self, user_id: str) -> None:
        """Begin to look for this user."""
        self._waiting[user_id] = time.perf_counter()

    async def see(self, probes: int) -> None:
        """Look until so many have been seen. Raises `StackError` when one is not."""
        looked = time.perf_counter()
        while len(self.seconds) < probes:
            await asyncio.sleep(_LOOK_S)
            if not self._waiting:
                looked = time.perf_counter()
                continue
            users = list(self._waiting)
            readings = (self.sessions.reading(user_id) for user_id in users)
            found = await read_together(self.redis, *readings)
            now = time.perf_counter()
            self.pauses.append(now - looked)
            looked = now
            for user_id, session in zip(users, found, strict=True):
                self._note(user_id, session.applied > 0, now)

    def _note(self, user_id: str, changed: bool, now: float) -> None:
        waited = now - self._waiting[user_id]
        if changed:
            del self._waiting[user_id]
            self.seconds.append(waited)
            self.advance(len(self.seconds))
        elif waited > _PATIENCE_S:
            raise StackError(f"The event of {user_id} was not applied within {_PATIENCE_S:.0f} s.")
