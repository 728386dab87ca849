"""A real worker on a real broker: what becomes of records, whatever happens to the worker."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from events_log import fold, fold_transitions, last_offsets, stored_transitions
from kafka.errors import InvalidRecordError
from kafka_tools import delete_topic, read_topic, send_events, send_raw
from parts import OwnRedis, Part, eventually
from redis.asyncio import Redis
from redis.exceptions import RedisError

from headrace.catalog import CatalogStore, Item
from headrace.events import MAX_BYTES, parse_event
from headrace.heartbeats import HeartbeatStore
from headrace.local.binaries import find_redis, redis_command
from headrace.local.ports import claim_port
from headrace.sessions import LoggedEvent, SessionStore
from headrace.settings import Settings, WorkerSettings
from headrace.store import connect
from headrace.topics import EVENT_TOPICS, Topics, ensure_topics, event_topic_ids
from headrace.trending import TrendingStore

pytestmark = pytest.mark.brokers("embedded", "apache")

NOW = 1_704_060_026.0


def event(kind: str, number: int, user: str, item: str, at: float = NOW) -> dict[str, Any]:
    raw = {"event_id": f"{kind}-{number}", "user_id": user, "item_id": item, "timestamp": at}
    return {**raw, "rating": number % 5 + 0.5} if kind == "rating" else raw


def draw_events(rng: random.Random, count: int, users: int) -> dict[str, list[dict[str, Any]]]:
    """Events of each topic, with late ones and equal timestamps."""
    drawn: dict[str, list[dict[str, Any]]] = {topic: [] for topic in EVENT_TOPICS}
    for number in range(count):
        topic = rng.choice(list(EVENT_TOPICS))
        user, item = f"user-{rng.randrange(users)}", f"item-{rng.randrange(80)}"
        at = NOW + number // 10 - rng.randrange(200)
        drawn[topic].append(event(EVENT_TOPICS[topic], number, user, item, at))
    return drawn


def read_log(settings: Settings) -> list[LoggedEvent]:
    """What the broker holds, read without anything of the worker's."""
    log = []
    for topic, kind in EVENT_TOPICS.items():
        for record in read_topic(settings, topic):
            parsed = parse_event(record.value, kind, received_at=record.timestamp / 1000)
            log.append(LoggedEvent(parsed, topic, "", record.partition, record.offset))
    return log


async def applied_in_all(store: SessionStore, users: int) -> int:
    sessions = await asyncio.gather(*(store.read(f"user-{n}") for n in range(users)))
    return sum(session.applied for session in sessions)


async def check_against_log(settings: Settings, store: SessionStore, users: int) -> None:
    log = await asyncio.to_thread(read_log, settings)
    for user in (f"user-{n}" for n in range(users)):
        session = await store.read(user)
        assert session.interactions() == fold(log, user, settings.sessions.limit)
        assert session.applied == sum(each.event.user_id == user for each in log)
        assert session.marks == last_offsets(log, user)


