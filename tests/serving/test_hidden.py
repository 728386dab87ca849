"""What a user has hidden is in no list of that user's, until it is unhidden."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from events_log import NOW, logged
from parts import eventually
from redis.asyncio import Redis
from serving_tools import RING, check_problem, ring, walk

from headrace.aggregates import AggregateStore
from headrace.erasures import Erasure
from headrace.sessions import MAX_HIDDEN, SessionStore
from headrace.settings import Settings
from headrace.state import scan_state


async def recommend(client: httpx.AsyncClient, **asked: Any) -> list[str]:
    answer = await client.post("/v1/recommendations", json=asked)
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["recommendations"]]


async def hide(client: httpx.AsyncClient, user_id: str, *item_ids: str) -> None:
    for item_id in item_ids:
        answer = await client.put(f"/v1/users/{user_id}/hidden/{item_id}")
        assert answer.status_code == 204, answer.text


@pytest.mark.parametrize("recommend_seen", [False, True])
async def test_a_hidden_item_is_not_recommended_until_it_is_unhidden(
    live: httpx.AsyncClient, sessions: SessionStore, recommend_seen: bool
) -> None:
    asked = {"user_id": "ann", "k": 5, "recommend_seen": recommend_seen}
    await walk(sessions, "ann", 3, 4, 5)
    await walk(sessions, "bob", 3, 4, 5)
    before = await recommend(live, **asked)
    await hide(live, "ann", *before[:2])
    after = await recommend(live, **asked)
    assert len(after) == 5
    assert not set(after) & set(before[:2])
    assert await recommend(live, **{**asked, "user_id": "bob"}) == before
    candidates = [*before, ring(20)]
    ranked = await recommend(live, **asked, candidate_ids=candidates)
    assert sorted(ranked) == sorted(candidates[2:])
    for item_id in before[:2]:
        assert (await live.delete(f"/v1/users/ann/hidden/{item_id}")).status_code == 204
    assert await recommend(live, **asked) == before


async def test_trending_items_that_stand_in_hold_no_hidden_one(
    client: httpx.AsyncClient, redis: Redis, settings: Settings
) -> None:
    events = [logged(n, "bob", f"i{min(n, 3)}", NOW + n) for n in range(8)]
    await AggregateStore(redis, settings).apply(events)

    async def trending_is_read() -> bool:
        return bool(await recommend(client, user_id="ann"))

    await eventually(trending_is_read, "trending items are read")
    assert await recommend(client, user_id="ann") == ["i3", "i2", "i1", "i0"]
    await hide(client, "ann", "i3", "i1")
    assert await recommend(client, user_id="ann") == ["i2", "i0"]


async def test_all_of_a_full_sessions_items_can_be_hidden(
    live: httpx.AsyncClient, sessions: SessionStore
) -> None:
    await walk(sessions, "ann", 0)
    await hide(live, "ann", *(ring(number) for number in range(1, RING - 2)))
    assert set(await recommend(live, user_id="ann")) == {ring(RING - 2), ring(RING - 1)}


async def test_what_is_hidden_can_be_listed(
    client: httpx.AsyncClient, sessions: SessionStore
) -> None:
    assert (await client.get("/v1/users/ann/hidden")).json() == {"user_id": "ann", "items": {}}
    await hide(client, "ann", "b", "a%2Fc", "b")
    hidden = (await client.get("/v1/users/ann/hidden")).json()["items"]
    assert list(hidden) == ["b", "a/c"]
    assert all(at > NOW for at in hidden.values())
    # It was hidden when it was hidden first.
    assert await sessions.hide("ann", "b", now=9e9) is False
    assert (await client.get("/v1/users/ann/hidden")).json()["items"] == hidden
    assert (await client.delete("/v1/users/ann/hidden/nothing")).status_code == 204


async def test_it_outlives_the_session_and_goes_with_the_user(
    client: httpx.AsyncClient, redis: Redis, settings: Settings, sessions: SessionStore
) -> None:
    await walk(sessions, "ann", 0)
    await sessions.hide("ann", "old", now=NOW)
    await sessions.hide("ann", "new", now=NOW + 10)
    [key] = [key async for key in redis.scan_iter(f"{settings.namespace}:hidden:{{ann}}")]
    assert await redis.ttl(key) == -1
    erasure = Erasure(user_id="ann", at=NOW + 5, topic_ids={}, through={})
    await sessions.erase(erasure)
    assert list(await sessions.hidden("ann")) == ["new"]
    # Rebuilding the state, as `headrace promote` does, leaves it: the log does not tell of it.
    assert not [key async for keys in scan_state(redis, settings) for key in keys if b"hid" in key]


async def test_a_user_may_hide_so_many_items_and_no_more(
    client: httpx.AsyncClient, redis: Redis, settings: Settings, sessions: SessionStore
) -> None:
    await hide(client, "ann", "a")
    [key] = [key async for key in redis.scan_iter(f"{settings.namespace}:hidden:{{ann}}")]
    await redis.zadd(key, {f"i{n}": NOW + n for n in range(MAX_HIDDEN - 1)})
    check_problem(await client.put("/v1/users/ann/hidden/b"), 409, "unhide some")
    await hide(client, "ann", "a")
    assert (await client.delete("/v1/users/ann/hidden/a")).status_code == 204
    await hide(client, "ann", "b")
    assert len(await sessions.hidden("ann")) == MAX_HIDDEN
