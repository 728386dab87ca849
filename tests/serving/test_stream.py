"""Streams of lists from a server's own process: a new list whenever the session changes."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from events_log import logged
from impression_tools import impression
from parts import Part, eventually
from redis.asyncio import Redis
from serving_tools import RING, V1, V2, activate, check_problem, ring, walk

from headrace.impressions import ImpressionStore
from headrace.local.ports import claim_port
from headrace.sessions import SessionStore
from headrace.settings import ServingSettings, Settings
from headrace.topics import ensure_topics
from serving.schemas.recommendations import RecommendationRequest
from serving.services import create_services

WITHIN_S = 30.0


class Stream:
    """The events of an open stream."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()
        self.last_id = ""
        self.heartbeats = 0
        self.retry = 0

    async def next(self) -> dict[str, Any]:
        """Return the next list."""
        return await asyncio.wait_for(self._next(), WITHIN_S)

    async def _next(self) -> dict[str, Any]:
        fields: dict[str, str] = {}
        async for line in self._lines:
            name, _, value = line.partition(": ")
            if line == ": heartbeat":
                self.heartbeats += 1
            elif name == "retry":
                self.retry = int(value)
            elif line:
                fields[name] = value
            elif fields:
                assert fields["event"] == "recommendations"
                self.last_id = fields["id"]
                return dict(json.loads(fields["data"]))
        raise EOFError

    async def beat(self) -> None:
        """Wait for a heartbeat, before which no list comes."""
        before = self.heartbeats
        async for line in self._lines:
            assert not line.startswith("data"), line
            if line == ": heartbeat":
                self.heartbeats += 1
                break
        assert self.heartbeats == before + 1


@asynccontextmanager
async def open_stream(
    client: httpx.AsyncClient, user_id: str, last_id: str = "", **params: Any
) -> AsyncIterator[Stream]:
    headers = {"last-event-id": last_id} if last_id else {}
    url = f"/v1/users/{user_id}/recommendations/stream"
    async with client.stream("GET", url, params=params, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        yield Stream(answer)


def ids(answer: dict[str, Any]) -> list[str]:
    return [row["id"] for row in answer["recommendations"]]


@pytest.fixture
async def served(
    settings: Settings, tmp_path: Path, add_version: Callable[[str], Path]
) -> AsyncIterator[tuple[httpx.AsyncClient, Part]]:
    """A client of a server of this test's own, with a version live, and the server."""
    port = claim_port(0, host="127.0.0.1", use="a test's server", option="")
    serving = ServingSettings(port=port, streams_limit=3, heartbeat_s=0.3, follow_s=0.05)
    settings = msgspec.structs.replace(settings, serving=serving)
    ensure_topics(settings)
    add_version(V1)
    with Part("serve", settings, tmp_path) as server:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=WITHIN_S
        ) as client:

            async def answers() -> bool:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(answers, "the server is ready")
            await activate(client, V1)
            yield client, server


async def test_a_new_list_comes_whenever_the_session_changes(
    served: tuple[httpx.AsyncClient, Part], sessions: SessionStore
) -> None:
    client, _ = served
    await walk(sessions, "ann", 0, 1)
    async with open_stream(client, "ann", k=5) as stream, open_stream(client, "bob") as bob:
        assert stream.answer.headers["content-type"].startswith("text/event-stream")
        assert stream.answer.headers["cache-control"] == "no-store"
        first = await stream.next()
        assert stream.retry > 0
        asked = {"user_id": "ann", "k": 5}
        answer = (await client.post("/v1/recommendations", json=asked)).json()
        assert {**first, "id": ""} == {**answer, "id": ""}
        assert "Nothing is known of this user" in (await bob.next())["message"]
        for number in range(2, 6):
            await walk(sessions, "ann", number, first=number)
            told = await stream.next()
            assert told["session"]["marks"] == {"ratings/0": number}
            assert ring(number) not in ids(told)
        # Nothing of it is bob's; the server shows that it is there.
        await bob.beat()
        # An event that is delivered again changes nothing.
        await walk(sessions, "ann", 5, first=5)
        await stream.beat()


