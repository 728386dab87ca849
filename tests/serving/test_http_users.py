"""`GET /v1/users`: some users to try things out with."""

from __future__ import annotations

from typing import Any

import httpx
from redis.asyncio import Redis
from serving_tools import check_problem, walk

from headrace.erasures import Erasure
from headrace.sessions import SessionStore
from headrace.settings import Settings


async def users(client: httpx.AsyncClient, **params: Any) -> list[tuple[str, int]]:
    answer = await client.get("/v1/users", params=params)
    assert answer.status_code == 200, answer.text
    return [(each["user_id"], each["interactions"]) for each in answer.json()["users"]]


async def test_there_are_none_before_the_first_event(client: httpx.AsyncClient) -> None:
    assert await users(client) == []


async def test_those_with_the_most_interactions_come_first(
    client: httpx.AsyncClient, sessions: SessionStore
) -> None:
    await walk(sessions, "ann", 0, 1)
    await walk(sessions, "a {brace} of 100%7D", 0, 1, 2)
    await walk(sessions, "bob", 5)
    # Hidden items are no session.
    await sessions.hide("carl", "i1", now=1.0)
    expected = [("a {brace} of 100%7D", 3), ("ann", 2), ("bob", 1)]
    assert await users(client) == expected
    assert await users(client) == expected
    own = await client.get("/v1/models/default/users")
    assert [each["user_id"] for each in own.json()["users"]] == [each for each, _ in expected]
    assert len(await users(client, limit=2)) == 2


async def test_an_erased_user_is_none_of_them(
    client: httpx.AsyncClient, sessions: SessionStore
) -> None:
    await walk(sessions, "ann", 0)
    await walk(sessions, "bob", 0)
    ids, through = {"ratings": "first"}, {"ratings": {"0": 99}}
    await sessions.erase(Erasure(user_id="ann", at=2e9, topic_ids=ids, through=through))
    assert await users(client) == [("bob", 1)]


async def test_looking_for_them_ends_among_very_many_other_keys(
    client: httpx.AsyncClient, sessions: SessionStore, redis: Redis, settings: Settings
) -> None:
    """What is found within its bound is told; it reads, and writes nothing."""
    await redis.mset({settings.key("of-something-else", str(n)): "x" for n in range(5_000)})
    await walk(sessions, "ann", 0, 1)
    keys = await redis.dbsize()
    assert await users(client) == [("ann", 2)]
    assert await redis.dbsize() == keys


async def test_a_limit_that_is_none_is_refused(client: httpx.AsyncClient) -> None:
    for limit in ("0", "101", "many"):
        answer = await client.get("/v1/users", params={"limit": limit})
        check_problem(answer, 422, "limit")
