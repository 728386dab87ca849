"""`POST /v1/users/{id}/merge`: an anonymous user becomes part of a known one, each event once."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError
from events_log import NOW, fold, logged
from kafka_tools import send_events
from parts import Part, eventually
from redis.asyncio import Redis
from serving_tools import Serve, check_problem
from state_tools import read_log, succeeds

from headrace.erasures import Erasure
from headrace.keys import KeyStore, make_key
from headrace.log import end_offsets, read_columns
from headrace.positions import PositionStore
from headrace.producer import Producer
from headrace.redis_eraser import RedisEraser
from headrace.sessions import Interaction, LoggedEvent, Session, SessionStore
from headrace.settings import Settings
from headrace.topics import Place, Topics, ensure_topics
from headrace.trending import TrendingStore
from serving.eraser import Eraser
from serving.services import create_services

ANON, BOB = "anon-{7}", "bob"


def row(kind: str, number: int, user: str, item: str) -> dict[str, Any]:
    event = {
        "event_id": f"{user}-{kind}-{number}",
        "user_id": user,
        "item_id": item,
        "timestamp": NOW + number,
    }
    return {**event, "rating": 3.5} if kind == "rating" else event


def send(settings: Settings, user: str, numbers: Iterable[int]) -> None:
    """Send events of all kinds; users share some items, and no two events a time."""
    rows = list(numbers)
    for place, (topic, kind) in enumerate(
        (("clicks", "click"), ("purchases", "purchase"), ("ratings", "rating"))
    ):
        mine = [row(kind, n, user, f"item-{n % 71}") for n in rows if n % 3 == place]
        send_events(settings, topic, mine)


async def union(settings: Settings) -> dict[str, Interaction]:
    """What the originals of both come to, as one user's."""
    log = await asyncio.to_thread(read_log, settings)
    return fold(
        [
            msgspec.structs.replace(each, event=msgspec.structs.replace(each.event, user_id=BOB))
            for each in log
            if each.event.merged is not True
        ],
        BOB,
        settings.sessions.limit,
    )


async def merge(client: httpx.AsyncClient) -> dict[str, Any]:
    """Merge, however long the worker takes to start."""
    for _ in range(6):
        body = {"from": ANON, "timeout_ms": 10_000}
        answer = await client.post(f"/v1/users/{BOB}/merge", json=body, timeout=60)
        if answer.status_code != 409:
            break
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def fresh(client: httpx.AsyncClient, tokens: list[str]) -> None:
    """Wait until bob's session has seen these."""
    asked = {"user_id": BOB, "after": tokens, "timeout_ms": 10_000}

    async def seen() -> bool:
        return (await client.post("/v1/recommendations", json=asked)).status_code == 200

    await eventually(seen, "what was merged is applied")