async def test_a_stream_is_resumed_where_it_was(
    served: tuple[httpx.AsyncClient, Part], sessions: SessionStore
) -> None:
    client, _ = served
    await walk(sessions, "ann", 0)
    async with open_stream(client, "ann") as stream:
        await stream.next()
    async with open_stream(client, "ann", stream.last_id) as again:
        await again.beat()
        await walk(sessions, "ann", 1, first=1)
        assert (await again.next())["session"]["marks"] == {"ratings/0": 1}
    await walk(sessions, "ann", 2, first=2)
    async with open_stream(client, "ann", again.last_id) as missed:
        assert (await missed.next())["session"]["marks"] == {"ratings/0": 2}


async def test_a_stream_has_the_limits_and_the_reasons_that_it_was_asked_for(
    served: tuple[httpx.AsyncClient, Part], sessions: SessionStore
) -> None:
    client, _ = served
    evens = [{"item_id": ring(n), "categories": ["even"]} for n in range(0, RING, 2)]
    assert (await client.post("/v1/items", json=evens)).status_code == 202
    await walk(sessions, "ann", 1, 2)
    even = {"categories": {"any": ["even"]}}
    asked = {"user_id": "ann", "k": 6, "filter": even, "diversity": 0.5, "explain": True}
    limits = {"k": 6, "category": "even", "diversity": 0.5, "explain": "true"}
    async with (
        open_stream(client, "ann", **limits) as limited,
        open_stream(client, "ann", k=6) as plain,
    ):
        for number in (3, 4):
            told = await limited.next()
            answer = (await client.post("/v1/recommendations", json=asked)).json()
            assert {**told, "id": ""} == {**answer, "id": ""}
            assert set(ids(told)) <= {each["item_id"] for each in evens}
            assert any(row["because"] for row in told["recommendations"])
            unlimited = await plain.next()
            assert set(ids(unlimited)) - {each["item_id"] for each in evens}
            assert not any("because" in row for row in unlimited["recommendations"])
            await walk(sessions, "ann", number, first=number - 1)


async def test_another_version_and_a_deleted_item_make_a_new_list(
    served: tuple[httpx.AsyncClient, Part],
    sessions: SessionStore,
    redis: Redis,
    settings: Settings,
    add_version: Callable[[str], Path],
) -> None:
    client, _ = served
    await walk(sessions, "ann", 0)
    async with open_stream(client, "ann") as stream:
        first = await stream.next()
        add_version(V2)
        await activate(client, V2)
        told = await stream.next()
        assert (told["model"]["version"], ids(told)) == (V2, ids(first))
        assert (await client.delete(f"/v1/items/{ids(told)[3]}")).status_code == 202
        assert ids(told)[3] not in ids(await stream.next())


async def test_no_more_items_change_than_are_allowed(
    served: tuple[httpx.AsyncClient, Part], sessions: SessionStore
) -> None:
    client, _ = served
    await walk(sessions, "ann", 0)
    async with open_stream(client, "ann", k=8, stability=1) as stream:
        shown = ids(await stream.next())
        for at, number in enumerate((20, 33, 7), start=1):
            await sessions.apply([logged(at, "ann", ring(number), 2e9 + at, rating=5.0)])
            told = ids(await stream.next())
            assert len(told) == len(set(told)) == 8
            may_stay = set(shown) - {ring(number)}
            new = set(told) - set(shown)
            assert new
            assert len(new) <= 1 + len(set(shown) - may_stay)
            assert ring(number) not in told
            shown = told


async def test_a_stream_with_stability_goes_on_from_what_it_showed(
    served: tuple[httpx.AsyncClient, Part],
    sessions: SessionStore,
    redis: Redis,
    settings: Settings,
) -> None:
    client, _ = served
    await walk(sessions, "ann", 0)
    async with open_stream(client, "ann", k=8, stability=1) as stream:
        told = await stream.next()
        # As a worker does with what was logged.
        kept = msgspec.structs.replace(impression("ann", 1.0, ids(told)), id=told["id"])
        await ImpressionStore(redis, settings).keep([(kept, msgspec.json.encode(kept))])
    # Meanwhile the user goes to the other side of the ring.
    await walk(sessions, "ann", 20, 21, 22, first=1)
    async with open_stream(client, "ann", stream.last_id, k=8, stability=1) as again:
        gone = set(ids(told)) & {ring(20), ring(21), ring(22)}
        new = set(ids(await again.next())) - set(ids(told))
        assert len(new) <= 1 + len(gone)
    # Another user has not seen it, and begins anew; so does who had a list that nobody knows.
    await walk(sessions, "bob", 20, 21, 22)
    unknown = stream.last_id.partition(".")[0] + "." + "0" * 32
    for user_id, last_id in (("bob", stream.last_id), ("ann", unknown)):
        async with open_stream(client, user_id, last_id, k=8, stability=1) as anew:
            asked = {"user_id": user_id, "k": 8}
            best = (await client.post("/v1/recommendations", json=asked)).json()
            assert ids(await anew.next()) == ids(best)


