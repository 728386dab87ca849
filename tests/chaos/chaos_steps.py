"""Steps of tests in which workers meet a fault: send, wait, compare."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import httpx
import msgspec
from chaos_events import Load, Sender, draw
from chaos_oracle import State, fold_log, read_log, stored_state
from parts import OwnRedis, Part, eventually
from redis.asyncio import Redis

from headrace.local.ports import claim_port
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


def forget_the_tail(folder: Path) -> None:
    """Cut the newest part of the append-only file off, in the middle of a command."""
    # Redis 7 has a folder of several.
    files = [*folder.glob("appendonly.aof"), *folder.glob("appendonlydir/*.incr.aof")]
    [file] = files
    os.truncate(file, int(file.stat().st_size * 0.7))


async def check_redis_away(
    settings: Settings,
    own_redis: OwnRedis,
    folder: Path,
    *,
    load: Load,
    seed: int,
    away_s: float,
) -> None:
    """Have Redis hang for so long, longer than a worker may stand still otherwise."""
    port = claim_port(0, host="127.0.0.1", use="a worker's health", option="")
    worker_settings = msgspec.structs.replace(settings.worker, port=port, stall_s=away_s - 1)
    settings = msgspec.structs.replace(settings, redis=own_redis.url, worker=worker_settings)
    await send_load(settings, load, seed)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        with Part("worker", settings, folder) as worker:

            async def answers(status: int) -> bool:
                assert worker.runs, "the worker has ended"
                try:
                    return (await client.get("/readyz")).status_code == status
                except httpx.HTTPError:
                    return False

            await until_counted(settings, load.events // 4)
            await eventually(lambda: answers(200), "the worker is ready")
            own_redis.signal(signal.SIGSTOP)
            away = asyncio.create_task(asyncio.sleep(away_s))
            await eventually(lambda: answers(503), "the worker says that it is not ready")
            said = (await client.get("/readyz")).json()
            assert said["ready"] is False
            assert said["state"].startswith("waiting: ")
            assert "Timeout" in said["state"]
            assert (await client.get("/livez")).status_code == 200
            await away
            own_redis.signal(signal.SIGCONT)
            await eventually(lambda: answers(200), "the worker is ready again")
            check_all_applied_once(*await until_done(settings))
            assert worker.end(signal.SIGTERM) == 0
