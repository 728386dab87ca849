"""Redis dies, is away, or answers nothing: what was applied stays applied once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from chaos_events import BEGIN, Load
from chaos_steps import (
    check_all_applied_once,
    check_redis_away,
    events_counted,
    forget_the_tail,
    send_load,
    until_counted,
    until_done,
)
from kafka_tools import send_events
from parts import OwnRedis, Part, eventually
from redis_proxy import CuttingProxy

from headrace.local.ports import claim_port
from headrace.settings import Settings
from headrace.store import connect
from headrace.topics import ensure_topics

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
        # Of a partition that was done with, Redis has forgotten the position: it needs news.
        await send_load(settings, LOAD, seed + 1)
        found, wanted = await until_done(settings)
        assert worker.runs
    assert found.lost(wanted) > 0


async def test_redis_away_is_waited_for_and_readyz_says_so(
    settings: Settings, busy: Busy, own_redis: OwnRedis, tmp_path: Path, seed: int
) -> None:
    await check_redis_away(busy(settings), own_redis, tmp_path, load=LOAD, seed=seed, away_s=8.0)


async def test_a_worker_that_starts_while_redis_is_away_waits_for_it(
    settings: Settings, busy: Busy, own_redis: OwnRedis, tmp_path: Path, seed: int
) -> None:
    settings = msgspec.structs.replace(busy(settings), redis=own_redis.url)
    await send_load(settings, LOAD, seed)
    own_redis.stop()
    with Part("worker", settings, tmp_path) as worker:

        async def waits() -> bool:
            assert worker.runs
            log = tmp_path / "worker.log"
            return log.exists() and "positions cannot be read" in log.read_text()

        await eventually(waits, "the worker says what it waits for")
        own_redis.start()
        check_all_applied_once(*await until_done(settings))
        assert worker.end(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    ("fault", "cure", "told"),
    [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "used memory > 'maxmemory'"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "a read only replica"),
    ],
    ids=["full", "replica"],
)
async def test_a_redis_that_takes_no_writes_is_waited_for_and_no_user_is_named(
    settings: Settings, own_redis: OwnRedis, tmp_path: Path, fault: str, cure: str, told: str
) -> None:
    port = claim_port(0, host="127.0.0.1", use="a worker's health", option="")
    worker_settings = msgspec.structs.replace(settings.worker, port=port)
    settings = msgspec.structs.replace(settings, redis=own_redis.url, worker=worker_settings)
    await asyncio.to_thread(ensure_topics, settings)
    redis = connect(settings)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        with Part("worker", settings, tmp_path) as worker:
            said = ""

            async def says(words: str) -> bool:
                nonlocal said
                with contextlib.suppress(httpx.HTTPError):
                    said = (await client.get("/readyz")).json()["state"]
                return words in said

            await eventually(lambda: says("running"), "the worker is ready")
            await redis.execute_command(*fault.split())
            clicks = [
                {"event_id": user, "user_id": user, "item_id": "i", "timestamp": BEGIN}
                for user in ("planted-ann", "planted-bob")
            ]
            await asyncio.to_thread(send_events, settings, "clicks", clicks)
            await eventually(lambda: says("events cannot be applied: "), "the worker waits")
            assert "planted" not in said
            await redis.execute_command(*cure.split())
            await until_counted(settings, len(clicks))
            await eventually(lambda: says("running"), "the worker is ready again")
            assert worker.end(signal.SIGTERM) == 0
    await redis.aclose()
    assert told in worker.log()
    assert "planted" not in worker.log()


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