async def test_two_lists_of_a_user_have_two_ids(
    served: tuple[httpx.AsyncClient, Part], sessions: SessionStore
) -> None:
    client, _ = served
    await walk(sessions, "ann", 0)
    async with (
        open_stream(client, "ann", k=8) as free,
        open_stream(client, "ann", k=8, stability=0) as stable,
    ):
        await free.next()
        await stable.next()
        await walk(sessions, "ann", 20, first=1)
        one, other = await free.next(), await stable.next()
        assert ids(one) != ids(other)
        assert one["id"] != other["id"]
        assert stable.last_id.endswith(f".{other['id']}")


async def test_a_server_that_stops_ends_its_streams(
    served: tuple[httpx.AsyncClient, Part],
) -> None:
    client, server = served
    async with open_stream(client, "ann") as stream:
        await stream.next()
        ended = asyncio.create_task(asyncio.to_thread(server.end, signal.SIGTERM))
        with pytest.raises(EOFError):
            await stream.next()
        assert await ended == 0
    assert "graceful shutdown exceeded" not in server.log()


async def test_a_server_takes_so_many_streams_and_no_more(
    served: tuple[httpx.AsyncClient, Part],
) -> None:
    client, _ = served
    url = "/v1/users/ann/recommendations/stream"

    async def open_streams() -> str:
        lines = (await client.get("/metrics")).text.splitlines()
        return next(line for line in lines if line.startswith("headrace_open_streams "))

    async with open_stream(client, "a") as one, open_stream(client, "b") as two:
        async with open_stream(client, "c") as three:
            for stream in (one, two, three):
                await stream.next()
            assert await open_streams() == "headrace_open_streams 3.0"
            refused = await client.get(url)
            check_problem(refused, 503, "has 3 open")
            assert int(refused.headers["retry-after"]) > 0

        async def room() -> bool:
            return await open_streams() == "headrace_open_streams 2.0"

        await eventually(room, "the stream that was left is closed")
        async with open_stream(client, "d") as four:
            await four.next()


@pytest.mark.parametrize(
    "query",
    [
        "k=0",
        "k=501",
        "k=x",
        "recommend_seen=yes",
        "stability=-1",
        "stability=501",
        "category=",
        "diversity=1.1",
        "diversity=-0.1",
        "diversity=NaN",
        "diversity=much",
        "diversity=%ED%A0%80",
        "explain=1",
    ],
)
async def test_a_wrong_query_is_refused(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"/v1/users/ann/recommendations/stream?{query}")
    problem = check_problem(answer, 422)
    assert problem["errors"][0]["field"] == query.partition("=")[0]


async def test_who_reads_slowly_gets_the_newest_list(
    settings: Settings, sessions: SessionStore
) -> None:
    services = create_services(settings)
    follower = asyncio.create_task(services.of_topics[0].follow())
    asked = RecommendationRequest(user_id="ann")
    frames = services.feed.stream(asked, None, "")
    try:
        assert (await anext(frames)).startswith(b"retry: ")
        assert b'"applied":0' in await anext(frames)
        next_one = asyncio.create_task(anext(frames))  # type: ignore[arg-type]
        for number in range(3):
            await walk(sessions, "ann", number, first=number)
        assert b'"applied":' in await next_one
        for number in range(3, 9):
            await walk(sessions, "ann", number, first=number)
        # What came in between is left out.
        while b'"applied":9' not in (frame := await anext(frames)):
            assert b'"applied":3' in frame or b'"applied":2' in frame
        await frames.aclose()  # type: ignore[attr-defined]
        assert len(services.feed) == 0
    finally:
        follower.cancel()
        await services.redis.aclose()
        await services.producer.close()
