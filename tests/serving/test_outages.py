"""While Redis is away nobody waits for it in vain, and the log says so twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from parts import eventually
from redis.exceptions import TimeoutError as RedisTimeoutError
from serving_tools import V1, Serve, activate, until_live

from headrace.settings import Settings
from headrace.store import Reading
from headrace.topics import ensure_topics
from headrace.trending import Ranked, TrendingStore
from serving.outage import Outage
from serving.services import Services
from serving.shared_reads import SharedReads
from serving.trending import TrendingCache


class Hanging:
    """What hangs until it is let, and has an answer only when it is well."""

    def __init__(self) -> None:
        self.calls = 0
        self.go = asyncio.Event()
        self.well = False

    async def answer(self, what: Any) -> Any:
        self.calls += 1
        await self.go.wait()
        if not self.well:
            raise RedisTimeoutError("no answer in time")
        return what

    async def trip(self, readings: Sequence[Reading[str]]) -> list[str]:
        return cast("list[str]", await self.answer([each.parse([]) for each in readings]))

    async def ranked(self) -> Ranked:
        return cast(Ranked, await self.answer(Ranked([("tea", 1.0)], [])))


def reading(name: str) -> Reading[str]:
    return Reading(lambda _: None, lambda _: name)


async def test_one_read_at_a_time_finds_out_whether_redis_still_hangs() -> None:
    redis = Hanging()
    shared = SharedReads(redis.trip)
    first = asyncio.create_task(shared.read(reading("a")))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(shared.read(reading("b")))
    await asyncio.sleep(0)
    redis.go.set()
    for task in (first, waiting):
        with pytest.raises(RedisTimeoutError):
            await task
    assert redis.calls == 1, "who waited heard of it, too"

    redis.go.clear()
    trying = asyncio.create_task(shared.read(reading("c")))
    await asyncio.sleep(0)
    with pytest.raises(RedisTimeoutError):
        await shared.read(reading("d"))
    redis.well = True
    redis.go.set()
    assert await trying == ["c"]
    assert await shared.read(reading("e")) == ["e"]


async def test_one_at_a_time_waits_for_trending_items(settings: Settings) -> None:
    redis = Hanging()
    redis.go.set()
    redis.well = True
    now = 0.0
    cache = TrendingCache(cast(TrendingStore, redis), settings, lambda: now)
    assert await cache.items() == [("tea", 1.0)]
    redis.well = False
    now += 100
    assert await cache.items() == [("tea", 1.0)]
    redis.go.clear()
    now += 100
    trying = asyncio.create_task(cache.items())
    await asyncio.sleep(0)
    assert await cache.items() == [("tea", 1.0)]
    redis.go.set()
    assert await trying == [("tea", 1.0)]
    assert redis.calls == 3


def test_an_outage_is_told_when_it_begins_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    outage = Outage(logging.getLogger("test"), "tea cannot be had")
    outage.over()
    for _ in range(3):
        outage.met(OSError("no kettle"))
    outage.over()
    outage.over()
    assert [record.message for record in caplog.records] == [
        "tea cannot be had: OSError('no kettle')",
        "no longer: tea cannot be had",
    ]


async def test_a_server_is_ready_when_it_has_the_live_version(
    settings: Settings, serve: Serve, add_version: Callable[[str], Path]
) -> None:
    ensure_topics(settings)
    add_version(V1)
    async with serve(settings) as client:
        await activate(client, V1)
    async with serve(settings) as client:
        services: Services = client._transport.app.state.services  # type: ignore[attr-defined]
        # Before it is swapped in.
        async with services.live._levelling:
            answer = await client.get("/readyz")
            said = answer.json()
            assert (answer.status_code, said["loading"], said["model"]) == (503, True, None)
            assert (said["redis"], said["kafka"]) == (True, True)
            assert said["model_id"] == settings.model_id
        await until_live(client, V1)
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["loading"]) == (200, False)


async def test_a_server_without_a_version_is_ready(settings: Settings, serve: Serve) -> None:
    ensure_topics(settings)
    async with serve(settings) as client:
        services: Services = client._transport.app.state.services  # type: ignore[attr-defined]

        async def is_ready() -> bool:
            return (await client.get("/readyz")).status_code == 200

        await eventually(is_ready, "the server is ready")
        assert services.live.version is None
