"""Redis dies, is away, or answers nothing: what was applied stays applied once."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from chaos_events import Load
from chaos_steps import (
    check_all_applied_once,
    check_redis_away,
    events_counted,
    forget_the_tail,
    send_load,
    until_counted,
    until_done,
)
from parts import OwnRedis, Part
from redis_proxy import CuttingProxy

from headrace.settings import Settings
from headrace.store import connect

Busy = Callable[[Settings], Settings]
LOAD = Load(events=4_000, users=200, items=200)


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
        forget(own_redis.folder)
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
        forget_the_tail(own_redis.folder)
        own_redis.start()
        worker.signal(signal.SIGCONT)
        found, wanted = await until_done(settings)
        assert worker.runs
    assert found.lost(wanted) > 0


async def test_redis_away_is_waited_for_and_readyz_says_so(
    settings: Settings, busy: Busy, own_redis: OwnRedis, tmp_path: Path, seed: int
) -> None:
    await check_redis_away(busy(settings), own_redis, tmp_path, load=LOAD, seed=seed, away_s=8.0)


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
