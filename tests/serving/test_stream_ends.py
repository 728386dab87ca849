"""Streams that go on for long: whose key is taken away, and whose state is exchanged under them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka_tools import send_events
from redis.asyncio import Redis
from serving_tools import ring, walk
from state_tools import succeeds

from headrace import changed_users
from headrace.cancellation import cancel_until_done
from headrace.keys import SCOPES, ApiKey, KeyStore, make_key
from headrace.log import end_offsets
from headrace.positions import PositionStore
from headrace.sessions import SessionStore
from headrace.settings import ServingSettings, Settings
from headrace.topics import Place, ensure_topics, event_topic_ids
from serving.callers import Caller
from serving.schemas.recommendations import RecommendationRequest
from serving.services import Services, create_services
from serving.user_tokens import UserToken

WITHIN_S = 30.0
NOW = 1_704_060_026.0


@asynccontextmanager
async def running(settings: Settings, api_key: str = "") -> AsyncIterator[Services]:
    """A server's streams and keys, without HTTP."""
    serving = ServingSettings(follow_s=0.02, heartbeat_s=0.1)
    services = create_services(msgspec.structs.replace(settings, serving=serving, api_key=api_key))
    await services.key_ring.refresh()
    tasks = [
        asyncio.create_task(services.feed.follow()),
        asyncio.create_task(services.of_topics[0].follow()),
        asyncio.create_task(services.key_ring.follow()),
    ]
    try:
        yield services
    finally:
        for task in tasks:
            await cancel_until_done(task)
        await services.eraser.close()
        await services.producer.close()
        await services.redis.aclose()


class Open:
    """A stream of lists."""

    def __init__(self, services: Services, user_id: str, caller: Caller, k: int = 5) -> None:
        self._frames = services.feed.stream(
            RecommendationRequest(user_id=user_id, k=k),
            None,
            "",
            lambda: services.key_ring.refusal(caller, "recommend"),
        )

    async def next(self) -> tuple[str, dict[str, Any]]:
        """Return the next event's name and data; raises `StopAsyncIteration` at the end."""
        while True:
            frame = await asyncio.wait_for(anext(self._frames), WITHIN_S)
            if b"event: " in frame:
                fields = dict(line.split(": ", 1) for line in frame.decode().splitlines() if line)
                return fields["event"], json.loads(fields["data"])

    async def close(self) -> None:
        await self._frames.aclose()  # type: ignore[attr-defined]


Harm = Callable[[KeyStore, ApiKey], Awaitable[None]]


async def revoke(keys: KeyStore, key: ApiKey) -> None:
    await keys.remove(key.id)


async def expire(keys: KeyStore, key: ApiKey) -> None:
    await keys.add(msgspec.structs.replace(key, expires_at=time.time()))


async def take_scope(keys: KeyStore, key: ApiKey) -> None:
    await keys.add(msgspec.structs.replace(key, scopes=("events",)))


@pytest.mark.parametrize("with_token", [False, True])
@pytest.mark.parametrize(
    ("harm", "reason"),
    [(revoke, "revoked"), (expire, "expired"), (take_scope, "no longer the scope recommend")],
)
async def test_a_stream_ends_with_its_key_and_says_so(
    settings: Settings, redis: Redis, with_token: bool, harm: Harm, reason: str
) -> None:
    keys = KeyStore(redis, settings)
    key, text = make_key(("recommend",), now=time.time())
    other, _ = make_key(("recommend",), now=time.time())
    await keys.add(key)
    await keys.add(other)
    async with running(settings) as services:
        ring = services.key_ring
        if with_token:
            text = ring.issue(UserToken("ann", ("recommend",), time.time() + 600, key.id))
        stream = Open(services, "ann", ring.identify(text))
        staying = Open(services, "ann", Caller(other.id, other.scopes))
        assert (await stream.next())[0] == "recommendations"
        assert (await staying.next())[0] == "recommendations"
        await harm(keys, key)
        event, data = await stream.next()
        assert event == "end"
        assert reason in data["reason"]
        with pytest.raises(StopAsyncIteration):
            await stream.next()
        assert len(services.feed) == 1
        await staying.close()


