"""`DELETE /v1/users/{id}`: Kafka knows before Redis forgets, and what comes later counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import httpx
import msgspec
from events_log import NOW, logged
from kafka_tools import delete_topic, read_topic, send_events
from redis.asyncio import Redis
from serving_tools import Serve, check_problem

from headrace.aggregates import AggregateStore
from headrace.erasures import Erasure
from headrace.log import end_offsets
from headrace.producer import Producer
from headrace.redis_eraser import RedisEraser
from headrace.sessions import LoggedEvent, Session, SessionStore
from headrace.settings import Settings
from headrace.topics import ERASURES, ensure_topics, event_topic_ids
from serving.eraser import Eraser

ODD_USERS = ["a/b", "{}", "100%", "a b", "用户", "x" * 256]


def written(settings: Settings) -> list[Erasure]:
    """What the topic holds, oldest first."""
    records = sorted(read_topic(settings, ERASURES), key=lambda record: record.timestamp)
    erasures = [msgspec.json.decode(record.value, type=Erasure) for record in records]
    assert [record.key.decode() for record in records] == [each.user_id for each in erasures]
    return erasures


def send(settings: Settings, user_id: str, count: int, first: int = 0) -> list[LoggedEvent]:
    """Send ratings of the user to Kafka; return them as a worker would apply them."""
    topic_id = event_topic_ids(settings)["ratings"]
    events = [
        logged(0, user_id, f"i{first + n}", NOW + first + n, topic_id=topic_id)
        for n in range(count)
    ]
    rows = [
        {
            "event_id": f"{user_id[:90]}-{first + n}",
            "user_id": user_id,
            "item_id": each.event.item_id,
            "timestamp": each.event.timestamp,
            "rating": 4.0,
        }
        for n, each in enumerate(events)
    ]
    places = send_events(settings, "ratings", rows)
    return [
        msgspec.structs.replace(each, partition=partition, offset=offset)
        for each, (partition, offset) in zip(events, places, strict=True)
    ]


async def test_an_erased_user_is_gone_and_later_events_count(
    client: httpx.AsyncClient, settings: Settings, sessions: SessionStore, redis: Redis
) -> None:
    aggregates = AggregateStore(redis, settings)
    for user_id in ODD_USERS:
        path = "/v1/users/" + quote(user_id, safe="")
        events = await asyncio.to_thread(send, settings, user_id, 5)
        # The last one has not been applied by then.
        await sessions.apply(events[:4])
        await aggregates.apply(events[:4])
        through = await asyncio.to_thread(end_offsets, settings)
        begun = time.time()
        answer = await client.delete(path)
        assert (answer.status_code, answer.content) == (204, b"")
        erasure = (await asyncio.to_thread(written, settings))[-1]
        assert erasure.user_id == user_id
        assert erasure.through == through
        assert erasure.topic_ids == await asyncio.to_thread(event_topic_ids, settings)
        assert begun <= erasure.at <= time.time()
        assert await sessions.read(user_id) == Session()
        assert [key async for key in redis.scan_iter(f"{settings.namespace}:*:recent:*")] == []
        held = (await client.get(f"{path}/interactions")).json()
        assert (held["interactions"], held["applied"], held["marks"]) == ({}, 0, {})
        listed = (await client.post("/v1/recommendations", json={"user_id": user_id})).json()
        assert listed["session"]["interactions"] == 0
        later = await asyncio.to_thread(send, settings, user_id, 1, first=5)
        assert await sessions.apply([*events, *later]) == [*["erased"] * 5, "new"]
        assert (await sessions.read(user_id)).item_ids == ("i5",)


async def test_a_user_who_is_not_known_is_erased_and_so_is_one_who_is_erased(
    client: httpx.AsyncClient, settings: Settings, sessions: SessionStore
) -> None:
    assert (await client.delete("/v1/users/ann")).status_code == 204
    first = await asyncio.to_thread(send, settings, "ann", 2)
    await sessions.apply(first)
    assert (await client.delete("/v1/users/ann")).status_code == 204
    assert (await client.delete("/v1/users/ann")).status_code == 204
    erasures = await asyncio.to_thread(written, settings)
    assert [sum(each.through["ratings"].values()) for each in erasures] == [0, 2, 2]
    assert await sessions.apply(first) == ["erased", "erased"]
    assert await sessions.read("ann") == Session()


@asynccontextmanager
async def eraser_of(settings: Settings, redis: Redis) -> AsyncIterator[Eraser]:
    producer = Producer(settings)
    eraser = Eraser(settings, producer, RedisEraser(redis, settings), time.time)
    yield eraser
    await eraser.close()
    await producer.close()


async def test_an_event_between_the_ends_and_the_emptying_counts(
    settings: Settings, redis: Redis, sessions: SessionStore
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    before = await asyncio.to_thread(send, settings, "ann", 3)
    await sessions.apply(before)
    async with eraser_of(settings, redis) as eraser:
        erasure = await eraser.announce("ann")
        between = await asyncio.to_thread(send, settings, "ann", 2, first=3)
        await sessions.apply(between[:1])
        await eraser.carry_out(erasure)
    assert (await sessions.read("ann")).item_ids == ("i3",)
    outcomes = await sessions.apply([*before, *between])
    assert outcomes == ["erased", "erased", "erased", "known", "new"]
    assert (await sessions.read("ann")).item_ids == ("i3", "i4")


async def test_without_kafka_nothing_is_erased_and_the_answer_says_so(
    settings: Settings, serve: Serve, sessions: SessionStore
) -> None:
    await sessions.apply([logged(0, "ann")])
    away = msgspec.structs.replace(settings, kafka="127.0.0.1:9")
    async with serve(away) as client:
        answer = await client.delete("/v1/users/ann")
        check_problem(answer, 503, "Kafka cannot be reached")
        assert int(answer.headers["retry-after"]) > 0
    assert (await sessions.read("ann")).applied == 1


async def test_without_redis_kafka_knows_and_the_answer_says_so(
    settings: Settings, serve: Serve
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    # The settings' own key is the one that a server knows without Redis.
    away = msgspec.structs.replace(settings, redis="redis://127.0.0.1:9/0", api_key="own")
    async with serve(away) as client:
        headers = {"authorization": "Bearer own"}
        answer = await client.delete("/v1/users/ann", headers=headers)
        check_problem(answer, 503, "Kafka knows of the erasure")
        assert int(answer.headers["retry-after"]) > 0
    assert [each.user_id for each in await asyncio.to_thread(written, settings)] == ["ann"]


async def test_where_there_is_no_topic_of_erasures_none_is_made(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    await asyncio.to_thread(delete_topic, settings, ERASURES)
    check_problem(await client.delete("/v1/users/ann"), 503)
    await asyncio.to_thread(ensure_topics, settings)
    assert (await client.delete("/v1/users/ann")).status_code == 204
    assert len(await asyncio.to_thread(written, settings)) == 1
