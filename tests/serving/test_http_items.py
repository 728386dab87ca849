"""Items come and go: a deleted one is in no answer of any server, a new one in the next answer."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from events_log import NOW, logged
from kafka_tools import delete_topic, read_topic, send_raw
from parts import OwnRedis, Part, eventually
from redis.asyncio import Redis
from serving_tools import RING, V1, V2, Serve, activate, check_problem, ring, until_live, walk

from headrace.aggregates import AggregateStore
from headrace.catalog import CatalogStore, Item, ItemChange, parse_item
from headrace.local.binaries import find_redis, redis_command
from headrace.local.ports import claim_port
from headrace.producer import Producer
from headrace.sessions import SessionStore
from headrace.settings import ServingSettings, Settings
from headrace.topics import Topics, ensure_topics
from headrace.version_store import VersionStore
from headrace.versions import Manifest
from models.retrieval import ScannIndex, load_artifact
from models.retrieval.artifact import file_digests
from models.retrieval.rules import STEPS

Versions = Callable[[str], Path]


@pytest.fixture(params=["exact", "scann"])
def version(request: pytest.FixtureRequest, add_version: Versions) -> Path:
    """The folder of a version with either index."""
    folder = add_version(V1)
    if request.param == "scann":
        index = ScannIndex.build(load_artifact(folder).item_vectors)
        (folder / "index").mkdir()
        index.save(folder / "index")
        path = folder / "manifest.json"
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        manifest = msgspec.structs.replace(manifest, files=file_digests(folder))
        path.write_bytes(msgspec.json.encode(manifest))
    return folder


@pytest.fixture
async def servers(
    settings: Settings, serve: Serve, version: Path, redis: Redis
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two servers that look for news by themselves only when they start: requests bring it."""
    await asyncio.to_thread(ensure_topics, settings)
    producer = Producer(settings)
    await VersionStore(redis, settings, producer).activate("default", V1, now=NOW, reason="a test")
    await producer.close()
    slow = msgspec.structs.replace(settings, serving=ServingSettings(follow_s=3_600.0))
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(serve(slow)) for _ in range(2)]
        for client in clients:
            await until_live(client, V1)
        yield clients


async def recommended(client: httpx.AsyncClient, **asked: Any) -> dict[str, float]:
    answer = await client.post("/v1/recommendations", json=asked)
    assert answer.status_code == 200, answer.text
    return {each["id"]: each["score"] for each in answer.json()["recommendations"]}


async def listed(client: httpx.AsyncClient, path: str) -> list[str]:
    answer = await client.get(path, params={"k": RING})
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["items"]]


INTERACTIONS = {ring(n): {"timestamp": NOW + n} for n in (1, 2, 3)}


async def lists_with(client: httpx.AsyncClient, item_id: str, neighbour: str) -> dict[str, bool]:
    """In which of the lists of a server the item stands, or has a score."""
    candidates = [item_id, neighbour]
    scores = await recommended(client, user_interactions=INTERACTIONS, candidate_ids=candidates)
    assert scores[neighbour] > 0
    return {
        "user": item_id in await recommended(client, user_id="ann", k=RING),
        "session": item_id in await recommended(client, user_interactions=INTERACTIONS, k=RING),
        "nobody": item_id in await recommended(client, user_id="nobody", k=RING),
        "candidate": scores[item_id] > 0,
        "similar": item_id in await listed(client, f"/v1/items/{neighbour}/similar"),
        "bought": item_id in await listed(client, f"/v1/items/{neighbour}/bought-together"),
        "trending": item_id in await listed(client, "/v1/trending"),
    }


