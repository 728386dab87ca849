"""`after`: an answer from a session that has seen an event, or a 409 that says what there is."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from events_log import NOW, logged
from kafka_tools import send_events, send_raw
from parts import PATIENCE_S, Part
from redis.asyncio import Redis
from serving_tools import Serve, check_problem

from headrace.positions import PositionStore
from headrace.sessions import SessionStore
from headrace.settings import Settings
from headrace.topics import Place, ensure_topics

LONG_MS = 10_000


def event(number: int, user_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "user_id": user_id,
        "item_id": f"i{number}",
        "timestamp": NOW + number,
        **fields,
    }


async def ask(
    client: httpx.AsyncClient, user_id: str, after: object, **more: Any
) -> httpx.Response:
    asked = {"user_id": user_id, "after": after, **more}
    return await client.post("/v1/recommendations", json=asked)


async def until_read(client: httpx.AsyncClient, token: str) -> None:
    """Wait until the worker has begun: a group takes a moment to form."""
    for _ in range(round(PATIENCE_S * 1000 / LONG_MS)):
        if (await ask(client, "first", token, timeout_ms=LONG_MS)).status_code == 200:
            return
    pytest.fail("the worker does not apply events")


async def post(client: httpx.AsyncClient, *events: dict[str, Any]) -> list[str]:
    answer = await client.post("/v1/events", json=[{"type": "click", **each} for each in events])
    assert answer.status_code == 202, answer.text
    return [each["token"] for each in answer.json()["events"]]


@pytest.mark.brokers("embedded", "apache")
async def test_a_thousand_of_a_thousand_answers_know_the_event(
    settings: Settings, serve: Serve, tmp_path: Path
) -> None:
    users, each = 50, 20
    ensure_topics(settings)
    # Whatever else the machine does: none is to be refused for how long others take.
    serving = msgspec.structs.replace(settings.serving, admission_target_ms=0)
    taking_all = msgspec.structs.replace(settings, serving=serving)
    async with serve(taking_all) as client:
        with Part("worker", settings, tmp_path) as worker:
            await until_read(client, (await post(client, event(0, "first")))[0])

            async def walk(user: int) -> int:
                fresh = 0
                for number in range(each):
                    [token] = await post(client, event(number, f"u{user}"))
                    answer = await ask(client, f"u{user}", token, timeout_ms=LONG_MS)
                    assert answer.status_code == 200, answer.text
                    session = answer.json()["session"]
                    topic, partition, offset = token.split(".")
                    mark = session["marks"][f"{topic}/{partition}"]
                    fresh += (session["applied"], mark) == (number + 1, int(offset))
                return fresh

            fresh = sum(await asyncio.gather(*map(walk, range(users))))
            assert fresh == users * each == 1_000
            assert worker.end(signal.SIGTERM) == 0


@pytest.mark.brokers("embedded", "apache")
async def test_events_that_change_nothing_and_those_of_a_kafka_producer_count_as_seen(
    client: httpx.AsyncClient, settings: Settings, tmp_path: Path
) -> None:
    with Part("worker", settings, tmp_path):
        await until_read(client, (await post(client, event(0, "first")))[0])
        # A producer makes the token from its delivery report.
        [(partition, offset)] = await asyncio.to_thread(
            send_events, settings, "clicks", [event(1, "ann")]
        )
        mine = f"clicks.{partition}.{offset}"
        [(wrong_at, wrong)] = await asyncio.to_thread(
            send_raw, settings, "clicks", [(b"ann", b"no event")]
        )
        [late] = await post(client, event(2, "ann", item_id="i1", timestamp=NOW - 100))
        [others] = await post(client, event(3, "bob"))
        after = [mine, f"clicks.{wrong_at}.{wrong}", late, others]
        answer = await ask(client, "ann", after, timeout_ms=LONG_MS)
        assert answer.status_code == 200, answer.text
        assert answer.json()["session"]["applied"] == 2
        # Of somebody of whom nothing is known, too.
        nobody = await ask(client, "nobody", after, timeout_ms=LONG_MS)
        assert nobody.status_code == 200
        assert nobody.json()["session"]["marks"] == {}


async def test_what_has_not_been_seen_in_time_is_a_409_with_what_there_is(
    client: httpx.AsyncClient, sessions: SessionStore
) -> None:
    await sessions.apply([logged(4, "ann", "i1", kind="click")])
    assert (await ask(client, "ann", "clicks.0.4", timeout_ms=0)).status_code == 200
    assert (await ask(client, "ann", ["clicks.0.2", "clicks.0.4"])).status_code == 200
    after = ["clicks.0.5", "clicks.0.4", "ratings.1.0", "clicks.0.6"]
    answer = await ask(client, "ann", after, timeout_ms=20)
    problem = check_problem(answer, 409, "not seen")
    assert problem["code"] == "stale"
    assert sorted(problem["missing"]) == ["clicks.0.5", "clicks.0.6", "ratings.1.0"]
    assert problem["answer"]["session"]["marks"] == {"clicks/0": 4}
    assert problem["answer"]["session"]["applied"] == 1


async def test_a_request_that_waits_is_answered_once_the_event_is_applied(
    client: httpx.AsyncClient, sessions: SessionStore
) -> None:
    waiting = [
        asyncio.create_task(ask(client, f"u{n % 5}", "clicks.0.7", timeout_ms=LONG_MS))
        for n in range(20)
    ]
    # One that gives up takes no other's answer with it.
    await asyncio.sleep(0.05)
    waiting.pop().cancel()
    assert not any(each.done() for each in waiting)
    await sessions.apply([logged(7, f"u{n}", "i1", kind="click") for n in range(5)])
    for answer in await asyncio.gather(*waiting):
        assert answer.status_code == 200
        assert answer.json()["session"]["marks"] == {"clicks/0": 7}


async def test_offsets_of_a_topic_that_was_made_anew_say_nothing(
    client: httpx.AsyncClient, redis: Redis, settings: Settings, sessions: SessionStore
) -> None:
    positions = PositionStore(redis, settings)
    await sessions.apply([logged(7, "ann", "i1", kind="click", topic_id="old")])
    await positions.advance({Place("clicks", "old", 0): 8})
    await positions.begin({"clicks": "old"})
    assert (await ask(client, "ann", "clicks.0.3", timeout_ms=0)).status_code == 200
    await positions.begin({"clicks": "new"})
    check_problem(await ask(client, "ann", "clicks.0.3", timeout_ms=0), 409, "clicks.0.3")
    await positions.advance({Place("clicks", "new", 0): 4})
    assert (await ask(client, "ann", "clicks.0.3", timeout_ms=0)).status_code == 200
    check_problem(await ask(client, "ann", "clicks.0.4", timeout_ms=0), 409, "clicks.0.4")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"user_id": "ann", "after": "clicks.1"}, "after"),
        ({"user_id": "ann", "after": ["clicks.1.2", "views.1.2"]}, "after"),
        ({"user_id": "ann", "after": "clicks.1.2", "timeout_ms": 10_001}, "timeout_ms"),
        ({"user_id": "ann", "after": ""}, "after"),
        ({"user_id": "ann", "after": ["clicks.1.2"] * 5_001}, "after"),
        ({"user_interactions": {}, "after": "clicks.1.2"}, "after"),
    ],
)
async def test_what_is_no_token_is_refused(
    client: httpx.AsyncClient, asked: dict[str, Any], field: str
) -> None:
    answer = await client.post("/v1/recommendations", json=asked)
    problem = check_problem(answer, 422)
    assert problem["errors"][0]["field"].startswith(field)
