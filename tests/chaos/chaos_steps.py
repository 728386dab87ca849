"""Steps of tests in which workers meet a fault: send, wait, compare."""

from __future__ import annotations

import asyncio
import random

from chaos_events import Load, Sender, draw
from chaos_oracle import State, fold_log, read_log, stored_state
from parts import eventually
from redis.asyncio import Redis

from headrace.positions import PositionStore
from headrace.settings import Settings
from headrace.store import connect
from headrace.topics import ensure_topics
from headrace.trending import TrendingStore


async def send_load(settings: Settings, load: Load, seed: int) -> None:
    """Send records, which the workers may read then."""
    await asyncio.to_thread(ensure_topics, settings)
    sender = Sender(settings, list(draw(load, random.Random(seed))))
    sender.allow(load.events)
    await asyncio.to_thread(sender.send)


async def until_done(settings: Settings) -> tuple[State, State]:
    """Wait until all that the log holds is done with; return the state found and the one wanted."""
    log = await asyncio.to_thread(read_log, settings)
    redis = connect(settings)

    async def done() -> bool:
        return await PositionStore(redis, settings).read() == log.ends

    await eventually(done, "every partition is done with up to its end")
    wanted = fold_log(log, settings)
    found = await stored_state(redis, settings, wanted)
    await redis.aclose()
    return found, wanted


async def until_counted(settings: Settings, at_least: int) -> None:
    redis = connect(settings)

    async def counted() -> bool:
        return await TrendingStore(redis, settings).events_counted() >= at_least

    await eventually(counted, f"{at_least} events are counted")
    await redis.aclose()


def check_all_applied_once(found: State, wanted: State) -> None:
    assert (found.lost(wanted), found.twice(wanted)) == (0, 0)
    differences = found.differences(wanted)
    assert not differences, "\n".join(differences)


async def events_counted(settings: Settings) -> int:
    redis: Redis = connect(settings)
    counted = await TrendingStore(redis, settings).events_counted()
    await redis.aclose()
    return counted
