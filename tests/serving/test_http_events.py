"""Events over HTTP: all of a call or nothing, and true positions."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import msgspec
import pytest
from kafka_tools import read_topic
from serving_tools import Serve, check_problem

from headrace.settings import Settings

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


@pytest.mark.parametrize("media", ["application/x-ndjson", "application/x-ndjson; charset=utf-8"])
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


async def test_one_wrong_event_and_nothing_is_sent(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    events = [event(0), event(1, user_id=""), event(2), event(3, timestamp="now")]
    problem = check_problem(
        await client.post("/v1/events", json=events), 422, "2 of 4 events are invalid"
    )
    assert [(each["index"], each["field"]) for each in problem["errors"]] == [
        (1, "user_id"),
        (3, "timestamp"),
    ]
    assert all(each["reason"] for each in problem["errors"])
    await check_nothing_sent(settings)


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
