"""Redis dies, is away, or answers nothing: what was applied stays applied once."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from chaos_events import Load
from chaos_steps import (
    check_all_applied_once,
    events_counted,
    send_load,
    until_counted,
    until_done,
)
from parts import OwnRedis, Part, eventually
from redis_proxy import CuttingProxy

from headrace.local.binaries import find_redis, redis_command
from headrace.local.ports import claim_port
from headrace.settings import Settings
from headrace.store import connect

Busy = Callable[[Settings], Settings]
LOAD = Load(events=4_000, users=200, items=200)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    folder = tmp_path / "redis"
    folder.mkdir()
    port = claim_port(0, host="127.0.0.1", use="a test's Redis", option="")
    with OwnRedis(redis_command(find_redis(os.environ), port, folder), port, folder) as server:
        yield server


def forget_the_tail(folder: Path) -> None:
    """Cut the newest part of the append-only file off, in the middle of a command."""
    # Redis 7 has a folder of several.
    files = [*folder.glob("appendonly.aof"), *folder.glob("appendonlydir/*.incr.aof")]
    [file] = files
    os.truncate(file, int(file.stat().st_size * 0.7))


def forget_everything(folder: Path) -> None:
    """Delete the append-only file."""
    shutil.rmtree(folder)
    folder.mkdir()


async def contents(settings: Settings) -> dict[bytes, Any]:
    """Everything in Redis but what tells that a worker lives."""
    redis = connect(settings)
    keys = [key async for key in redis.scan_iter("*") if b"heartbeat" not in key]
    found = {key: await redis.dump(key) for key in keys}
    await redis.aclose()
    return found


@pytest.mark.parametrize("forget", [forget_the_tail, forget_everything])
async def test_a_redis_that_forgot_gets_it_again_and_nothing_is_written_before(
    settings: Settings,
    busy: Busy,
    own_redis: OwnRedis,
    tmp_path: Path,
    seed: int,
    forget: Callable[[Path], None],
) -> None:
    settings = msgspec.structs.replace(busy(settings), redis=own_redis.url)
    await send_load(settings, LOAD, seed)
    with Part("worker", settings, tmp_path) as worker:
        await until_counted(settings, LOAD.events // 2)
        worker.signal(signal.SIGSTOP)
        counted = await events_counted(settings)
        own_redis.kill()
        forget(tmp_path / "redis")
        own_redis.start()
        remembered = await events_counted(settings)
        before = await contents(settings)
        assert remembered < counted < LOAD.events, "nothing was lost, or all had been applied"

        worker.signal(signal.SIGCONT)
        assert await asyncio.to_thread(worker.wait) == os.EX_SOFTWARE
        assert "Redis was restarted" in worker.log()
        assert await contents(settings) == before

        worker.start()
        check_all_applied_once(*await until_done(settings))


async def test_without_a_look_at_the_identity_what_redis_forgot_is_lost(
    settings: Settings, busy: Busy, own_redis: OwnRedis, tmp_path: Path, seed: int
) -> None:
    settings = msgspec.structs.replace(busy(settings), redis=own_redis.url)
    await send_load(settings, LOAD, seed)
    with Part("worker", settings, tmp_path, faults=("trust_every_redis",)) as worker:
        await until_counted(settings, LOAD.events // 2)
        worker.signal(signal.SIGSTOP)
        own_redis.kill()
        forget_the_tail(tmp_path / "redis")
        own_redis.start()
        worker.signal(signal.SIGCONT)
        found, wanted = await until_done(settings)
        assert worker.runs
    assert found.lost(wanted) > 0


async def test_redis_away_is_waited_for_and_readyz_says_so(
    settings: Settings, busy: Busy, own_redis: OwnRedis, tmp_path: Path, seed: int
) -> None:
    await check_redis_away(busy(settings), own_redis, tmp_path, seed, away_s=8.0)


async def check_redis_away(
    settings: Settings, own_redis: OwnRedis, folder: Path, seed: int, *, away_s: float
) -> None:
    """Have Redis hang for so long, longer than a worker may stand still otherwise."""
    port = claim_port(0, host="127.0.0.1", use="a worker's health", option="")
    worker_settings = msgspec.structs.replace(settings.worker, port=port, stall_s=away_s - 1)
    settings = msgspec.structs.replace(settings, redis=own_redis.url, worker=worker_settings)
    await send_load(settings, LOAD, seed)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        with Part("worker", settings, folder) as worker:

            async def answers(status: int) -> bool:
                assert worker.runs, "the worker has ended"
                try:
                    return (await client.get("/readyz")).status_code == status
                except httpx.HTTPError:
                    return False

            await until_counted(settings, LOAD.events // 4)
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


async def test_an_answer_that_never_arrives_makes_nothing_count_twice(
    settings: Settings, busy: Busy, redis_url: str, tmp_path: Path, seed: int
) -> None:
    settings = busy(settings)
    await send_load(settings, LOAD, seed)
    async with CuttingProxy(redis_url, b"EVALSHA", every=7) as proxy:
        through_proxy = msgspec.structs.replace(settings, redis=proxy.url)
        with Part("worker", through_proxy, tmp_path) as worker:
            check_all_applied_once(*await until_done(settings))
            assert worker.runs
    assert proxy.cuts > 3
