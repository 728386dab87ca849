"""What is served is logged, found by its id on any server, and judged by what users do next."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from impression_tools import impression
from kafka_tools import read_topic
from parts import OwnKafka, Part, eventually
from redis.asyncio import Redis
from serving_tools import RING, V1, V2, Serve, check_problem, ring, walk

from headrace.experiment import Arm, Experiment
from headrace.impressions import Impression, ImpressionStore, parse_impression
from headrace.producer import Producer, partition_of
from headrace.sessions import Session, SessionStore
from headrace.settings import ImpressionSettings, Settings
from headrace.topics import IMPRESSIONS, ensure_topics
from serving.impressions import ImpressionLog
from serving.schemas.recommendations import (
    ModelInfo,
    RecommendationAnswer,
    RecommendationRequest,
    SessionInfo,
)
from serving.services import create_services

FILTER = {"categories": {"any": ["ring"]}}


async def recommend(client: httpx.AsyncClient, **asked: Any) -> dict[str, Any]:
    answer = await client.post("/v1/recommendations", json=asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def logged_lists(settings: Settings, count: int) -> dict[str, Any]:
    """The records of the topic, by the id of the list, once there are so many."""
    found: dict[str, Any] = {}

    async def all_there() -> bool:
        records = await asyncio.to_thread(read_topic, settings, IMPRESSIONS)
        found.update({parse_impression(record.value).id: record for record in records})
        return len(found) >= count

    await eventually(all_there, f"{count} lists are logged")
    assert len(found) == count
    return found


async def test_each_answer_is_a_record_of_its_user_with_what_it_was_made_of(
    live: httpx.AsyncClient, settings: Settings, sessions: SessionStore
) -> None:
    begun = time.time()
    await walk(sessions, "ann", *range(12))
    plain = await recommend(live, user_id="ann")
    asked = {"filter": FILTER, "exclude_ids": [ring(30)], "diversity": 0.5, "explain": True}
    limited = await recommend(live, user_id="ann", k=3, **asked)
    following = await recommend(live, user_id="ann", k=3, cursor=plain["cursor"])
    ranked = await recommend(live, user_id="ann", candidate_ids=[ring(5), ring(20)], k=2)
    unknown = await recommend(live, user_id="nobody", k=4)
    interactions = {ring(3): {"timestamp": 1.0, "event": "click"}}
    brought = await recommend(live, user_interactions=interactions)
    records = await logged_lists(settings, 6)
    lists: dict[str, Impression] = {
        each: parse_impression(record.value) for each, record in records.items()
    }
    answers = (plain, limited, following, ranked, unknown, brought)
    for answer in answers:
        record, made = records[answer["id"]], lists[answer["id"]]
        key = made.user_id or made.id
        assert record.key == key.encode()
        assert record.partition == partition_of(record.key, settings.topics.partitions)
        assert record.timestamp == int(made.served_at * 1000)
        assert begun <= made.served_at <= time.time()
        rows = answer["recommendations"]
        assert list(made.item_ids) == [row["id"] for row in rows]
        assert list(made.scores) == [row["score"] for row in rows]
        assert made.message == answer["message"]
        assert made.version == (answer["model"] and answer["model"]["version"])
        state = msgspec.to_builtins(made.session)
        newest = state.pop("newest")
        assert state == answer["session"]
        assert len(newest["item_ids"]) == min(10, state["interactions"])
    first = lists[plain["id"]]
    assert first.version == V1
    assert first.session.newest.item_ids == tuple(map(ring, range(2, 12)))
    assert first.asked.is_unrestricted
    assert not any(lists[each["id"]].asked.is_unrestricted for each in (limited, following, ranked))
    of_limited = lists[limited["id"]].asked
    assert (of_limited.k, of_limited.filter, of_limited.excluded) == (3, FILTER, 1)
    because = [{why["id"]: why["effect"] for why in row["because"]}
               for row in limited["recommendations"]]  # fmt: skip
    assert list(lists[limited["id"]].because) == because
    assert lists[following["id"]].asked.shown == 10
    assert lists[ranked["id"]].asked.candidates == 2
    assert lists[unknown["id"]].version is None
    assert lists[brought["id"]].user_id is None
    assert lists[brought["id"]].session.newest.item_ids == (ring(3),)


async def test_of_a_stream_the_lists_that_were_sent_are_logged(
    settings: Settings, client: httpx.AsyncClient, sessions: SessionStore
) -> None:
    services = create_services(settings)
    followers = [
        asyncio.create_task(services.of_topics[0].follow()),
        asyncio.create_task(services.impressions.follow()),
    ]
    frames = services.feed.stream(RecommendationRequest(user_id="ann", k=3), 1, "")
    try:
        await anext(frames)
        sent = [await anext(frames)]
        await walk(sessions, "ann", 1)
        sent.append(await anext(frames))
        await frames.aclose()  # type: ignore[attr-defined]
        # More was made for its stability, and not sent.
        records = await logged_lists(settings, 2)
    finally:
        for follower in followers:
            follower.cancel()
        await services.impressions.close()
        await services.redis.aclose()
        await services.producer.close()
    for frame in sent:
        answer = msgspec.json.decode(frame.partition(b"data: ")[2])
        made = parse_impression(records[answer["id"]].value)
        assert (made.by, made.user_id, made.asked.stability) == ("stream", "ann", 1)


@pytest.fixture
async def other(
    client: httpx.AsyncClient, settings: Settings, serve: Serve
) -> AsyncIterator[httpx.AsyncClient]:
    """Another server."""
    async with serve(settings) as other:
        yield other


async def test_a_list_is_found_on_another_server_and_judged_by_what_its_user_does(
    live: httpx.AsyncClient,
    other: httpx.AsyncClient,
    settings: Settings,
    tmp_path: Path,
) -> None:
    def click(number: int) -> dict[str, Any]:
        return {
            "type": "click", "event_id": f"click-{number}", "user_id": "ann",
            "item_id": ring(number), "timestamp": time.time(),
        }  # fmt: skip

    with Part("worker", settings, tmp_path):
        [sent] = (await live.post("/v1/events", json=click(7))).json()["events"]
        asked = {"after": sent["token"], "timeout_ms": 10_000}
        answer: dict[str, Any] = {}

        async def fresh() -> bool:
            found = await live.post("/v1/recommendations", json={"user_id": "ann", **asked})
            answer.update(found.json())
            return found.status_code == 200

        await eventually(fresh, "the worker has applied the event")
        shown: dict[str, Any] = {}

        async def is_found() -> bool:
            found = await other.get(f"/v1/recommendations/{answer['id']}")
            shown.update(found.json())
            return found.status_code == 200

        await eventually(is_found, "the list is found")
        for field in ("id", "recommendations", "message", "model"):
            assert shown[field] == answer[field]
        assert (shown["user_id"], shown["by"], shown["experiment"]) == ("ann", "request", None)
        assert (shown["asked"]["k"], shown["asked"]["filter"]) == (10, None)
        newest = shown["session"].pop("newest")
        assert shown["session"] == answer["session"]
        assert list(newest) == [ring(7)]
        assert newest[ring(7)]["event"] == "click"
        # What everyone does next on the ring, and what nobody does.
        hit = [row["id"] for row in answer["recommendations"]].index(ring(8)) + 1
        await live.post("/v1/events", json=[click(8), click(7 + RING // 2), click(8)])

        async def judged() -> bool:
            of_version = (await other.get("/v1/models/default/versions")).json()
            [row] = of_version["versions"]
            return (row["evaluation"] or {}).get("events") == 2

        await eventually(judged, "the list is judged")
    versions = (await other.get("/v1/models/default/versions")).json()
    [row] = versions["versions"]
    assert (row["evaluation"]["k"], row["evaluation"]["hit_rate"]) == (10, 0.5)
    assert (hit > 1) == (row["evaluation"]["ndcg"] < 0.5)
    assert (row["share"], versions["trending"]) == (None, None)
    metrics = (await other.get("/metrics")).text
    assert f'headrace_hit_rate{{k="10",topic="clicks",version="{V1}"}} 0.5' in metrics
    assert f'headrace_evaluated_events{{topic="clicks",version="{V1}"}} 2.0' in metrics
    assert 'headrace_impressions_total{outcome="dropped"} 0.0' in metrics


async def test_who_may_see_a_list_and_what_is_none(
    settings: Settings, serve: Serve, client: httpx.AsyncClient, redis: Redis
) -> None:
    store = ImpressionStore(redis, settings)
    anns, nobodys = impression("ann", time.time(), ["a"]), impression(None, time.time(), ["a"])
    await store.keep([(each, msgspec.json.encode(each)) for each in (anns, nobodys)])
    keyed = msgspec.structs.replace(settings, api_key="own")
    async with serve(keyed) as secured:
        own = {"authorization": "Bearer own"}
        for user, status in (("ann", 200), ("bob", 403)):
            made = await secured.post(f"/v1/users/{user}/token", headers=own)
            token = {"authorization": f"Bearer {made.json()['token']}"}
            found = await secured.get(f"/v1/recommendations/{anns.id}", headers=token)
            assert found.status_code == status, found.text
            # No user's token tells whose session that was.
            found = await secured.get(f"/v1/recommendations/{nobodys.id}", headers=token)
            assert found.status_code == 403
        for made_list in (anns, nobodys):
            found = await secured.get(f"/v1/recommendations/{made_list.id}", headers=own)
            assert found.status_code == 200
        assert (await secured.get(f"/v1/recommendations/{anns.id}")).status_code == 401
    check_problem(await client.get("/v1/recommendations/" + "0" * 32), 404, "No list with the id")
    check_problem(await client.get("/v1/recommendations/..%2Fx"), 422, "32 hexadecimal digits")
    answer = await client.delete("/v1/users/ann")
    assert answer.status_code == 204
    check_problem(await client.get(f"/v1/recommendations/{anns.id}"), 404)
    assert (await client.get(f"/v1/recommendations/{nobodys.id}")).status_code == 200


async def test_without_kafka_answers_go_on_and_what_is_too_much_is_dropped_and_counted(
    settings: Settings, serve: Serve, tmp_path: Path
) -> None:
    def count(metrics: str, name: str) -> float:
        [line] = [line for line in metrics.splitlines() if line.startswith(name + " ")]
        return float(line.rpartition(" ")[2])

    with OwnKafka(tmp_path) as kafka:
        settings = msgspec.structs.replace(
            settings, kafka=kafka.address, impressions=ImpressionSettings(buffer=100)
        )
        await asyncio.to_thread(ensure_topics, settings)
        async with serve(settings) as client:
            await recommend(client, user_id="ann")
            await logged_lists(settings, 1)
            kafka.kill()
            for _ in range(130):
                await recommend(client, user_id="ann")
            metrics = (await client.get("/metrics")).text
            assert count(metrics, "headrace_impressions_waiting") == 100
            assert count(metrics, 'headrace_impressions_total{outcome="dropped"}') == 30
            kafka.start()
            # All that was held, and nothing twice under another id.
            await logged_lists(settings, 101)


async def test_switched_off_nothing_is_logged(
    settings: Settings, serve: Serve, client: httpx.AsyncClient
) -> None:
    off = msgspec.structs.replace(settings, impressions=ImpressionSettings(log=False))
    async with serve(off) as quiet:
        await recommend(quiet, user_id="ann")
    await recommend(client, user_id="ann")
    await logged_lists(settings, 1)


def test_a_list_names_the_ab_test_where_that_chose_its_version(settings: Settings) -> None:
    experiment = Experiment("spring", [Arm(V2, 0.5)])
    users = [f"user-{n}" for n in range(20)]
    of_arm = next(user for user in users if experiment.version_for(user) == V2)
    of_none = next(user for user in users if experiment.version_for(user) is None)
    log = ImpressionLog(settings, experiment, Producer(settings), time.time)

    def test_of(version: str | None, **asked: Any) -> str | None:
        model = None if version is None else ModelInfo("default", version)
        answer = RecommendationAnswer("a" * 32, [], None, model, SessionInfo(0, 0, None, {}))
        log.note(RecommendationRequest(**asked), answer, Session())
        return parse_impression(log._held.pop().value).experiment

    assert test_of(V2, user_id=of_arm) == "spring"
    assert test_of(V1, user_id=of_none) == "spring"
    # The arm is not loaded, no version answers, the session is nobody's.
    assert test_of(V1, user_id=of_arm) is None
    assert test_of(None, user_id=of_none) is None
    assert test_of(V1, user_interactions={}) is None


def test_of_a_request_nothing_is_kept_but_what_its_record_says(settings: Settings) -> None:
    answer = RecommendationAnswer("a" * 32, [], None, None, SessionInfo(0, 0, None, {}))
    request = RecommendationRequest(user_id="ann", candidate_ids=["x" * 256] * 3_000)
    session = Session(hidden=("x" * 256,) * 5_000)
    log = ImpressionLog(settings, Experiment("", ()), Producer(settings), time.time)
    held_by = [sys.getrefcount(each) for each in (request, answer, session)]
    log.note(request, answer, session)
    assert len(log) == 1
    assert [sys.getrefcount(each) for each in (request, answer, session)] == held_by
    # What is longer than a record may be is dropped, and counted.
    filter_ = {"title": {"in": ["x" * 1_000] * 300}}
    log.note(RecommendationRequest(user_id="ann", filter=filter_), answer, session)
    assert (len(log), log.dropped) == (1, 1)