async def test_events_and_items_are_applied_and_what_is_wrong_is_a_dead_letter(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    good = json.dumps(event("click", 1, "ann", "i1")).encode()
    ahead = json.dumps(event("click", 2, "ann", "i1", NOW * 1_000)).encode()
    wrong: list[tuple[str, bytes | None, bytes | None, str]] = [
        ("clicks", b"ann", b"\xff\x00 not json", "not JSON"),
        ("clicks", b"\xff", None, "no value"),
        ("clicks", None, b"{" + b" " * MAX_BYTES + b"}", "65,538 bytes long"),
        # More than a worker asks for in one fetch.
        ("ratings", b"ann", b"{" + b" " * 400_000 + b"}", "400,002 bytes long"),
        ("clicks", b"ann", ahead, "timestamp: "),
        ("clicks", b"ann", good.replace(b'"user_id": "ann"', b'"user_id": "\\ud800"'), "not JSON"),
        ("clicks", b"ann", good.replace(b'"i1"', b'"i1", "colour": 1'), "colour: "),
        ("ratings", b"ann", good, "rating: is required"),
        ("items", b"i1", b"[]", "Expected `object`"),
        ("items", None, b'{"item_id": "i1"}', "no key"),
        ("items", b"i1", b'{"item_id": "i2"}', "item_id: 'i2' differs"),
        ("items", b"\xff", None, "not UTF-8"),
        ("items", b"i1", b'{"item_id": "i1", "attributes": {"a": 1' + b"0" * 80 + b"}}", "attrib"),
    ]
    sent = []
    for topic, key, value, reason in wrong:
        try:
            [(partition, offset)] = send_raw(settings, topic, [(key, value)], partition=1)
        except InvalidRecordError:
            # Apache Kafka takes no record without a key into a compacted topic.
            assert (topic, key) == ("items", None)
            continue
        sent.append((topic, partition, offset, key, value, reason))
        if topic == "clicks":
            send_raw(settings, topic, [(b"ann", good)], partition=1)
    send_raw(settings, "items", [(b"i1", b'{"item_id": "i1", "title": "One"}')], partition=1)
    send_raw(settings, "items", [(b"i2", b'{"item_id": "i2"}'), (b"i2", None)], partition=0)

    sessions, catalog = SessionStore(redis, settings), CatalogStore(redis, settings)
    with Part("worker", settings, tmp_path) as worker:

        async def done() -> bool:
            [beat] = await HeartbeatStore(redis, settings).read("worker") or [None]
            return beat is not None and beat.figures["dead_letters"] == len(sent) and (
                beat.figures["items"], beat.figures["applied"], beat.figures["lag"]
            ) == (3, 6, 0)  # fmt: skip

        await eventually(done, "every record is done with")
        beats = await HeartbeatStore(redis, settings).read("worker")
        assert [beat.state for beat in beats] == ["running"]
        assert worker.runs
        # It goes on after all that.
        send_events(settings, "ratings", [event("rating", 9, "bob", "i9")])

        async def went_on() -> bool:
            return (await sessions.read("bob")).applied == 1

        await eventually(went_on, "an event after the wrong ones is applied")
        assert worker.end(signal.SIGTERM) == 0

    assert (await sessions.read("ann")).applied == 6
    assert await catalog.all() == [Item(item_id="i1", title="One")]
    letters = {}
    for record in read_topic(settings, "dead-letters"):
        headers = {name: value.decode() for name, value in record.headers}
        assert headers["topic"].startswith(settings.topics.prefix)
        place = Topics(settings).plain(headers["topic"]), int(headers["partition"])
        letters[(*place, int(headers["offset"]))] = (record, headers)
    assert len(letters) == len(sent) >= len(wrong) - 1
    for topic, partition, offset, key, value, reason in sent:
        record, headers = letters[topic, partition, offset]
        assert (record.key, record.value) == (key, value)
        assert reason in headers["reason"]


async def test_killed_and_stopped_in_the_middle_no_event_is_lost_or_applied_twice(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    users, count = 40, 12_000
    # Small batches: a worker is in the middle of one when it is killed.
    settings = msgspec.structs.replace(
        settings, worker=WorkerSettings(group=settings.worker.group, batch_size=20)
    )
    await asyncio.to_thread(ensure_topics, settings)
    for topic, events in draw_events(random.Random(8), count, users).items():
        await asyncio.to_thread(send_events, settings, topic, events)
    store, trending = SessionStore(redis, settings), TrendingStore(redis, settings)
    reached = 0
    with Part("worker", settings, tmp_path) as worker:
        for number, expected in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):

            async def moved_on(reached: int = reached) -> bool:
                return await trending.events_counted() > reached + 500

            await eventually(moved_on, "the worker gets on")
            assert worker.end(number) == expected
            reached = await applied_in_all(store, users)
            assert 0 < reached < count, "the worker was not in the middle"
            worker.start()

        async def all_applied() -> bool:
            return await trending.events_counted() >= count

        await eventually(all_applied, "all events are applied")
        assert worker.end(signal.SIGTERM) == 0
    assert await trending.events_counted() == count
    assert await applied_in_all(store, users) == count
    await check_against_log(settings, store, users)


async def test_killed_in_the_middle_the_transitions_are_those_of_the_log(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    users, count = 20, 6_000
    settings = msgspec.structs.replace(
        settings, worker=WorkerSettings(group=settings.worker.group, batch_size=20)
    )
    await asyncio.to_thread(ensure_topics, settings)
    clicks = [event("click", n, f"user-{n % users}", f"item-{n * n % 83}") for n in range(count)]
    await asyncio.to_thread(send_events, settings, "clicks", clicks)
    trending = TrendingStore(redis, settings)
    with Part("worker", settings, tmp_path) as worker:
        reached = 0
        for _ in range(3):

            async def moved_on(reached: int = reached) -> bool:
                return await trending.events_counted() > reached + 300

            await eventually(moved_on, "the worker gets on")
            worker.end(signal.SIGKILL)
            reached = await trending.events_counted()
            assert reached < count, "the worker was not in the middle"
            worker.start()

        async def all_kept() -> bool:
            streams = await stored_transitions(redis, settings)
            return sum(map(len, streams.values())) >= count

        await eventually(all_kept, "all transitions are kept")
        assert worker.end(signal.SIGTERM) == 0
    [topic_id] = {place.topic_id for place in await stored_transitions(redis, settings)}
    assert topic_id == event_topic_ids(settings)["clicks"]
    log = [
        msgspec.structs.replace(each, topic_id=topic_id)
        for each in await asyncio.to_thread(read_log, settings)
    ]
    assert await stored_transitions(redis, settings) == fold_transitions(log)


async def test_a_worker_waits_for_redis_and_goes_on(settings: Settings, tmp_path: Path) -> None:
    port = claim_port(0, host="127.0.0.1", use="a test's Redis", option="")
    command = redis_command(find_redis(os.environ), port, tmp_path)
    users = 10
    await asyncio.to_thread(ensure_topics, settings)
    drawn = draw_events(random.Random(9), 3_000, users)
    with OwnRedis(command, port, tmp_path) as server:
        settings = msgspec.structs.replace(settings, redis=server.url)
        redis = connect(settings)
        store, trending = SessionStore(redis, settings), TrendingStore(redis, settings)

        async def all_applied(count: int) -> None:
            async def holds() -> bool:
                try:
                    return await trending.events_counted() == count
                except RedisError:  # A connection from before it stopped.
                    return False

            await eventually(holds, f"{count} events are applied")

        with Part("worker", settings, tmp_path) as worker:
            send_events(settings, "clicks", drawn["clicks"])
            await all_applied(count := len(drawn["clicks"]))

            # Gone and back: nothing can be applied meanwhile.
            server.stop()
            send_events(settings, "ratings", drawn["ratings"])
            await eventually(_logged(worker, "events cannot be applied"), "the worker waits")
            server.start()
            # It may have lost something: the worker ends, and begins where Redis remembers.
            assert await asyncio.to_thread(worker.wait) == os.EX_SOFTWARE
            assert "Redis was restarted" in worker.log()
            worker.start()
            await all_applied(count := count + len(drawn["ratings"]))

            # Hanging past the worker's patience: what it gave up on is done all the same, later.
            waits = worker.log().count("events cannot be applied")
            server.signal(signal.SIGSTOP)
            send_events(settings, "purchases", drawn["purchases"])
            await eventually(
                _logged(worker, "events cannot be applied", waits + 1), "the worker waits again"
            )
            server.signal(signal.SIGCONT)
            await all_applied(3_000)
            assert worker.end(signal.SIGTERM) == 0
        assert await applied_in_all(store, users) == 3_000
        await check_against_log(settings, store, users)
        assert read_topic(settings, "dead-letters") == []
        await redis.aclose()


def _logged(worker: Part, words: str, times: int = 1) -> Any:
    async def holds() -> bool:
        assert worker.runs, "the worker has ended"
        return worker.log().count(words) >= times

    return holds


async def test_a_topic_made_anew_ends_the_worker_and_the_next_one_applies_its_events(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    store = SessionStore(redis, settings)
    old = [event("click", n, "user-0", f"old-{n}", NOW + n) for n in range(50)]
    new = [event("click", n, "user-0", f"new-{n}", NOW + 100 + n) for n in range(20)]
    send_events(settings, "clicks", old)
    with Part("worker", settings, tmp_path) as worker:

        async def applied(count: int) -> bool:
            return (await store.read("user-0")).applied == count

        await eventually(lambda: applied(50), "the old topic's events are applied")
        await asyncio.to_thread(delete_topic, settings, "clicks")
        await asyncio.to_thread(ensure_topics, settings)
        # At once: the worker does not know of it yet.
        send_events(settings, "clicks", new)
        status = await asyncio.to_thread(worker.wait)
        assert status not in (0, None)
        assert "made anew" in worker.log()
        worker.start()
        await eventually(lambda: applied(70), "the new topic's events are applied")
        assert {f"new-{n}" for n in range(20)} <= set((await store.read("user-0")).item_ids)
