"""`headrace promote`: a shadow becomes the live state under workers that run."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import msgspec
import pytest
from parts import Part, eventually
from redis.asyncio import Redis
from state_tools import (
    Log,
    all_done,
    fails,
    hash_in,
    load,
    read_log,
    succeeds,
    supervised,
)

from headrace.erasures import Erasure, Erasures
from headrace.exchange import ExchangeStore
from headrace.heartbeats import Heartbeat, HeartbeatStore
from headrace.identity import generation_key
from headrace.promote import DELETING, RENAMING, promote
from headrace.sessions import SessionStore
from headrace.settings import Settings, WorkerSettings
from headrace.topics import ensure_topics, event_topic_ids
from headrace.trending import TrendingStore

USERS = 40


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With small batches: a worker is always in the middle of something."""
    worker = WorkerSettings(group=settings.worker.group, batch_size=50)
    return msgspec.structs.replace(settings, worker=worker)


async def damage(redis: Redis, settings: Settings) -> None:
    """Spoil the live state: an event too many, a session too many, one that is gone."""
    await redis.hincrby(settings.key("user", "{user-1}", "marks"), "applied", 1)
    await redis.hset(settings.key("user", "{nobody}", "items"), "item", '[1,"click",0,0,null]')
    gone = (settings.key("user", "{user-2}", part) for part in ("items", "seen", "marks"))
    await redis.delete(*gone)


