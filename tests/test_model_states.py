"""The states of several models: each is rebuilt and promoted by itself; a backup holds all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from kafka_tools import send_events
from redis.asyncio import Redis
from state_tools import fails, hash_in, succeeds

from headrace.model_settings import EventTopicNames, ModelSettings
from headrace.sessions import Session, SessionStore
from headrace.settings import Settings
from headrace.topics import ensure_topics

NOW = 1_704_060_026.0


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a model that has topics of its own."""
    return msgspec.structs.replace(settings, models={"books": ModelSettings(EventTopicNames())})


def clicks(count: int, prefix: str) -> list[dict[str, object]]:
    return [
        {
            "event_id": f"{prefix}-{at}",
            "user_id": f"user-{at % 5}",
            "item_id": f"{prefix}-{at}",
            "timestamp": NOW + at,
        }
        for at in range(count)
    ]


async def delete_all(redis: Redis, settings: Settings) -> None:
    async for key in redis.scan_iter(settings.key("*")):
        await redis.delete(key)


async def test_a_shadow_of_another_model_in_the_same_namespace_stays(
    settings: Settings, redis: Redis
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    send_events(settings, "clicks", clicks(20, "tea"))
    send_events(settings, "books-clicks", clicks(30, "dune"))
    shadow = f"{settings.namespace}-shadow"
    of_books = ("state-hash", shadow, "--model", "books")
    await succeeds(settings, "replay", "--into", shadow)
    books = hash_in(await succeeds(settings, "replay", "--into", shadow, "--model", "books"))
    await succeeds(settings, "replay", "--into", shadow, "--anew")
    assert hash_in(await succeeds(settings, *of_books)) == books
    await succeeds(settings, "promote", shadow)
    assert hash_in(await succeeds(settings, *of_books)) == books


async def test_a_model_is_rebuilt_by_itself_and_all_are_backed_up_together(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    shared, books = SessionStore(redis, settings), SessionStore(redis, settings.of_model("books"))
    send_events(settings, "clicks", clicks(20, "tea"))
    send_events(settings, "books-clicks", clicks(30, "dune"))

    # 1. A shadow of either in one namespace: what one promotes the other does not see.
    shadow = f"{settings.namespace}-shadow"
    rebuilt = hash_in(await succeeds(settings, "replay", "--into", shadow, "--model", "books"))
    assert "There is no shadow" in await fails(settings, "promote", shadow)
    await succeeds(settings, "promote", shadow, "--model", "books")
    assert (await books.read("user-0")).applied == 6
    assert await shared.read("user-0") == Session()
    assert "the digest of nothing" in await fails(settings, "state-hash")

    # 2. Topics of another model are none of this one's.
    told = await fails(settings, "replay", "--topics", "books-clicks", "--dry-run")
    assert "no topic of the model's events; there are clicks" in told
    assert "no model 'cars'" in await fails(settings, "replay", "--model", "cars")

    # 3. The other one, with its own log.
    await succeeds(settings, "replay", "--into", shadow)
    await succeeds(settings, "promote", shadow)
    assert (await shared.read("user-0")).applied == 4
    assert (await books.read("user-0")).applied == 6

    # 4. One backup holds both.
    file = tmp_path / "redis.backup"
    await succeeds(settings, "backup", str(file))
    before = [await shared.read("user-1"), await books.read("user-1")]
    await delete_all(redis, settings)
    await succeeds(settings, "restore", str(file))
    assert [await shared.read("user-1"), await books.read("user-1")] == before
    of_books = await succeeds(settings, "state-hash", "--model", "books")
    assert hash_in(of_books) == rebuilt
    assert "is not empty" in await fails(settings, "restore", str(file))
    await succeeds(settings, "restore", str(file), "--replace")
    assert [await shared.read("user-1"), await books.read("user-1")] == before
