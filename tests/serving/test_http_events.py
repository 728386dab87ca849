"""Events over HTTP: an outcome for each, and true positions."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import msgspec
import pytest
from kafka_tools import make_topic, read_topic
from serving_tools import Serve, check_problem

from headrace.settings import Settings
from headrace.topics import ensure_topics

pytestmark = pytest.mark.brokers("embedded", "apache")

NOW = 1_704_060_026.0


def event(number: int, kind: str = "click", **fields: Any) -> dict[str, Any]:
    raw = {
        "type": kind,
        "event_id": f"e{number}",
        "user_id": f"u{number % 3}",
        "item_id": f"i{number}",
        "timestamp": NOW + number,
        **fields,
    }
    return {**raw, "rating": 4.5} if kind == "rating" else raw


async def check_in_log(
    settings: Settings, answer: httpx.Response, events: list[dict[str, Any]]
) -> None:
    """Each event stands in the log where the answer says, under its user's key."""
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert body["accepted"] == len(events)
    assert [each["event_id"] for each in body["events"]] == [each["event_id"] for each in events]
    records = {}
    for topic in ("clicks", "ratings", "purchases"):
        for record in await asyncio.to_thread(read_topic, settings, topic):
            records[topic, record.partition, record.offset] = record
    assert len(records) == len(events)
    topic_of = {"click": "clicks", "rating": "ratings", "purchase": "purchases"}
    for told, sent in zip(body["events"], events, strict=True):
        assert told["status"] == "accepted"
        assert told["topic"] == topic_of[sent["type"]]
        record = records[told["topic"], told["partition"], told["offset"]]
        assert record.key == sent["user_id"].encode()
        stored = json.loads(record.value)
        assert {name: stored[name] for name in sent} == sent


async def check_nothing_sent(settings: Settings) -> None:
    for topic in ("clicks", "ratings", "purchases"):
        assert await asyncio.to_thread(read_topic, settings, topic) == []


async def test_one_event(client: httpx.AsyncClient, settings: Settings) -> None:
    one = event(1, "rating", context={"page": "home", "n": 3})
    await check_in_log(settings, await client.post("/v1/events", json=one), [one])


async def test_an_array_of_all_kinds(client: httpx.AsyncClient, settings: Settings) -> None:
    kinds = ("click", "rating", "purchase")
    events = [event(n, kinds[n % 3]) for n in range(30)]
    await check_in_log(settings, await client.post("/v1/events", json=events), events)


@pytest.mark.parametrize("media", ["application/x-ndjson", "Application/X-NDJSON; charset=utf-8"])
async def test_ndjson(client: httpx.AsyncClient, settings: Settings, media: str) -> None:
    events = [event(n, user_id="Ærø 用户") for n in range(5)]
    lines = "\n".join(json.dumps(each, ensure_ascii=False) for each in events) + "\n\n"
    answer = await client.post(
        "/v1/events", content=lines.encode(), headers={"content-type": media}
    )
    await check_in_log(settings, answer, events)