async def test_a_stream_ends_when_its_token_does_before_another_list(
    settings: Settings, redis: Redis
) -> None:
    key, _ = make_key(("recommend",), now=time.time())
    await KeyStore(redis, settings).add(key)
    async with running(settings) as services:
        token = UserToken("ann", ("recommend",), time.time() + 0.5, key.id)
        caller = services.key_ring.identify(services.key_ring.issue(token))
        stream = Open(services, "ann", caller)
        assert (await stream.next())[0] == "recommendations"
        event, data = await stream.next()
        assert (event, time.time() >= token.expires_at) == ("end", True)
        assert "token has expired" in data["reason"]


async def test_who_needed_no_key_needs_one_from_the_first_on(
    settings: Settings, redis: Redis
) -> None:
    async with running(settings) as services:
        stream = Open(services, "ann", services.key_ring.identify(None))
        assert (await stream.next())[0] == "recommendations"
        key, _ = make_key(("recommend",), now=time.time())
        await KeyStore(redis, settings).add(key)
        assert (await stream.next())[0] == "end"
    # The settings' own key stays.
    async with running(settings, api_key="own") as services:
        caller = services.key_ring.identify("own")
        assert caller.scopes == SCOPES
        assert services.key_ring.refusal(caller, "recommend") is None


async def test_streams_that_ask_for_the_same_get_the_same_list(
    settings: Settings, sessions: SessionStore
) -> None:
    async with running(settings) as services:
        caller = services.key_ring.identify(None)
        same = [Open(services, "ann", caller) for _ in range(3)]
        others = [Open(services, "ann", caller, k=6), Open(services, "bob", caller)]
        for number in range(4):
            told = await asyncio.gather(*(stream.next() for stream in same + others[:1]))
            assert {data["session"]["applied"] for _, data in told} == {number}
            ids = [data["id"] for _, data in told]
            assert len(set(ids[:3])) == 1
            assert ids[3] != ids[0]
            await walk(sessions, "ann", number, first=number)
        assert (await others[1].next())[1]["session"]["applied"] == 0
        for stream in same + others:
            await stream.close()


async def test_a_replay_a_restore_and_a_promotion_show_in_open_streams(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    rows = [
        {"event_id": f"e{n}", "user_id": "ann", "item_id": ring(n), "timestamp": NOW + n}
        for n in range(3)
    ]
    await asyncio.to_thread(send_events, settings, "clicks", rows)
    # Workers have come to the end, and what they applied is lost.
    ids = await asyncio.to_thread(event_topic_ids, settings)
    through = await asyncio.to_thread(end_offsets, settings)
    await PositionStore(redis, settings).advance(
        {
            Place(topic, ids[topic], int(partition)): end
            for topic, by_partition in through.items()
            for partition, end in by_partition.items()
        }
    )
    shadow, backup = f"{settings.namespace}-shadow", tmp_path / "redis.backup"
    marks = settings.key("user", "{ann}", "marks")
    async with running(settings) as services:
        stream = Open(services, "ann", services.key_ring.identify(None))

        async def next_applied() -> int:
            return int((await stream.next())[1]["session"]["applied"])

        async def spoil(count: int) -> None:
            await redis.hset(marks, "applied", str(count))
            await redis.publish(changed_users.channel(settings), changed_users.encode(["ann"]))
            assert await next_applied() == count

        assert await next_applied() == 0
        await succeeds(settings, "replay")
        assert await next_applied() == 3
        await succeeds(settings, "backup", str(backup))
        await succeeds(settings, "replay", "--into", shadow)
        await spoil(7)
        await succeeds(settings, "promote", shadow)
        assert await next_applied() == 3
        await spoil(8)
        await succeeds(settings, "restore", str(backup), "--replace")
        assert await next_applied() == 3
        await stream.close()