async def test_a_deleted_item_is_in_no_answer_of_any_server(
    servers: list[httpx.AsyncClient], sessions: SessionStore, redis: Redis, settings: Settings
) -> None:
    here, there = servers
    await walk(sessions, "ann", 1, 2, 3)
    item, neighbour = ring(5), ring(6)
    await AggregateStore(redis, settings).apply([logged(n, "bob", item, NOW) for n in range(9)])

    for client in servers:

        async def trends(client: httpx.AsyncClient = client) -> bool:
            return item in await listed(client, "/v1/trending")

        await eventually(trends, "the item is trending")
        assert all((await lists_with(client, item, neighbour)).values())

    assert (await here.delete(f"/v1/items/{item}")).status_code == 202
    for client in (there, here):
        assert not any((await lists_with(client, item, neighbour)).values())
        for path in ("", "/similar", "/bought-together"):
            check_problem(await client.get(f"/v1/items/{item}{path}"), 404, item)

    # Whatever a client asks first after the deletion.
    for ask in (
        lambda at: recommended(there, user_id="ann", k=RING),
        lambda at: recommended(there, user_interactions=INTERACTIONS, k=RING),
        lambda at: recommended(there, user_id="nobody", k=RING),
        lambda at: listed(there, f"/v1/items/{neighbour}/similar"),
        lambda at: listed(there, f"/v1/items/{neighbour}/bought-together"),
        lambda at: listed(there, "/v1/trending"),
    ):
        assert (await here.put(f"/v1/items/{item}", json={})).status_code == 202
        await there.get("/v1/trending")
        assert item in await ask(None)
        assert (await here.delete(f"/v1/items/{item}")).status_code == 202
        assert item not in await ask(None)


async def test_what_comes_over_http_is_in_the_next_answer(
    servers: list[httpx.AsyncClient], sessions: SessionStore
) -> None:
    here, there = servers
    await walk(sessions, "ann", 1, 2, 3)
    for name in ("new", "new too"):
        path = "/v1/items" if name == "new" else f"/v1/items/{name}"
        body = {"categories": ["ring"]}
        answer = await (
            here.post(path, json={"item_id": name, **body})
            if name == "new"
            else here.put(path, json=body)
        )
        assert answer.status_code == 202
        asked = {"user_id": "ann", "k": RING + 2, "recommend_seen": True}
        assert name in await recommended(there, **asked)
        assert name in await recommended(here, **asked)
        scores = await recommended(there, user_id="ann", candidate_ids=[name])
        assert scores[name] > 0


async def test_a_deleted_item_that_is_put_in_again_is_served_again(
    servers: list[httpx.AsyncClient], sessions: SessionStore
) -> None:
    here, there = servers
    await walk(sessions, "ann", 1, 2, 3)
    item = ring(4)
    before = await recommended(there, user_id="ann", k=RING)
    for _ in range(2):
        await here.delete(f"/v1/items/{item}")
        assert item not in await recommended(there, user_id="ann", k=RING)
        await there.put(f"/v1/items/{item}", json={"categories": ["ring"]})
        assert await recommended(there, user_id="ann", k=RING) == pytest.approx(before)
        assert await recommended(here, user_id="ann", k=RING) == pytest.approx(before)


async def test_a_worker_that_comes_to_a_change_later_changes_nothing(
    client: httpx.AsyncClient, redis: Redis, settings: Settings
) -> None:
    for number in range(4):
        await client.put(f"/v1/items/i{number}", json={"title": "old"})
    await client.delete("/v1/items/i1")
    await client.put("/v1/items/i2", json={"title": "new"})
    await client.delete("/v1/items/i3")
    await client.put("/v1/items/i3", json={"title": "back"})
    # Past this server: a change that the worker alone brings.
    await asyncio.to_thread(send_raw, settings, "items", [(b"i0", None)])

    known = await asyncio.to_thread(ensure_topics, settings)
    topic_id = known[Topics(settings).name("items")].id
    records = await asyncio.to_thread(read_topic, settings, "items")
    store = CatalogStore(redis, settings)
    through, _ = await store.changes_since(0)
    applied = await store.apply(
        [
            ItemChange(
                each.key.decode(),
                parse_item(each.value) if each.value else None,
                topic_id,
                each.partition,
                each.offset,
            )
            for each in records
        ]
    )
    assert (len(records), applied) == (9, 1)
    assert list((await store.changes_since(through))[1]) == ["i0"]
    assert {item.item_id: item.title for item in await store.all()} == {"i2": "new", "i3": "back"}


