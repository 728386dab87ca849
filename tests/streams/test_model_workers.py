"""Workers of several models: events count for those that read their topic, and no other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from kafka_tools import read_topic, send_events, send_raw
from parts import Part, eventually
from redis.asyncio import Redis

from headrace.catalog import CatalogStore
from headrace.erasures import Erasure
from headrace.model_settings import EventTopicNames, ModelSettings
from headrace.positions import PositionStore
from headrace.sessions import SessionStore
from headrace.settings import RetrainSettings, Settings
from headrace.topic_figures import TopicsObserver
from headrace.topics import ERASURES, RETRAIN, Topics, ensure_topics, topic_ids
from headrace.trending import TrendingStore

MODELS = {"books": ModelSettings(EventTopicNames()), "films": ModelSettings()}
NOW = 1_704_060_026.0


def clicks(user_id: str, *item_ids: str) -> list[dict[str, object]]:
    return [
        {
            "event_id": f"{user_id}-{item_id}",
            "user_id": user_id,
            "item_id": item_id,
            "timestamp": NOW + at,
        }
        for at, item_id in enumerate(item_ids)
    ]


async def test_events_count_for_the_models_of_their_topic_alone(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(
        settings, models=MODELS, retrain=RetrainSettings(every_events=3)
    )
    books = settings.of_model("books")
    await asyncio.to_thread(ensure_topics, settings)
    shared_sessions, book_sessions = SessionStore(redis, settings), SessionStore(redis, books)
    with (
        Part("worker", settings, tmp_path) as worker,
        Part("worker --model books", settings, tmp_path) as of_books,
    ):
        # 1. The same user meets other items in either.
        send_events(settings, "clicks", clicks("ann", "tea", "coffee", "tea pot"))
        send_events(settings, "books-clicks", clicks("ann", "dune", "emma", "ulysses"))
        send_raw(settings, "items", [(b"dune", b'{"item_id": "dune"}')])

        async def applied() -> bool:
            shared, own = await shared_sessions.read("ann"), await book_sessions.read("ann")
            return (shared.applied, own.applied) == (3, 3)

        await eventually(applied, "both have applied their events")
        shared, own = await shared_sessions.read("ann"), await book_sessions.read("ann")
        assert shared.item_ids == ("tea", "coffee", "tea pot")
        assert own.item_ids == ("dune", "emma", "ulysses")
        assert {mark.partition("/")[0] for mark in own.marks} == {"books-clicks"}
        # Films read what the settings' model reads.
        of_films = SessionStore(redis, settings.of_model("films"))
        assert await of_films.read("ann") == shared

        # A moment after the sessions.
        async def counted() -> bool:
            of_each = (TrendingStore(redis, each) for each in (settings, books))
            return [await each.events_counted() for each in of_each] == [3, 3]

        await eventually(counted, "both have counted their events")
        trending = {item for item, _ in await TrendingStore(redis, books).top(10)}
        assert trending == {"dune", "emma", "ulysses"}

        # 2. Each model's own count fires for it; models that share their topics each retrain.
        async def asked_for() -> bool:
            records = await asyncio.to_thread(read_topic, settings, RETRAIN)
            return {record.key for record in records} == {b"default", b"films", b"books"}

        await eventually(asked_for, "a retrain event for each model")

        # 3. The catalogue is one; the worker of the settings' own model brings it.
        async def brought() -> bool:
            return await CatalogStore(redis, settings).get("dune") is not None

        await eventually(brought, "the item is there")

        async def stored() -> bool:
            return bool(await PositionStore(redis, books).read())

        await eventually(stored, "positions are stored")
        places = await PositionStore(redis, books).read()
        assert {place.topic for place in places} == {"books-clicks"}
        await eventually(lambda: level(settings), "no worker has anything left to do")

        # 4. Either forgets who was erased.
        topics = tuple(Topics(settings).all_kinds)
        ids = await asyncio.to_thread(topic_ids, settings, topics)
        erasure = Erasure(user_id="ann", at=NOW, topic_ids=ids, through={"books-clicks": {"0": 9}})
        every = {str(number): 9 for number in range(settings.topics.partitions)}
        erasure = msgspec.structs.replace(erasure, through=dict.fromkeys(topics, every))
        send_raw(settings, ERASURES, [(b"ann", msgspec.json.encode(erasure))])

        async def forgotten() -> bool:
            both = await shared_sessions.read("ann"), await book_sessions.read("ann")
            return both[0].item_ids == both[1].item_ids == ()

        await eventually(forgotten, "both have forgotten ann")
        assert worker.runs
        assert of_books.runs


async def level(settings: Settings) -> bool:
    """Whether the figures of topics know how far the workers of each model are."""

    def look() -> dict[str, int | None]:
        observer = TopicsObserver(settings)
        try:
            rows, unknown = observer.figures(
                ("clicks", "books-clicks", "items"), over_s=0.1, sleep=lambda _: None
            )
        finally:
            observer.close()
        assert not unknown
        return {row.topic: row.lag for row in rows}

    return await asyncio.to_thread(look) == {"clicks": 0, "books-clicks": 0, "items": 0}