async def test_a_users_events_stand_on_one_partition_in_order(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/events", json=[event(n, user_id="u") for n in range(50)])
    told = answer.json()["events"]
    assert len({each["partition"] for each in told}) == 1
    assert [each["offset"] for each in told] == list(range(50))


async def test_the_valid_ones_among_wrong_events_are_sent(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    no_id = event(4)
    del no_id["event_id"]
    events = [event(0), event(1, user_id=""), event(2), event(3, timestamp="now"), no_id]
    answer = await client.post("/v1/events", json=events)
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert (body["accepted"], body["invalid"], body["unknown"]) == (2, 3, 0)
    told = [(each["event_id"], each["status"], each.get("field")) for each in body["events"]]
    assert told == [
        ("e0", "accepted", None),
        ("e1", "invalid", "user_id"),
        ("e2", "accepted", None),
        ("e3", "invalid", "timestamp"),
        (None, "invalid", "event_id"),
    ]
    assert all(each["reason"] for each in body["events"] if each["status"] == "invalid")
    records = await asyncio.to_thread(read_topic, settings, "clicks")
    assert sorted(json.loads(record.value)["event_id"] for record in records) == ["e0", "e2"]


async def test_where_every_event_is_wrong_the_answer_says_why_of_each(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    events = [event(1, user_id=""), event(3, timestamp="now")]
    problem = check_problem(
        await client.post("/v1/events", json=events), 422, "2 of 2 events are invalid"
    )
    assert [(each["index"], each["field"]) for each in problem["errors"]] == [
        (0, "user_id"),
        (1, "timestamp"),
    ]
    await check_nothing_sent(settings)


@pytest.mark.brokers("apache")
async def test_what_kafka_does_not_acknowledge_is_unknown_and_the_rest_accepted(
    settings: Settings, serve: Serve
) -> None:
    # Such a topic takes no record of the larger event.
    await asyncio.to_thread(make_topic, settings, "ratings", {"max.message.bytes": "2000"})
    await asyncio.to_thread(ensure_topics, settings)
    events = [event(0), event(1, "rating", context={"a": "x" * 4_000}), event(2, user_id="")]
    async with serve(settings) as client:
        answer = await client.post("/v1/events", json=events)
        check_problem(await client.post("/v1/events", json=events[1:]), 503, "Kafka")
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert (body["accepted"], body["invalid"], body["unknown"]) == (1, 1, 1)
    assert [each["status"] for each in body["events"]] == ["accepted", "unknown", "invalid"]
    assert body["events"][1]["event_id"] == "e1"
    assert "same event_id" in body["events"][1]["reason"]


@pytest.mark.brokers("embedded")
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"[]", "empty"),
        (b"{", "not JSON"),
        (b"[{]", "not JSON"),
        (b"\xff", "not JSON"),
        (b'[{"a": "\xff"}]', ""),
        (b"[" * 100_000, "nested deeper"),
        (b"[" * 100_000 + b"]" * 100_000, ""),
        (b"5", "Expected `object`"),
        (b"null", ""),
        (json.dumps(event(1, kind="view")).encode(), "type: "),
        (json.dumps({**event(1), "timestamp": NOW * 1_000}).encode(), "not milliseconds"),
        (json.dumps({**event(1), "context": {"a": 10**30}}).encode(), "context"),
        (json.dumps({**event(1), "context": {"a": "x" * 70_000}}).encode(), "bytes long"),
        (json.dumps([{}] * 5_001).encode(), "5,001 in one call; at most 5,000"),
    ],
    ids=range(16),
)
async def test_what_cannot_be_read_is_a_problem(
    client: httpx.AsyncClient, settings: Settings, body: bytes, words: str
) -> None:
    check_problem(await client.post("/v1/events", content=body), 422, words)
    await check_nothing_sent(settings)


@pytest.mark.brokers("embedded")
async def test_a_body_too_long_is_refused_before_it_is_read_whole(
    client: httpx.AsyncClient,
) -> None:
    read = 0

    async def endless() -> Any:
        nonlocal read
        for _ in range(40):
            read += 1 << 20
            yield b" " * (1 << 20)

    check_problem(await client.post("/v1/events", content=endless()), 413, "8,388,608 bytes")


@pytest.mark.brokers("embedded")
async def test_kafka_away_is_said_with_when_to_come_again(settings: Settings, serve: Serve) -> None:
    away = msgspec.structs.replace(settings, kafka="127.0.0.1:9")
    async with serve(away) as client:
        answer = await client.post("/v1/events", json=event(1))
        check_problem(answer, 503, "Kafka")
        assert int(answer.headers["retry-after"]) > 0
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["kafka"], ready.json()["redis"]) == (
            503,
            False,
            True,
        )
        assert (await client.get("/livez")).status_code == 200
        recommended = await client.post("/v1/recommendations", json={"user_id": "u"})
        assert recommended.status_code == 200
