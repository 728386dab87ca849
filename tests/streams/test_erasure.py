"""Erased users and a real worker: nothing brings them back, and what comes later counts."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from events_log import fold, last_offsets
from kafka_tools import delete_topic, read_topic, send_events, send_raw
from parts import Part, eventually
from redis.asyncio import Redis

from headrace.erasures import Erasure
from headrace.events import parse_event
from headrace.heartbeats import HeartbeatStore
from headrace.log import end_offsets
from headrace.positions import PositionStore
from headrace.producer import Producer
from headrace.redis_eraser import RedisEraser
from headrace.sessions import ERASED_S, LoggedEvent, Session, SessionStore
from headrace.settings import Settings, WorkerSettings
from headrace.topics import ERASURES, EVENT_TOPICS, ensure_topics
from serving.eraser import Eraser

NOW = 1_704_060_026.0


@asynccontextmanager
async def eraser_of(
    settings: Settings, redis: Redis, clock: Callable[[], float] = time.time
) -> AsyncIterator[Eraser]:
    producer = Producer(settings)
    eraser = Eraser(settings, producer, RedisEraser(redis, settings), clock)
    yield eraser
    await eraser.close()
    await producer.close()


async def erase(settings: Settings, redis: Redis, *users: str) -> list[Erasure]:
    """Erase users as a server does."""
    async with eraser_of(settings, redis) as eraser:
        erasures = [await eraser.announce(user) for user in users]
        for erasure in erasures:
            await eraser.carry_out(erasure)
    return erasures


def event(topic: str, number: int, user: str, item: str) -> dict[str, Any]:
    return {
        "event_id": f"{topic}-{number}",
        "user_id": user,
        "item_id": item,
        "timestamp": NOW + number,
        **({"rating": 4.0} if topic == "ratings" else {}),
    }


def send_to_all(settings: Settings, user: str, items: Sequence[str], first: int = 0) -> None:
    for topic in EVENT_TOPICS:
        rows = [event(topic, first + n, user, item) for n, item in enumerate(items)]
        send_events(settings, topic, rows)


def read_log(settings: Settings) -> list[LoggedEvent]:
    """What the broker holds."""
    log = []
    for topic, kind in EVENT_TOPICS.items():
        for record in read_topic(settings, topic):
            parsed = parse_event(record.value, kind, received_at=record.timestamp / 1000)
            log.append(LoggedEvent(parsed, topic, "", record.partition, record.offset))
    return log


async def until_done(settings: Settings, redis: Redis) -> None:
    """Wait until the positions in Redis are the ends of the topics of events."""
    through = await asyncio.to_thread(end_offsets, settings)
    ends = {
        (topic, int(partition)): end
        for topic, by_partition in through.items()
        for partition, end in by_partition.items()
        if end
    }

    async def done() -> bool:
        positions = await PositionStore(redis, settings).read()
        at = {(place.topic, place.partition): offset for place, offset in positions.items()}
        return ends.items() <= at.items()

    await eventually(done, "all that the topics hold is done")


async def contents(redis: Redis, settings: Settings) -> dict[str, bytes]:
    """Every key of the namespace, with all that it holds as one text."""
    found = {}
    async for key in redis.scan_iter(f"{settings.namespace}:*"):
        kind = await redis.type(key)
        if kind == b"string":
            parts: Any = [await redis.get(key)]
        elif kind == b"hash":
            parts = [part for pair in (await redis.hgetall(key)).items() for part in pair]
        elif kind == b"zset":
            parts = await redis.zrange(key, 0, -1)
        elif kind == b"set":
            parts = await redis.smembers(key)
        elif kind == b"stream":
            parts = [
                part
                for _, fields in await redis.xrange(key)
                for pair in fields.items()
                for part in pair
            ]
        else:
            raise AssertionError(kind)
        found[key.decode()] = b"\n".join(parts)
    return found


def places_of(word: str, found: dict[str, bytes], settings: Settings) -> set[str]:
    """The kinds of keys whose name or content has the word."""
    return {
        key.removeprefix(settings.namespace + ":").partition(":")[0]
        for key, content in found.items()
        if word.encode() in content or word in key
    }


async def test_whatever_happens_to_the_worker_an_erased_user_stays_erased(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    sessions = SessionStore(redis, settings)
    users = ["ann", "{}", "100%", "用户", "x" * 256]
    for number, user in enumerate(users):
        items = [f"secret-{number}-{n}" for n in range(20)]
        await asyncio.to_thread(send_to_all, settings, user, items, 100 * number)
    await asyncio.to_thread(send_to_all, settings, "bob", [f"open-{n}" for n in range(20)], 900)
    # Of these only the key says whose they are, or only the value.
    send_raw(settings, "clicks", [(b"ann", b"not an event"), (b"bob", b"nor this")])
    send_raw(settings, "clicks", [(b"session-1", b'{"user_id": "ann"}')])
    with Part("worker", settings, tmp_path) as worker:
        await until_done(settings, redis)
        assert len((await sessions.read("ann")).item_ids) == 20
        # Applied by no worker before the erasure.
        worker.end(signal.SIGKILL)
        await asyncio.to_thread(send_to_all, settings, "ann", ["secret-last"], 1_000)
        await erase(settings, redis, *users)
        for user in users:
            assert await sessions.read(user) == Session()
        found = await contents(redis, settings)
        # Who met the items is not told there.
        assert places_of("secret", found, settings) == {"transitions", "trending"}
        assert not [key for key in found if ":recent:" in key and "bob" not in key]

        # It reads everything again, where only the topic tells it of the erasures.
        await redis.delete(
            settings.key("positions"),
            *[key for key in found if key.endswith(":marks") and ":user:" in key],
        )
        worker.start()
        await until_done(settings, redis)
        for user in users:
            assert await sessions.read(user) == Session()
        assert not [
            key for key in await contents(redis, settings) if ":recent:" in key and "bob" not in key
        ]

        # Into a Redis that has lost everything, too; and now nobody met those items.
        worker.end(signal.SIGKILL)
        await redis.delete(*await contents(redis, settings))
        worker.start()
        await until_done(settings, redis)
        found = await contents(redis, settings)
        assert places_of("secret", found, settings) == set()
        assert places_of("ann", found, settings) <= {"user"}
        assert len((await sessions.read("bob")).item_ids) == 20

        # What comes later counts, after another restart as well.
        await asyncio.to_thread(send_to_all, settings, "ann", ["later-1", "later-2"], 2_000)
        await until_done(settings, redis)
        assert worker.end(signal.SIGTERM) == 0
        worker.start()
        await until_done(settings, redis)
        await asyncio.to_thread(send_to_all, settings, "ann", ["later-3"], 2_100)
        await until_done(settings, redis)
        session = await sessions.read("ann")
        assert set(session.item_ids) == {"later-1", "later-2", "later-3"}
        assert session.applied == 9
        assert worker.end(signal.SIGTERM) == 0
    # Read again twice: the one of the erased user was not buried again.
    letters = [record.key for record in read_topic(settings, "dead-letters")]
    assert letters.count(b"ann") == 1
    assert letters.count(b"session-1") == 1
    assert letters.count(b"bob") == 3


async def test_erased_while_events_stream_in_each_counts_or_is_erased(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(
        settings, worker=WorkerSettings(group=settings.worker.group, batch_size=20)
    )
    await asyncio.to_thread(ensure_topics, settings)
    sessions = SessionStore(redis, settings)
    rng = random.Random(4)
    users = [f"user-{n}" for n in range(8)]

    def send_some(first: int) -> None:
        for topic in EVENT_TOPICS:
            rows = [
                event(topic, first + n, rng.choice(users), f"{topic}-{first + n}")
                for n in range(300)
            ]
            send_events(settings, topic, rows)

    erased: dict[str, Erasure] = {}
    with Part("worker", settings, tmp_path) as worker:
        for turn, user in enumerate([*users[:5], users[0]]):
            sending = asyncio.create_task(asyncio.to_thread(send_some, turn * 1_000))
            await asyncio.sleep(rng.random() * 0.3)
            [erased[user]] = await erase(settings, redis, user)
            if turn == 3:
                worker.end(signal.SIGKILL)
                worker.start()
            await sending
        await until_done(settings, redis)
        assert worker.end(signal.SIGTERM) == 0
    log = await asyncio.to_thread(read_log, settings)

    def counts(each: LoggedEvent) -> bool:
        of = erased.get(each.event.user_id)
        return of is None or each.offset >= of.end(each.topic, each.partition)

    left = [each for each in log if counts(each)]
    assert len(left) < len(log)
    for user in users:
        session = await sessions.read(user)
        assert session.interactions() == fold(left, user, settings.sessions.limit)
        of_user = sum(each.event.user_id == user for each in left)
        assert len(session.item_ids) <= session.applied <= of_user
        assert user in erased or session.applied == of_user
        assert session.marks == last_offsets(left, user)
    forgotten = {each.event.item_id for each in log if not counts(each)}
    for key, content in (await contents(redis, settings)).items():
        if ":recent:" in key:
            items = content.decode().partition("\n\n")[0].split("\n")
            assert not forgotten & set(items), key


async def test_what_a_server_could_not_erase_from_redis_a_worker_does_on_hearing_of_it(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    sessions = SessionStore(redis, settings)
    for user in ("ann", "bob", "cid", "dan"):
        await asyncio.to_thread(send_to_all, settings, user, [f"{user}-1", f"{user}-2"])

    async def erased(user: str) -> bool:
        recents = [key async for key in redis.scan_iter(f"{settings.namespace}:*:recent:{user}")]
        return not (await sessions.read(user)).item_ids and not recents

    with Part("worker", settings, tmp_path) as worker:
        await until_done(settings, redis)
        # None of this is an erasure, and none of it stops a worker.
        rows = [(b"ann", b"\xff"), (b"bob", b"{}"), (b"bob", None), (b"cid", b"[]")]
        send_raw(settings, ERASURES, rows)
        async with eraser_of(settings, redis) as eraser:
            await eraser.announce("ann")
            await eventually(lambda: erased("ann"), "the worker erases on hearing of it")
            worker.end(signal.SIGKILL)
            await eraser.announce("bob")
        # So long ago that no mark in Redis would keep what is older away.
        long_ago = time.time() - 2 * ERASED_S
        async with eraser_of(settings, redis, lambda: long_ago) as eraser:
            await eraser.announce("dan")
        worker.start()
        await eventually(lambda: erased("bob"), "the worker erases when it starts")
        await eventually(lambda: erased("dan"), "it erases what nobody did while none was up")
        assert len((await sessions.read("cid")).item_ids) == 2

        async def well() -> bool:
            beats = await HeartbeatStore(redis, settings).read("worker")
            return [beat.state for beat in beats] == ["running"]

        await eventually(well, "the worker is well")
        assert worker.end(signal.SIGTERM) == 0


async def test_a_topic_made_anew_after_the_erasure_brings_new_events_alone(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    sessions = SessionStore(redis, settings)
    await asyncio.to_thread(send_to_all, settings, "ann", [f"old-{n}" for n in range(30)])
    with Part("worker", settings, tmp_path) as worker:
        await until_done(settings, redis)
        await erase(settings, redis, "ann")
        await asyncio.to_thread(delete_topic, settings, "clicks")
        await asyncio.to_thread(ensure_topics, settings)
        send_events(settings, "clicks", [event("clicks", 5_000, "ann", "new")])
        await asyncio.to_thread(worker.wait)
        worker.start()

        async def applied() -> bool:
            return (await sessions.read("ann")).item_ids == ("new",)

        await eventually(applied, "the new topic's event counts")
        assert worker.end(signal.SIGTERM) == 0