@pytest.mark.brokers("apache")
async def test_the_known_user_s_dictionary_is_that_of_both_and_stays_so(
    settings: Settings, redis: Redis, serve: Serve, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    sessions, trending = SessionStore(redis, settings), TrendingStore(redis, settings)
    await asyncio.to_thread(send, settings, BOB, range(0, 60, 2))
    with Part("worker", settings, tmp_path) as worker:
        async with serve(settings) as client:
            # Acknowledged, and applied by nobody yet.
            await asyncio.to_thread(send, settings, ANON, range(1, 160, 2))
            await sessions.hide(BOB, "h1", now=NOW)
            for number in (1, 2):
                await sessions.hide(ANON, f"h{number}", now=NOW - number)
            expected = await union(settings)
            began = time.time()
            told = await merge(client)
            assert {**told, "tokens": []} == {
                "user_id": BOB, "from": ANON, "interactions": 71, "hidden": 1, "tokens": [],
                "message": None,
            }  # fmt: skip
            assert {token.partition(".")[0] for token in told["tokens"]} == {
                "clicks", "purchases", "ratings",
            }  # fmt: skip
            await fresh(client, told["tokens"])
            assert (await sessions.read(BOB)).interactions() == expected
            hidden = await sessions.hidden(BOB)
            assert (list(hidden), hidden["h1"]) == (["h1", "h2"], NOW)
            assert began <= hidden["h2"] <= time.time()
            assert await sessions.read(ANON) == Session()
            # What was counted as the one's is not counted as the other's.
            assert await trending.events_counted() == 110

            again = await merge(client)
            assert (again["interactions"], again["tokens"]) == (0, [])
            assert "merged already" in again["message"]

            # Read once more from the beginning, by a worker that was killed.
            worker.end(signal.SIGKILL)
            await redis.delete(
                settings.key("positions"),
                *[key async for key in redis.scan_iter(settings.key("user", "*"))],
            )
            worker.start()
            await fresh(client, told["tokens"])
            assert (await sessions.read(BOB)).interactions() == expected
            assert (await sessions.read(ANON)).item_ids == ()

            # The id goes on to be used, and is merged once more.
            await asyncio.to_thread(send, settings, ANON, range(201, 220))
            expected = await union(settings)
            told = await merge(client)
            assert told["interactions"] == 19
            await fresh(client, told["tokens"])
            assert (await sessions.read(BOB)).interactions() == expected
        assert worker.end(signal.SIGTERM) == 0

    shadow = f"{settings.namespace}-shadow"
    await succeeds(settings, "replay", "--into", shadow)
    rebuilt = SessionStore(redis, msgspec.structs.replace(settings, namespace=shadow))
    assert (await rebuilt.read(BOB)).interactions() == expected
    assert await rebuilt.read(ANON) == Session()
    # A training knows bob alone, and of each interaction that was merged one event.
    through = await asyncio.to_thread(end_offsets, settings)
    columns = await asyncio.to_thread(read_columns, settings, through)
    assert columns.user_ids == (BOB,)
    assert len(columns) == 30 + 71 + 19


async def test_events_that_stream_in_meanwhile_are_the_one_s_or_the_other_s(
    settings: Settings, redis: Redis, serve: Serve, tmp_path: Path
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    sessions = SessionStore(redis, settings)

    def send_many() -> None:
        for first in range(0, 240, 6):
            send(settings, ANON, range(first, first + 6))

    with Part("worker", settings, tmp_path) as worker:
        async with serve(settings) as client:
            # The worker is there.
            await asyncio.to_thread(send, settings, ANON, range(300, 303))
            told = await merge(client)
            tokens, parts = told["tokens"], []
            sending = asyncio.create_task(asyncio.to_thread(send_many))
            while not sending.done():
                if len(parts) == 3:
                    worker.end(signal.SIGKILL)
                    worker.start()
                told = await merge(client)
                tokens += told["tokens"]
                parts.append(told["interactions"])
            tokens += (await merge(client))["tokens"]
            await fresh(client, tokens)
            assert len(list(filter(None, parts))) > 2
            assert (await sessions.read(BOB)).interactions() == await union(settings)
            assert (await sessions.read(ANON)).item_ids == ()


async def test_what_a_topic_made_anew_holds_is_not_taken_for_seen(
    settings: Settings, client: httpx.AsyncClient, redis: Redis, sessions: SessionStore
) -> None:
    positions = PositionStore(redis, settings)
    await sessions.apply([logged(7, ANON, "i1", kind="click", topic_id="old")])
    await positions.begin({"clicks": "old"})
    await positions.advance(
        {Place("clicks", "old", n): 8 for n in range(settings.topics.partitions)}
    )
    await asyncio.to_thread(send_events, settings, "clicks", [row("click", 1, ANON, "i2")])
    answer = await client.post(f"/v1/users/{BOB}/merge", json={"from": ANON, "timeout_ms": 0})
    assert check_problem(answer, 409, "Nothing was merged")["code"] == "stale"
    assert (await sessions.read(ANON)).item_ids == ("i1",)


class DiesOnce(Eraser):
    """An eraser whose first erasure Kafka never gets."""

    died = False

    async def write(self, erasure: Erasure) -> None:
        if not self.died:
            self.died = True
            raise KafkaConnectionError
        await super().write(erasure)


async def test_a_merge_that_died_half_way_is_repeated_and_counts_once(
    settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    from serving.merger import MergedTopics, Merger

    await asyncio.to_thread(ensure_topics, settings)
    await asyncio.to_thread(send, settings, ANON, range(40))
    expected = await union(settings)
    services = create_services(settings)
    producer, sessions = Producer(settings), SessionStore(redis, settings)
    eraser = DiesOnce(settings, producer, RedisEraser(redis, settings), time.time)
    parts = [MergedTopics(Topics(settings), sessions, services.freshness)]
    merger = Merger(producer, parts, eraser, time.time)
    try:
        with Part("worker", settings, tmp_path) as worker:
            with pytest.raises(KafkaConnectionError):
                await merger.announce(BOB, ANON, 30.0)
            merged = await merger.announce(BOB, ANON, 30.0)
            assert merged.interactions == 40
            # The server that was to erase dies, too: the worker does it.
            assert await services.freshness.unseen(BOB, merged.tokens, 30.0) == []

            async def erased() -> bool:
                return (await sessions.read(ANON)).item_ids == ()

            await eventually(erased, "the worker erases the anonymous user")
            assert (await sessions.read(BOB)).interactions() == expected
            assert await TrendingStore(redis, settings).events_counted() == 40
            assert worker.end(signal.SIGTERM) == 0
        through = await asyncio.to_thread(end_offsets, settings)
        columns = await asyncio.to_thread(read_columns, settings, through)
        assert (columns.user_ids, len(columns)) == ((BOB,), 40)
    finally:
        for closing in (eraser.close, services.eraser.close, producer.close):
            await closing()
        await services.producer.close()
        await services.redis.aclose()


async def test_without_a_worker_nothing_is_merged_and_the_answer_says_so(
    client: httpx.AsyncClient, settings: Settings, sessions: SessionStore
) -> None:
    await asyncio.to_thread(send, settings, ANON, range(3))
    body = {"from": ANON, "timeout_ms": 100}
    answer = await client.post(f"/v1/users/{BOB}/merge", json=body)
    problem = check_problem(answer, 409, "Nothing was merged")
    assert problem["code"] == "stale"
    assert {token.partition(".")[0] for token in problem["missing"]} == {
        "clicks", "purchases", "ratings",
    }  # fmt: skip
    assert all(each.event.user_id == ANON for each in await asyncio.to_thread(read_log, settings))


async def test_what_cannot_be_merged_is_told(
    client: httpx.AsyncClient, sessions: SessionStore, settings: Settings
) -> None:
    answer = await client.post("/v1/users/bob/merge", json={"from": "bob"})
    problem = check_problem(answer, 422, "itself")
    assert problem["errors"] == [
        {"field": "from", "reason": problem["errors"][0]["reason"], "value": "bob"}
    ]
    for body in ({}, {"from": ""}, {"from": "a\n"}, {"from": "a", "timeout_ms": 10_001}):
        check_problem(await client.post("/v1/users/bob/merge", json=body), 422)
    unknown = await client.post("/v1/users/bob/merge", json={"from": "nobody"})
    assert unknown.status_code == 200
    assert "not known" in unknown.json()["message"]
    # What is hidden alone is merged, too.
    await sessions.hide("nobody", "h", now=NOW)
    assert (await merge_of(client, "nobody"))["hidden"] == 1
    assert (list(await sessions.hidden("bob")), await sessions.hidden("nobody")) == (["h"], {})
    await sessions.hide_all("bob", [f"i{n}" for n in range(4_999)], now=NOW)
    await sessions.hide_all("nobody", ["x", "h"], now=NOW)
    answer = await client.post("/v1/users/bob/merge", json={"from": "nobody"})
    check_problem(answer, 409, "unhide some")
    assert list(await sessions.hidden("nobody")) == ["h", "x"]


async def test_what_is_merged_stays_hidden_when_an_erasure_from_before_is_carried_out_again(
    client: httpx.AsyncClient, sessions: SessionStore
) -> None:
    erasure = Erasure(user_id=BOB, at=NOW, topic_ids={}, through={})
    await sessions.hide(BOB, "old", now=NOW - 2)
    await sessions.hide("nobody", "h", now=NOW - 1)
    await sessions.erase(erasure)
    assert (await merge_of(client, "nobody"))["hidden"] == 1
    # As a worker does that has started since.
    await sessions.erase(erasure)
    assert list(await sessions.hidden(BOB)) == ["h"]


async def merge_of(client: httpx.AsyncClient, anonymous: str) -> dict[str, Any]:
    answer = await client.post(f"/v1/users/{BOB}/merge", json={"from": anonymous})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_a_user_s_token_takes_no_other_user_s_session(
    settings: Settings, serve: Serve, redis: Redis, sessions: SessionStore
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    key, text = make_key(("recommend", "events"), now=time.time())
    await KeyStore(redis, settings).add(key)
    await sessions.hide("anon", "h", now=NOW)
    async with serve(settings) as client:

        async def token(user: str, *scopes: str) -> str:
            answer = await client.post(
                f"/v1/users/{user}/token",
                json={"scopes": scopes},
                headers={"authorization": f"Bearer {text}"},
            )
            return str(answer.json()["token"])

        async def ask(credential: str, into: str = "bob", **body: str) -> httpx.Response:
            return await client.post(
                f"/v1/users/{into}/merge",
                json={"from": "anon", **body},
                headers={"authorization": f"Bearer {credential}"},
            )

        bob, anon = await token("bob", "events"), await token("anon", "events")
        check_problem(await ask(bob), 403, "from_token")
        for wrong in (bob, await token("ann", "events"), await token("anon", "recommend"), text):
            check_problem(await ask(bob, from_token=wrong), 403, "from_token")
        check_problem(await ask(bob, from_token=f"{anon}x"), 403, "from_token")
        check_problem(await ask(anon, from_token=anon), 403, "another user")
        check_problem(await ask(await token("bob", "recommend"), from_token=anon), 403, "events")
        assert list(await sessions.hidden("anon")) == ["h"]
        assert (await ask(bob, from_token=anon)).json()["hidden"] == 1
        # A server's key acts for all.
        await sessions.hide("anon", "h2", now=NOW)
        assert (await ask(text)).json()["hidden"] == 1


async def test_events_that_say_they_were_merged_count_for_their_user_alone(
    settings: Settings, redis: Redis, sessions: SessionStore
) -> None:
    from headrace.aggregates import AggregateStore

    def merged(each: LoggedEvent) -> LoggedEvent:
        return msgspec.structs.replace(each, event=msgspec.structs.replace(each.event, merged=True))

    events = [logged(0, item_id="a"), merged(logged(1, item_id="b")), logged(2, item_id="c")]
    aggregates = AggregateStore(redis, settings)
    assert await aggregates.apply(events) == 2
    assert await aggregates.apply(events[1:2]) == 0
    assert await sessions.apply(events) == ["new"] * 3
    assert [item for item, _ in await TrendingStore(redis, settings).top(5)] == ["a", "c"]