async def test_changes_count_in_a_topic_made_anew_and_what_is_left_of_the_old_one_does_not(
    client: httpx.AsyncClient, redis: Redis, settings: Settings
) -> None:
    def topic() -> str:
        return ensure_topics(settings)[Topics(settings).name("items")].id

    store = CatalogStore(redis, settings)
    old = await asyncio.to_thread(topic)
    for title in ("one", "two", "three"):
        assert (await client.put("/v1/items/a", json={"title": title})).status_code == 202
    await asyncio.to_thread(delete_topic, settings, "items")
    new = await asyncio.to_thread(topic)
    assert new != old
    # Offsets begin again, below those of before.
    assert (await client.delete("/v1/items/a")).status_code == 202
    assert await store.get("a") is None
    left_in_hand = [ItemChange("a", Item(item_id="a"), old, at, 3) for at in range(4)]
    assert await store.apply(left_in_hand) == 0
    assert await store.get("a") is None
    assert (await client.put("/v1/items/a", json={"title": "back"})).status_code == 202
    assert await store.get("a") == Item(item_id="a", title="back")


@pytest.mark.brokers("embedded", "apache")
async def test_items_of_the_topic_come_and_go_without_a_training(
    servers: list[httpx.AsyncClient], settings: Settings, sessions: SessionStore, tmp_path: Path
) -> None:
    await walk(sessions, "ann", 1, 2, 3)
    new = Item(item_id="brand new", categories=("ring",))
    gone = ring(5)
    records = [(b"brand new", msgspec.json.encode(new)), (gone.encode(), None)]
    asked = {"user_id": "ann", "k": RING + 1}
    with Part("worker", settings, tmp_path):
        await asyncio.to_thread(send_raw, settings, "items", records)
        for client in servers:

            async def level(client: httpx.AsyncClient = client) -> bool:
                found = await recommended(client, **asked)
                return new.item_id in found and gone not in found

            await eventually(level, "what the topic says is what is served")
        await asyncio.to_thread(send_raw, settings, "items", [(b"brand new", None)])

        async def left() -> bool:
            return new.item_id not in await recommended(servers[1], **asked)

        await eventually(left, "the new item is gone again")


async def test_a_click_on_a_new_item_moves_the_list(
    servers: list[httpx.AsyncClient], sessions: SessionStore
) -> None:
    here, there = servers
    await here.put("/v1/items/new", json={"categories": ["ring"]})
    await walk(sessions, "ann", 1, 2)
    before = await recommended(there, user_id="ann", k=RING)
    assert "new" in before
    await sessions.apply([logged(0, "ann", "new", NOW + 500, kind="click")])
    after = await recommended(there, user_id="ann", k=RING)
    assert "new" not in after
    # Items to which no rule leads from the two that she met first: in which order they stand is
    # for the towers alone to say, so that they change places only when the click counts there.
    unruled = [ring(n) for n in range(3 + STEPS, RING + 1)]
    orders = [sorted(unruled, key=list(found).index) for found in (before, after)]
    moved = sum(was != now for was, now in zip(*orders, strict=True))
    assert moved > len(unruled) / 2
    # It is all that this user has met.
    await sessions.apply([logged(0, "bob", "new", NOW, kind="click")])
    answer = await there.post("/v1/recommendations", json={"user_id": "bob"})
    assert answer.json()["message"] is None
    assert answer.json()["model"]["version"] == V1


async def test_a_version_activated_later_does_not_bring_a_deleted_item_back(
    live: httpx.AsyncClient, add_version: Versions, sessions: SessionStore
) -> None:
    await walk(sessions, "ann", 1, 2, 3)
    item, neighbour = ring(4), ring(5)
    assert (await live.delete(f"/v1/items/{item}")).status_code == 202
    add_version(V2)
    await activate(live, V2)
    assert not any((await lists_with(live, item, neighbour)).values())
    await live.post("/v1/models/default/rollback")
    await until_live(live, V1)
    assert not any((await lists_with(live, item, neighbour)).values())