async def test_under_load_every_event_counts_once_in_the_state_promoted(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    log = Log(settings, USERS)
    await asyncio.to_thread(log.send, 3_000)
    await redis.set(settings.key("{catalogue}", "kept"), "as it was")
    shadow = f"{settings.namespace}-shadow"
    with Part("worker", settings, tmp_path) as worker:

        async def begun() -> bool:
            return await TrendingStore(redis, settings).events_counted() > 500

        await eventually(begun, "the worker is at work")
        async with supervised(worker):
            with load(log):
                await succeeds(settings, "replay", "--into", shadow)
                await damage(redis, settings)
                await succeeds(settings, "promote", shadow)
            await all_done(settings, redis)
        assert "the state in Redis was exchanged for another" in worker.log()
    assert not await redis.exists(settings.key("user", "{nobody}", "items"))
    assert await redis.get(settings.key("{catalogue}", "kept")) == b"as it was"
    assert [key async for key in redis.scan_iter(f"{shadow}:*")] == []
    assert await ExchangeStore(redis, settings).read() is None


KILLED = """
import asyncio, os, signal, sys
from headrace.erasures import Erasures
from headrace.promote import promote
from headrace.settings_source import load_settings

async def none():
    return Erasures()

def progress(phase, keys):
    if phase == sys.argv[2] and keys:
        os.kill(os.getpid(), signal.SIGKILL)

import headrace.state
headrace.state._SCAN = 20
asyncio.run(promote(load_settings(os.environ), sys.argv[1], none, progress))
"""


@pytest.mark.parametrize("phase", [DELETING, RENAMING])
async def test_killed_in_the_middle_workers_wait_until_it_is_run_again(
    settings: Settings, redis: Redis, tmp_path: Path, phase: str
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    log = Log(settings, USERS)
    await asyncio.to_thread(log.send, 2_000)
    shadow = f"{settings.namespace}-shadow"
    with Part("worker", settings, tmp_path) as worker:
        await all_done(settings, redis)
        await succeeds(settings, "replay", "--into", shadow)
        await damage(redis, settings)
        await asyncio.to_thread(log.send, 300)
        await eventually(_counted(settings, redis), "the worker goes on")
        killed = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", KILLED, shadow, phase],
            env=settings.environ(),
        )
        assert killed.returncode == -signal.SIGKILL
        assert [key async for key in redis.scan_iter(f"{shadow}:user:*")] != []
        await asyncio.to_thread(log.send, 300)
        async with supervised(worker):
            beat = await _waiting(settings, redis)
            assert (
                beat.state == f"waiting: `headrace promote {shadow}` exchanges the state ({phase})"
            )
            ready = await asyncio.to_thread(httpx.get, f"{beat.address}/readyz")
            assert ready.status_code == 503
            assert ready.json() == {"ready": False, "state": beat.state}
            # Into the shadow a replay would delete what is not moved yet; into the live state it
            # would carry marks past what workers read when they go on from the shadow's positions.
            for arguments in (
                ("promote", f"{shadow}-2"),
                ("replay", "--into", shadow, "--anew"),
                ("replay",),
            ):
                error = await fails(settings, *arguments)
                assert f"`headrace promote {shadow}` was begun and has not ended" in error
            await succeeds(settings, "promote", shadow)
            await all_done(settings, redis)
    assert [key async for key in redis.scan_iter(f"{shadow}:*")] == []


def _counted(settings: Settings, redis: Redis) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        log = await asyncio.to_thread(read_log, settings)
        return await TrendingStore(redis, settings).events_counted() == len(log)

    return holds


async def _waiting(settings: Settings, redis: Redis) -> Heartbeat:
    found: list[Heartbeat] = []

    async def waits() -> bool:
        beats = await HeartbeatStore(redis, settings).read("worker")
        found[:] = [beat for beat in beats if beat.state.startswith("waiting: `")]
        return bool(found)

    await eventually(waits, "the worker waits")
    return found[0]


async def test_who_was_erased_since_the_replay_is_erased_in_what_becomes_live(
    settings: Settings, redis: Redis
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    await asyncio.to_thread(Log(settings, 3).send, 100)
    shadow = f"{settings.namespace}-shadow"
    await succeeds(settings, "replay", "--into", shadow)
    record = json.loads(await redis.get(f"{shadow}:replay"))
    erasure = Erasure(
        user_id="user-1",
        at=record["begun_at"] + 1,
        topic_ids=event_topic_ids(settings),
        through=record["window"]["ends"],
    )

    async def erasures() -> Erasures:
        return Erasures([erasure])

    await promote(settings, shadow, erasures)
    store = SessionStore(redis, settings)
    assert (await store.read("user-0")).applied > 0
    assert (await store.read("user-1")).item_ids == ()
    assert [key async for key in redis.scan_iter(settings.key("*recent:user-1"))] == []


async def test_what_is_no_complete_shadow_is_refused_and_nothing_is_touched(
    settings: Settings, redis: Redis
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    shadow = f"{settings.namespace}-shadow"
    assert f"There is no shadow in {shadow}" in await fails(settings, "promote", shadow)
    await succeeds(settings, "replay", "--into", shadow)
    record = json.loads(await redis.get(f"{shadow}:replay"))
    await redis.set(f"{shadow}:replay", json.dumps({**record, "is_complete": False}))
    assert "has not come to its end" in await fails(settings, "promote", shadow)
    assert "is the live namespace" in await fails(settings, "promote", settings.namespace)
    assert not await redis.exists(generation_key(settings))


async def test_of_two_promotions_at_once_the_later_one_goes_on(
    settings: Settings, redis: Redis
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    await asyncio.to_thread(Log(settings, USERS).send, 500)
    shadow = f"{settings.namespace}-shadow"
    digest = hash_in(await succeeds(settings, "replay", "--into", shadow))
    held, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> Erasures:
        held.set()
        await go_on.wait()
        return Erasures()

    first = asyncio.create_task(promote(settings, shadow, slowly))
    await held.wait()
    await succeeds(settings, "promote", shadow)
    go_on.set()
    [outcome] = await asyncio.gather(first, return_exceptions=True)
    assert isinstance(outcome, Exception)
    assert hash_in(await succeeds(settings, "state-hash")) == digest


async def test_what_becomes_live_expires_like_any_other(settings: Settings, redis: Redis) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    await asyncio.to_thread(Log(settings, 3).send, 100, ("clicks",))
    shadow = f"{settings.namespace}-shadow"
    await succeeds(settings, "replay", "--into", shadow)
    await succeeds(settings, "promote", shadow)
    lasting = set()
    async for key in redis.scan_iter(settings.key("*")):
        ttl_s = await redis.ttl(key)
        assert ttl_s == -1 or 0 < ttl_s <= settings.sessions.ttl_s
        if ttl_s == -1:
            lasting.add(key.decode().split(":")[1] + ":" + key.decode().split(":")[-1])
    assert {name.split(":")[0] for name in lasting} == {
        *("aggregates", "generation", "positions", "transitions", "trending"),
    }
    assert {name for name in lasting if name.startswith("transitions")} == {"transitions:streams"}
