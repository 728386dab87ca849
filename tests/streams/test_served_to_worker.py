"""A real worker and what was served: found by id, judged by events once, erased with its user."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
from impression_tools import V1, V2, fold_scores, impression
from kafka_tools import read_topic, send_events, send_raw
from parts import Part, eventually
from redis.asyncio import Redis

from headrace.erasures import Erasure
from headrace.evaluation import EvaluationStore
from headrace.events import parse_event
from headrace.impressions import Impression, ImpressionStore
from headrace.sessions import LoggedEvent
from headrace.settings import ImpressionSettings, Settings, WorkerSettings
from headrace.topics import ERASURES, EVENT_TOPICS, IMPRESSIONS, ensure_topics
from headrace.trending import TrendingStore

USERS = [f"user-{n}" for n in range(25)]
ITEMS = [f"item-{n}" for n in range(40)]


def send_lists(settings: Settings, *lists: Impression) -> None:
    rows = [((each.user_id or each.id).encode(), msgspec.json.encode(each)) for each in lists]
    send_raw(settings, IMPRESSIONS, rows)


def event(topic: str, number: int, user: str, item: str, at: float) -> dict[str, Any]:
    raw = {"event_id": f"event-{number}", "user_id": user, "item_id": item, "timestamp": at}
    return {**raw, "rating": float(number % 5 + 1)} if topic == "ratings" else raw


def read_log(settings: Settings) -> list[LoggedEvent]:
    """What the broker holds of events, read without anything of the worker's."""
    log = []
    for topic, kind in EVENT_TOPICS.items():
        for record in read_topic(settings, topic):
            parsed = parse_event(record.value, kind, received_at=record.timestamp / 1000)
            log.append(LoggedEvent(parsed, topic, "", record.partition, record.offset))
    return log


async def until_kept(store: ImpressionStore, *lists: Impression) -> None:
    async def kept() -> bool:
        return all([await store.find(each.id) == each for each in lists])

    await eventually(kept, "the lists are found")


async def test_killed_again_and_again_each_event_judges_its_list_once(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(
        settings,
        worker=WorkerSettings(group=settings.worker.group, batch_size=20),
        impressions=ImpressionSettings(per_user=1_000),
    )
    await asyncio.to_thread(ensure_topics, settings)
    rng, now = random.Random(11), time.time()
    lists = [
        impression(user, now - 400 + 100 * turn, rng.sample(ITEMS, 12),
                   version=rng.choice([V1, V2, None]), met=rng.sample(ITEMS, 4),
                   recommend_seen=rng.random() < 0.3)
        for user in USERS for turn in range(4)
    ]  # fmt: skip
    # Each record twice, as a server sends them whose acknowledgement was lost.
    await asyncio.to_thread(send_lists, settings, *lists, *lists)
    drawn: dict[str, list[dict[str, Any]]] = {topic: [] for topic in EVENT_TOPICS}
    for number in range(4_000):
        topic = rng.choice(list(EVENT_TOPICS))
        user, item = rng.choice(USERS), rng.choice(ITEMS)
        drawn[topic].append(event(topic, number, user, item, now - 450 + rng.random() * 450))
        if rng.random() < 0.05:
            drawn[topic].append(drawn[topic][-1])
    store, evaluation = ImpressionStore(redis, settings), EvaluationStore(redis, settings)
    trending = TrendingStore(redis, settings)
    with Part("worker", settings, tmp_path) as worker:
        await until_kept(store, *lists)
        reached = await trending.events_counted()
        # Beside what follows: on a quick machine the worker is done soon after the last one.
        sending = [
            asyncio.create_task(asyncio.to_thread(send_events, settings, topic, events))
            for topic, events in drawn.items()
        ]
        for _ in range(2):

            async def moved_on(reached: int = reached) -> bool:
                return await trending.events_counted() > reached + 300

            await eventually(moved_on, "the worker gets on")
            worker.end(signal.SIGKILL)
            reached = await trending.events_counted()
            assert reached < 4_000, "the worker was not in the middle"
            worker.start()
        await asyncio.gather(*sending)

        async def all_applied() -> bool:
            return await trending.events_counted() >= 4_000

        await eventually(all_applied, "all events are applied")
        assert worker.end(signal.SIGTERM) == 0
    log = await asyncio.to_thread(read_log, settings)
    wanted = fold_scores(lists, log, settings)
    assert set(wanted) == {V1, V2, "trending"}
    assert await evaluation.read(now) == wanted
    assert read_topic(settings, "dead-letters") == []


async def test_an_erased_users_lists_are_gone_and_ignored_and_later_ones_count(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    store, evaluation = ImpressionStore(redis, settings), EvaluationStore(redis, settings)
    # What is no impression is a dead letter, and stops nothing.
    send_raw(settings, IMPRESSIONS, [(b"bob", b"\xff"), (b"bob", None), (b"bob", b"{}")])
    now = time.time()
    old, bobs = impression("ann", now - 60, ITEMS[:10]), impression("bob", now - 60, ITEMS[:10])
    erasure = Erasure(user_id="ann", at=now - 30, topic_ids={}, through={})
    late, later = impression("ann", now - 31, ITEMS[:10]), impression("ann", now, ITEMS[:10])

    async def gone() -> bool:
        keys = [key async for key in redis.scan_iter(settings.key("*ann*"))]
        found = [await store.find(each.id) for each in (old, late)]
        return found == [None, None] and not [
            key for key in keys if b"impressions" in key or b"evaluation" in key
        ]

    with Part("worker", settings, tmp_path) as worker:
        send_lists(settings, old, bobs)
        await until_kept(store, old, bobs)
        # No server has emptied Redis: the worker does, on hearing of it.
        send_raw(settings, ERASURES, [(b"ann", msgspec.json.encode(erasure))])
        await eventually(gone, "the lists are erased")
        # Held back by a server until after the erasure.
        send_lists(settings, late, later)
        await until_kept(store, later)
        assert await store.find(late.id) is None
        # A worker that begins anew reads all of it once more.
        worker.end(signal.SIGKILL)
        keys = [key async for key in redis.scan_iter(settings.key("*"))]
        await redis.delete(*keys)
        worker.start()
        await until_kept(store, bobs, later)
        assert [await store.find(each.id) for each in (old, late)] == [None, None]
        send_events(settings, "clicks", [event("clicks", 1, "ann", ITEMS[0], now + 1)])

        async def judged() -> bool:
            return [score.hits for score in (await evaluation.read(now)).values()] == [1]

        await eventually(judged, "a later list is judged")
        assert worker.end(signal.SIGTERM) == 0
    letters = {(each.key, each.value) for each in read_topic(settings, "dead-letters")}
    assert letters == {(b"bob", b"\xff"), (b"bob", None), (b"bob", b"{}")}