async def test_a_rollback_needs_no_files_and_knows_what_has_changed_since(
    live: httpx.AsyncClient, add_version: Versions, sessions: SessionStore, settings: Settings
) -> None:
    await walk(sessions, "ann", 1, 2, 3)
    add_version(V2)
    await activate(live, V2)
    item = ring(4)
    assert (await live.delete(f"/v1/items/{item}")).status_code == 202
    assert (await live.put("/v1/items/new", json={"categories": ["ring"]})).status_code == 202
    shutil.rmtree(Path(settings.artifacts) / "default" / V1)
    back = await live.post("/v1/models/default/rollback")
    assert (back.status_code, back.json().get("version")) == (200, V1)
    await until_live(live, V1)
    found = await recommended(live, user_id="ann", k=RING)
    assert "new" in found
    assert item not in found


async def test_without_a_model_a_deleted_item_is_not_trending(
    client: httpx.AsyncClient, redis: Redis, settings: Settings
) -> None:
    events = [logged(n, "bob", f"i{n % 3}", NOW) for n in range(9)]
    await AggregateStore(redis, settings).apply(events)

    async def trends() -> bool:
        return len(await listed(client, "/v1/trending")) == 3

    await eventually(trends, "there are trending items")
    assert (await client.delete("/v1/items/i1")).status_code == 202
    assert sorted(await listed(client, "/v1/trending")) == ["i0", "i2"]
    assert sorted(await recommended(client, user_id="ann")) == ["i0", "i2"]
    await client.put("/v1/items/i1", json={})

    async def back() -> bool:
        return "i1" in await listed(client, "/v1/trending")

    await eventually(back, "the item is trending again")


async def test_while_redis_is_away_a_deletion_is_not_said_to_be_done(
    settings: Settings, serve: Serve, add_version: Versions, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    add_version(V1)
    port = claim_port(0, host="127.0.0.1", use="a test's Redis", option="")
    command = redis_command(find_redis(os.environ), port, tmp_path)
    with OwnRedis(command, port, tmp_path) as server:
        settings = msgspec.structs.replace(settings, redis=server.url)
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
                answer = await client.delete(f"/v1/items/{ring(4)}")
                check_problem(answer, 503, "Delete it again")
                assert int(answer.headers["retry-after"]) > 0
                # Adding can wait for a worker: Kafka has it.
                assert (await client.put("/v1/items/new", json={})).status_code == 202
                come_back()

                async def done() -> bool:
                    return (await client.delete(f"/v1/items/{ring(4)}")).status_code == 202

                await eventually(done, "the deletion is done")
                found = await recommended(client, user_interactions=INTERACTIONS, k=RING)
                assert ring(4) not in found
                await client.put(f"/v1/items/{ring(4)}", json={"categories": ["ring"]})


async def test_bought_together(live: httpx.AsyncClient) -> None:
    # Walker n meets items n to n + 11, and the even ones buy them, within a day: item 20 is in the
    # baskets of walkers 10, 12, … 20. All six hold item 21; five hold 18, 19, 22 and 23.
    answer = (await live.get(f"/v1/items/{ring(20)}/bought-together", params={"k": 3})).json()
    assert [each["id"] for each in answer["items"]] == [ring(21), ring(18), ring(19)]
    assert [each["score"] for each in answer["items"]] == pytest.approx([1, 5 / 6, 5 / 6])
    assert answer["message"] is None
    check_problem(await live.get("/v1/items/unheard/bought-together"), 404, "'unheard'")
    await live.put("/v1/items/cold", json={})
    answer = (await live.get("/v1/items/cold/bought-together")).json()
    assert answer == {
        "items": [],
        "message": "Nothing is known to be bought together with this item.",
    }


async def test_without_a_model_nothing_is_known_to_be_bought_together(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/v1/items/any/bought-together")
    assert answer.json() == {"items": [], "message": "There is no model yet."}
    check_problem(await client.get("/v1/items/any/bought-together?k=0"), 422, "k: ")
