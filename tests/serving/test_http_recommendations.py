"""Recommendations over HTTP: they know the last event, and there is an answer whatever is away."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from events_log import NOW, logged
from parts import OwnRedis, eventually
from redis.asyncio import Redis
from serving_tools import (
    RING,
    V1,
    V2,
    V3,
    Serve,
    activate,
    check_problem,
    ring,
    until_live,
    walk,
)

from headrace.aggregates import AggregateStore
from headrace.catalog import CatalogStore, Item, ItemChange
from headrace.local.binaries import find_redis, redis_command
from headrace.local.ports import claim_port
from headrace.sessions import SessionStore
from headrace.settings import ServingSettings, SessionSettings, Settings
from serving.messages import NO_CANDIDATES, NO_CATALOGUE, NO_SESSION
from serving.routes.recommendations import TRENDING_AWAY


async def recommend(client: httpx.AsyncClient, **asked: Any) -> dict[str, Any]:
    answer = await client.post("/v1/recommendations", json=asked)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    scores = [each["score"] for each in body["recommendations"]]
    assert all(isinstance(score, float | int) and 0 <= score <= 1 for score in scores)
    return body


def ids(answer: dict[str, Any]) -> list[str]:
    return [each["id"] for each in answer["recommendations"]]


async def test_without_a_model_trending_items_with_a_message(
    client: httpx.AsyncClient, redis: Redis, settings: Settings, sessions: SessionStore
) -> None:
    answer = await recommend(client, user_id="ann")
    assert (ids(answer), answer["model"]) == ([], None)
    assert "no items" in answer["message"]
    events = [logged(n, "bob", f"i{min(n, 3)}", NOW + n) for n in range(8)]
    await AggregateStore(redis, settings).apply(events)
    await walk(sessions, "ann", 0)
    await sessions.apply([logged(1, "ann", "i3")])

    async def trending_is_read() -> bool:
        return bool(ids(await recommend(client, user_id="ann")))

    await eventually(trending_is_read, "trending items are read")
    answer = await recommend(client, user_id="ann")
    assert "no model yet" in answer["message"]
    # Not what she has met.
    assert ids(answer) == ["i2", "i1", "i0"]
    assert ids(await recommend(client, user_id="ann", k=1, recommend_seen=True)) == ["i3"]
    assert answer["session"]["marks"] == {"ratings/0": 1}
    shown = (await client.get("/v1/trending", params={"k": 2})).json()
    assert [each["id"] for each in shown["items"]] == ["i3", "i2"]
    assert shown["items"][0]["score"] == pytest.approx(5 / 8, abs=0.01)
    similar = (await client.get("/v1/items/i3/similar")).json()
    assert (similar["items"], similar["message"]) == ([], "There is no model yet.")


async def test_before_a_model_what_was_popular_follows_the_few_that_are_trending(
    client: httpx.AsyncClient, redis: Redis, settings: Settings
) -> None:
    # Years ago one item was met, another one twice and a third four times; today a fourth.
    old = [logged(n, f"u{n}", item, NOW) for n, item in enumerate("abbcccc")]
    today = NOW + 10 * settings.trending.window_s
    await AggregateStore(redis, settings).apply([*old, logged(7, "ann", "new", today)])
    for item_id in ("0", "b", "z"):
        assert (await client.put(f"/v1/items/{item_id}", json={})).status_code == 202

    async def catalogue_is_read() -> bool:
        return len(ids(await recommend(client, user_id="nobody"))) == 6

    await eventually(catalogue_is_read, "the catalogue is read")
    answer = await recommend(client, user_id="nobody")
    assert ids(answer) == ["new", "c", "b", "a", "0", "z"]
    assert [each["score"] for each in answer["recommendations"]] == [1, 0, 0, 0, 0, 0]
    shown = (await client.get("/v1/trending")).json()
    assert [each["id"] for each in shown["items"]] == ["new"]


async def test_recommendations_know_the_last_event(
    live: httpx.AsyncClient, sessions: SessionStore
) -> None:
    right = 0
    for start in range(RING):
        user = f"user-{start}"
        await walk(sessions, user, start, start + 1)
        before = await recommend(live, user_id=user, k=3)
        await walk(sessions, user, start + 2, first=2)
        after = await recommend(live, user_id=user, k=3)
        assert after["session"]["applied"] == before["session"]["applied"] + 1 == 3
        assert after["session"]["marks"] == {"ratings/0": 2}
        assert ids(before) != ids(after)
        assert not set(ids(after)) & {ring(start), ring(start + 1), ring(start + 2)}
        right += (ids(before)[0], ids(after)[0]) == (ring(start + 2), ring(start + 3))
        assert after["model"] == {"id": "default", "version": V1}
        assert after["message"] is None
        assert after["session"]["interactions"] == 3
    assert right > RING * 0.6


async def test_a_session_in_the_request_gives_what_the_users_own_gives(
    live: httpx.AsyncClient, sessions: SessionStore
) -> None:
    await walk(sessions, "ann", 3, 4, 5)
    held = (await live.get("/v1/users/ann/interactions")).json()
    assert held["applied"] == 3
    by_user = await recommend(live, user_id="ann")
    by_session = await recommend(live, user_interactions=held["interactions"])
    assert by_session["recommendations"] == by_user["recommendations"]
    assert by_user["id"] != by_session["id"]


async def test_an_unknown_user_gets_popular_items_and_leaves_no_trace(
    live: httpx.AsyncClient, redis: Redis, settings: Settings
) -> None:
    before = sorted([key async for key in redis.scan_iter(f"{settings.namespace}:*")])
    for _ in range(2):
        answer = await recommend(live, user_id="nobody", k=5)
        assert len(ids(answer)) == 5
        assert "Nothing is known" in answer["message"]
        assert answer["session"] == {
            "interactions": 0,
            "applied": 0,
            "updated_at": None,
            "marks": {},
        }
    assert sorted([key async for key in redis.scan_iter(f"{settings.namespace}:*")]) == before


async def test_a_session_of_unknown_items_gets_popular_ones(
    live: httpx.AsyncClient, sessions: SessionStore
) -> None:
    await sessions.apply([logged(0, "ann", "unheard of")])
    answer = await recommend(live, user_id="ann")
    assert len(ids(answer)) == 10
    assert "knows none" in answer["message"]


async def test_candidates_are_ranked_and_unknown_ones_score_nothing(
    live: httpx.AsyncClient, sessions: SessionStore
) -> None:
    await walk(sessions, "ann", 1, 2, 3)
    candidates = ["unheard of", ring(9), ring(2), ring(4), ring(4), "unheard of too"]
    answer = await recommend(live, user_id="ann", candidate_ids=candidates)
    assert set(ids(answer)[:2]) == {ring(4), ring(9)}
    assert ids(answer)[2:] == ["unheard of", "unheard of too"]
    assert [each["score"] for each in answer["recommendations"]][2:] == [0, 0]
    assert ids(answer)[0] == ring(4)
    assert ids(await recommend(live, user_id="ann", candidate_ids=candidates, k=1)) == [ring(4)]
    seen = await recommend(live, user_id="ann", candidate_ids=candidates, recommend_seen=True)
    assert ring(2) in ids(seen)
    unknown = await recommend(live, user_id="nobody", candidate_ids=candidates, k=2)
    assert ids(unknown) == ["unheard of", ring(9)]
    assert unknown["message"] == "Nothing is known of this user yet: scores are 0."
    for user_id, limits in (
        ("ann", {"candidate_ids": []}),
        ("ann", {"candidate_ids": [ring(1), ring(2)]}),
        ("ann", {"candidate_ids": [ring(9)], "exclude_ids": [ring(9)]}),
        ("nobody", {"candidate_ids": [ring(9)], "filter": {"categories": {"any": ["none"]}}}),
    ):
        nothing = await recommend(live, user_id=user_id, **limits)
        assert (ids(nothing), nothing["message"]) == ([], NO_CANDIDATES)


async def test_seen_items_only_when_asked_for(
    live: httpx.AsyncClient, sessions: SessionStore
) -> None:
    await walk(sessions, "ann", *range(RING - 3))
    answer = await recommend(live, user_id="ann", k=10)
    assert sorted(ids(answer)) == sorted(ring(n) for n in range(RING - 3, RING))
    assert "fewer items" in answer["message"]
    answer = await recommend(live, user_id="ann", k=RING, recommend_seen=True)
    assert len(ids(answer)) == len(set(ids(answer))) == RING


async def test_past_the_dictionarys_limit_seen_items_are_still_known(
    settings: Settings, serve: Serve, live: httpx.AsyncClient, redis: Redis
) -> None:
    small = msgspec.structs.replace(settings, sessions=SessionSettings(limit=3))
    await walk(SessionStore(redis, small), "ann", *range(12))
    async with serve(small) as client:
        await until_live(client, V1)
        met = {ring(n) for n in range(12)}
        answer = await recommend(client, user_id="ann", k=RING - 12)
        assert set(ids(answer)) == {ring(n) for n in range(RING)} - met
        assert answer["session"]["interactions"] == 3
        candidates = [ring(2), ring(13)]
        ranked = await recommend(client, user_id="ann", candidate_ids=candidates)
        assert ids(ranked) == [ring(13)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "user_id"),
        ({"user_id": "u", "user_interactions": {}}, "user_id"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "x" * 257}, "user_id"),
        ({"user_id": 5}, "user_id"),
        ({"user_id": "u", "k": 0}, "k"),
        ({"user_id": "u", "k": 501}, "k"),
        ({"user_id": "u", "k": "ten"}, "k"),
        ({"user_id": "u", "candidate_ids": [""]}, "candidate_ids[0]"),
        ({"user_id": "u", "candidate_ids": ["i"] * 10_001}, "candidate_ids"),
        ({"user_interactions": {"i": {}}}, 'user_interactions["i"].timestamp'),
        ({"user_interactions": {"i": {"timestamp": -1}}}, 'user_interactions["i"].timestamp'),
        (
            {"user_interactions": {"i": {"timestamp": 1, "rating": 1e300}}},
            'user_interactions["i"].rating',
        ),
        (
            {"user_interactions": {str(n): {"timestamp": 1} for n in range(1_001)}},
            "user_interactions",
        ),
    ],
    ids=range(14),
)
async def test_a_wrong_request_is_told_which_field(
    client: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    problem = check_problem(await client.post("/v1/recommendations", json=body), 422)
    assert problem["errors"][0]["field"] == field


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"[" * 50_000])
async def test_a_request_that_is_not_json_is_a_problem(
    client: httpx.AsyncClient, content: bytes
) -> None:
    check_problem(await client.post("/v1/recommendations", content=content), 422)


async def test_as_many_as_asked_for(live: httpx.AsyncClient, sessions: SessionStore) -> None:
    await walk(sessions, "ann", 0)
    for k in (1, 7, 500):
        answer = await recommend(live, user_id="ann", k=k)
        assert len(ids(answer)) == min(k, RING - 1)
        scores = [each["score"] for each in answer["recommendations"]]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("k", ["0", "501", "-1", "x", "", "1e1", "٣", "000500999999999999"])
async def test_a_wrong_k_in_the_path_is_a_problem(live: httpx.AsyncClient, k: str) -> None:
    for path in ("/v1/trending", f"/v1/items/{ring(1)}/similar"):
        problem = check_problem(await live.get(path, params={"k": k}), 422, "k: ")
        assert problem["errors"][0]["field"] == "k"


async def test_odd_timestamps_and_ratings_still_give_scores(live: httpx.AsyncClient) -> None:
    interactions = {
        ring(0): {"timestamp": 0},
        ring(1): {"timestamp": 1e308, "rating": -1_000},
        ring(2): {"timestamp": 5e-324, "event": "click"},
        ring(3): {"timestamp": 1e308, "rating": 1_000, "event": "purchase"},
    }
    assert len(ids(await recommend(live, user_interactions=interactions))) == 10


async def test_similar_items(live: httpx.AsyncClient) -> None:
    answer = (await live.get(f"/v1/items/{ring(4)}/similar", params={"k": 3})).json()
    assert len(answer["items"]) == 3
    assert ring(4) not in [each["id"] for each in answer["items"]]
    check_problem(await live.get("/v1/items/unheard/similar"), 404, "'unheard'")


async def test_versions_are_swapped_under_load_and_rolled_back(
    live: httpx.AsyncClient, sessions: SessionStore, add_version: Callable[[str], Path]
) -> None:
    await walk(sessions, "ann", 1, 2, 3)
    add_version(V2)
    stop = asyncio.Event()

    async def version_now() -> str:
        answer = await recommend(live, user_id="ann")
        assert len(ids(answer)) == 10
        assert answer["message"] is None
        version: str = answer["model"]["version"]
        return version

    async def ask() -> None:
        while not stop.is_set():
            # One asked before a swap may be answered after it.
            assert await version_now() in {V1, V2}

    asking = [asyncio.create_task(ask()) for _ in range(4)]
    assert await version_now() == V1
    await activate(live, V2)
    assert await version_now() == V2
    back = await live.post("/v1/models/default/rollback")
    assert back.json()["version"] == V1
    await until_live(live, V1)
    assert await version_now() == V1
    stop.set()
    await asyncio.gather(*asking)
    shown = (await live.get("/v1/models/default/versions")).json()["versions"]
    assert [(each["version"], each["live"]) for each in shown] == [(V2, False), (V1, True)]
    [model] = (await live.get("/v1/models")).json()["models"]
    assert (model["id"], model["live"]["version"]) == ("default", V1)


async def test_a_damaged_version_is_refused_and_the_old_one_goes_on(
    live: httpx.AsyncClient,
    add_version: Callable[[str], Path],
    redis: Redis,
    settings: Settings,
) -> None:
    damaged = add_version(V2) / "item_vectors.npy"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1] + b"\x00")
    path = f"/v1/models/default/versions/{V2}/activate"
    check_problem(await live.post(path), 409, "item_vectors.npy")
    # And when it is put live past that check, by a trainer, say.
    from headrace.producer import Producer
    from headrace.version_store import VersionStore

    producer = Producer(settings)
    store = VersionStore(redis, settings, producer)
    await store.activate("default", V2, now=NOW, reason="a test")
    add_version(V3)
    answer = await recommend(live, user_interactions={ring(1): {"timestamp": 1}})
    assert answer["model"]["version"] == V1
    await asyncio.sleep(4 * settings.serving.follow_s)
    answer = await recommend(live, user_interactions={ring(1): {"timestamp": 1}})
    assert answer["model"]["version"] == V1
    # Mended and activated again it is taken up.
    damaged.write_bytes(whole)
    await activate(live, V2)
    await activate(live, V3)
    await producer.close()


async def test_what_cannot_be_activated_is_a_problem(live: httpx.AsyncClient) -> None:
    check_problem(await live.post(f"/v1/models/default/versions/{V2}/activate"), 404, V2)
    check_problem(await live.post("/v1/models/default/versions/..%2F..%2Fetc/activate"), 404)
    check_problem(await live.post("/v1/models/Not an id/rollback"), 422, "model_id")
    check_problem(await live.post("/v1/models/default/rollback"), 409, "no other version")


async def test_items_follow_the_catalogue(
    live: httpx.AsyncClient, redis: Redis, settings: Settings, sessions: SessionStore
) -> None:
    catalog = CatalogStore(redis, settings)
    await walk(sessions, "ann", 1, 2, 3)
    first = ids(await recommend(live, user_id="ann"))[0]
    await catalog.apply([ItemChange(first, None, "t", 0, 0)])

    async def gone() -> bool:
        return first not in ids(await recommend(live, user_id="ann", k=RING))

    await eventually(gone, "the deleted item is not recommended any more")
    deleted = await recommend(live, user_id="ann", candidate_ids=[first])
    assert deleted["recommendations"][0]["score"] == 0
    assert first not in ids(await recommend(live, user_id="nobody", k=RING))

    new = Item(item_id="brand new", categories=("ring",), title="New")
    await catalog.apply([ItemChange("brand new", new, "t", 0, 1)])

    async def there() -> bool:
        answer = await recommend(live, user_id="ann", k=RING)
        return {"brand new": True} in [
            {each["id"]: each.get("cold")} for each in answer["recommendations"]
        ]

    await eventually(there, "the new item is recommended, as a cold one")
    # A version that is taken up later is level with the catalogue as well.
    await activate_copy(live, settings)
    assert await there()
    assert await gone()


async def activate_copy(client: httpx.AsyncClient, settings: Settings) -> None:
    import shutil

    folder = Path(settings.artifacts) / "default"
    shutil.copytree(folder / V1, folder / V2)
    manifest = folder / V2 / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(V1.encode(), V2.encode()))
    await activate(client, V2)


async def test_while_redis_is_away_there_are_answers(
    settings: Settings, serve: Serve, add_version: Callable[[str], Path], tmp_path: Path
) -> None:
    from headrace.topics import ensure_topics

    await asyncio.to_thread(ensure_topics, settings)
    add_version(V1)
    port = claim_port(0, host="127.0.0.1", use="a test's Redis", option="")
    command = redis_command(find_redis(os.environ), port, tmp_path)
    with OwnRedis(command, port, tmp_path) as server:
        settings = msgspec.structs.replace(
            settings, redis=server.url, serving=ServingSettings(follow_s=0.1)
        )
        async with serve(settings) as client:
            await activate(client, V1)
            for leave, come_back in (
                (server.stop, server.start),
                (
                    lambda: server.signal(signal.SIGSTOP),
                    lambda: server.signal(signal.SIGCONT),
                ),
            ):
                leave()
                answer = await recommend(client, user_id="ann")
                assert len(ids(answer)) == 10
                assert "store is away" in answer["message"]
                ranked = await recommend(client, user_id="ann", candidate_ids=["a"])
                assert "store is away" in ranked["message"]
                own = await recommend(client, user_interactions={ring(1): {"timestamp": 1}})
                assert (own["message"], own["model"]["version"]) == (None, V1)
                held = await client.get("/v1/users/ann/interactions")
                check_problem(held, 503, "session store")
                assert int(held.headers["retry-after"]) > 0
                ready = await client.get("/readyz")
                assert (ready.status_code, ready.json()["redis"]) == (503, False)
                come_back()

                async def ready_again() -> bool:
                    return (await client.get("/readyz")).status_code == 200

                await eventually(ready_again, "the server is ready again")
                assert "Nothing is known" in (await recommend(client, user_id="ann"))["message"]
            assert (await client.delete(f"/v1/items/{ring(2)}")).status_code == 202
        # One that starts meanwhile makes do with what was live last, and is level again after.
        server.stop()
        # Keys in Redis it would not know.
        settings = msgspec.structs.replace(settings, api_key="own")
        key = {"Authorization": "Bearer own"}
        bare = msgspec.structs.replace(settings, artifacts=str(tmp_path / "none"))
        async with serve(bare) as client:
            client.headers.update(key)
            for asked in ({"user_id": "ann"}, {"user_interactions": {}}):
                answer = await recommend(client, **asked)
                assert (ids(answer), answer["message"]) == ([], NO_CATALOGUE)
            for query in ("", "?category=ring"):
                trending = (await client.get(f"/v1/trending{query}")).json()
                assert trending == {"items": [], "message": TRENDING_AWAY}
        async with serve(settings) as client:
            client.headers.update(key)
            await until_live(client, V1)
            assert (await client.get("/readyz")).status_code == 503
            answer = await recommend(client, user_id="ann")
            assert (len(ids(answer)), answer["message"]) == (10, NO_SESSION)
            own = await recommend(client, user_interactions={ring(1): {"timestamp": 1}})
            assert (own["message"], own["model"]["version"]) == (None, V1)
            assert ids(own)[0] == ring(2)
            server.start()
            await eventually(ready_again, "the server is ready")
            own = await recommend(client, user_interactions={ring(1): {"timestamp": 1}})
            assert own["model"]["version"] == V1
            assert ring(2) not in ids(own)


async def test_what_a_request_has_met_beyond_the_session_is_left_out_too(
    live: httpx.AsyncClient, settings: Settings, serve: Serve
) -> None:
    small = msgspec.structs.replace(settings, sessions=SessionSettings(limit=3))
    interactions = {ring(n): {"timestamp": NOW + n} for n in range(8)}
    asked = {"user_interactions": interactions, "k": RING}
    async with serve(small) as client:
        await until_live(client, V1)
        answer = await recommend(client, **asked)
        assert answer["session"]["interactions"] == 3
        assert set(ids(answer)) == {ring(n) for n in range(8, RING)}
        candidates = [ring(n) for n in (0, 7, 9)]
        assert ids(await recommend(client, **asked, candidate_ids=candidates)) == [ring(9)]
        seen = await recommend(client, **asked, recommend_seen=True)
        assert len(ids(seen)) == RING
