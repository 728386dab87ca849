"""Several models behind one server: each answers for itself, and what is shared is one."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from events_log import NOW, logged
from kafka_tools import read_topic
from parts import Part, eventually
from redis.asyncio import Redis
from serving_tools import V1, V2, V3, Serve, check_problem, ring

from headrace.aggregates import AggregateStore
from headrace.impressions import parse_impression
from headrace.model_settings import EventTopicNames, ModelSettings
from headrace.sessions import LoggedEvent, SessionStore
from headrace.settings import ServingSettings, Settings
from headrace.topics import IMPRESSIONS, ensure_topics, topic_ids
from headrace.versions import Manifest

MODELS = {"books": ModelSettings(EventTopicNames()), "films": ModelSettings()}
VERSIONS = {"default": V1, "books": V2, "films": V3}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With two models more: one with topics of its own, one that shares those of the first."""
    return msgspec.structs.replace(
        settings, models=MODELS, serving=ServingSettings(trending_s=0.001)
    )


@pytest.fixture
async def client(settings: Settings, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    await asyncio.to_thread(ensure_topics, settings)
    async with serve(settings) as client:
        yield client


def of_books(event: LoggedEvent, topic_id: str = "first") -> LoggedEvent:
    return msgspec.structs.replace(event, topic=f"books-{event.topic}", topic_id=topic_id)


async def all_live(client: httpx.AsyncClient, trained: Path, settings: Settings) -> None:
    """Put a version live of each model, and wait until the server has them."""
    for model_id, version in VERSIONS.items():
        folder = Path(settings.artifacts) / model_id / version
        shutil.copytree(trained, folder)
        path = folder / "manifest.json"
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        own = msgspec.structs.replace(manifest, model_id=model_id, version=version)
        path.write_bytes(msgspec.json.encode(own))
        answer = await client.post(f"/v1/models/{model_id}/versions/{version}/activate")
        assert answer.status_code == 200, answer.text

    async def served() -> bool:
        told = (await client.get("/metrics")).text
        return all(
            f'headrace_live_model_info{{model="{model_id}",version="{version}"}}' in told
            for model_id, version in VERSIONS.items()
        )

    await eventually(served, "each model's version is live")


async def test_each_endpoint_answers_by_its_own_model(
    client: httpx.AsyncClient, trained: Path, settings: Settings, redis: Redis
) -> None:
    await all_live(client, trained, settings)
    walk = [logged(at, "ann", ring(at), NOW + 60.0 * at, rating=5.0) for at in range(3)]
    other = [logged(at, "ann", ring(20 + at), NOW + 60.0 * at, rating=5.0) for at in range(3)]
    await SessionStore(redis, settings).apply(walk)
    await SessionStore(redis, settings.of_model("books")).apply([of_books(each) for each in other])
    best = {"default": ring(3), "films": ring(3), "books": ring(23)}
    for model_id, item_id in best.items():
        path = f"/v1/models/{model_id}/recommendations"
        answer = (await client.post(path, json={"user_id": "ann", "k": 1})).json()
        assert answer["model"] == {"id": model_id, "version": VERSIONS[model_id]}
        assert [row["id"] for row in answer["recommendations"]] == [item_id]
        similar = await client.get(f"/v1/models/{model_id}/items/{ring(0)}/similar")
        assert similar.status_code == 200
    plain = (await client.post("/v1/recommendations", json={"user_id": "ann"})).json()
    assert plain["model"]["id"] == "default"
    [books, default, films] = (await client.get("/v1/models")).json()["models"]
    assert [each["live"]["version"] for each in (books, default, films)] == [V2, V1, V3]
    prefix = settings.topics.prefix
    assert default["topics"] == films["topics"]
    assert books["topics"] == [
        f"{prefix}books-{kind}" for kind in ("clicks", "purchases", "ratings")
    ]


async def test_events_go_to_the_models_own_topics(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    event = {
        "type": "click",
        "event_id": "e1",
        "user_id": "ann",
        "item_id": "dune",
        "timestamp": NOW,
    }
    answer = await client.post("/v1/models/books/events", json=event)
    assert answer.status_code == 202, answer.text
    [accepted] = answer.json()["events"]
    assert accepted["topic"] == "books-clicks"
    assert await asyncio.to_thread(read_topic, settings, "clicks") == []
    assert len(await asyncio.to_thread(read_topic, settings, "books-clicks")) == 1
    # Films have no topics of their own.
    answer = await client.post("/v1/models/films/events", json={**event, "event_id": "e2"})
    assert answer.json()["events"][0]["topic"] == "clicks"

    # A token is of a topic that the model reads.
    asked = {"user_id": "ann", "after": accepted["token"], "timeout_ms": 0}
    stale = check_problem(await client.post("/v1/models/books/recommendations", json=asked), 409)
    assert stale["missing"] == [accepted["token"]]
    refused = check_problem(
        await client.post("/v1/recommendations", json=asked), 422, "clicks, purchases, ratings"
    )
    assert refused["errors"][0]["field"] == "after"


async def test_sessions_trending_and_hidden_items_are_those_of_the_models_topics(
    client: httpx.AsyncClient, settings: Settings, redis: Redis
) -> None:
    books = settings.of_model("books")
    shared, own = logged(0, "ann", "tea"), of_books(logged(0, "ann", "dune"))
    for of, event in ((settings, shared), (books, own)):
        await SessionStore(redis, of).apply([event])
        await AggregateStore(redis, of).apply([event])
    await client.put("/v1/models/books/users/ann/hidden/emma")

    async def held(prefix: str) -> tuple[list[str], list[str], list[str]]:
        session = (await client.get(f"{prefix}/users/ann/interactions")).json()
        trending = (await client.get(f"{prefix}/trending")).json()["items"]
        hidden = (await client.get(f"{prefix}/users/ann/hidden")).json()["items"]
        return [*session["interactions"]], [row["id"] for row in trending], [*hidden]

    assert await held("/v1") == (["tea"], ["tea"], [])
    assert await held("/v1/models/default") == (["tea"], ["tea"], [])
    assert await held("/v1/models/films") == (["tea"], ["tea"], [])
    assert await held("/v1/models/books") == (["dune"], ["dune"], ["emma"])


async def test_a_model_that_there_is_not_is_told_with_those_there_are(
    client: httpx.AsyncClient,
) -> None:
    told = "There is no model with the id 'cars'; there are books, default, films."
    for method, path, body in (
        ("POST", "recommendations", {"user_id": "ann"}),
        ("POST", "events", {}),
        ("GET", "trending", None),
        ("GET", "users/ann/interactions", None),
    ):
        answer = await client.request(method, f"/v1/models/cars/{path}", json=body)
        assert check_problem(answer, 404)["detail"] == told
    # What helps a model is trained, too, and has no endpoint.
    answer = await client.post("/v1/models/cars/train", json={})
    told = f"{told[:-1]}, items, ranking; HEADRACE_MODELS adds others."
    assert check_problem(answer, 404)["detail"] == told
    check_problem(await client.get("/v1/models/Cars/trending"), 422, "lowercase letters")


async def test_erasing_a_user_covers_all_models(
    client: httpx.AsyncClient, settings: Settings, redis: Redis
) -> None:
    books = settings.of_model("books")
    sessions, of_model = SessionStore(redis, settings), SessionStore(redis, books)
    sent = []
    for path, kind in (("/v1/events", "shared"), ("/v1/models/books/events", "own")):
        event = {
            "type": "rating",
            "event_id": kind,
            "user_id": "ann",
            "item_id": kind,
            "timestamp": NOW,
            "rating": 4.0,
        }
        [accepted] = (await client.post(path, json=event)).json()["events"]
        topic = accepted["topic"]
        ids = await asyncio.to_thread(topic_ids, settings, (topic,))
        place = {"partition": accepted["partition"], "offset": accepted["offset"]}
        known = logged(0, "ann", kind)
        sent.append(msgspec.structs.replace(known, topic=topic, topic_id=ids[topic], **place))
    await sessions.apply(sent[:1])
    await of_model.apply(sent[1:])
    assert (await client.delete("/v1/users/ann")).status_code == 204
    for store, event in ((sessions, sent[0]), (of_model, sent[1])):
        assert (await store.read("ann")).item_ids == ()
        # A worker that has not heard of it yet comes too late.
        assert await store.apply([event]) == ["erased"]


async def test_what_was_served_is_logged_with_its_model(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    for model_id in VERSIONS:
        await client.post(f"/v1/models/{model_id}/recommendations", json={"user_id": "ann"})

    async def logged_all() -> bool:
        records = await asyncio.to_thread(read_topic, settings, IMPRESSIONS)
        return {parse_impression(record.value).model_id for record in records} == {*VERSIONS}

    await eventually(logged_all, "each list is in the topic, with its model")


async def test_a_user_is_merged_in_all_models(
    client: httpx.AsyncClient, settings: Settings, tmp_path: Path
) -> None:
    with (
        Part("worker", settings, tmp_path),
        Part("worker --model books", settings, tmp_path),
    ):
        for path, item_id in (("/v1/events", "tea"), ("/v1/models/books/events", "dune")):
            event = {
                "type": "click",
                "event_id": item_id,
                "user_id": "anon",
                "item_id": item_id,
                "timestamp": NOW,
            }
            assert (await client.post(path, json=event)).status_code == 202

        async def merged() -> bool:
            answer = await client.post(
                "/v1/users/ann/merge", json={"from": "anon", "timeout_ms": 10_000}
            )
            return answer.status_code == 200 and answer.json()["interactions"] == 2

        await eventually(merged, "both sessions are merged")

        async def taken_over() -> bool:
            held = []
            for prefix in ("/v1", "/v1/models/books"):
                for user_id in ("ann", "anon"):
                    path = f"{prefix}/users/{user_id}/interactions"
                    held.append([*(await client.get(path)).json()["interactions"]])
            return held == [["tea"], [], ["dune"], []]

        await eventually(taken_over, "each model's session is ann's")
