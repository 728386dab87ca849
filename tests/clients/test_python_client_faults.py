"""The Python client while the server is slow, refuses, loses answers, or is killed."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import httpx
import msgspec
import pytest
from client_parts import KEY, FaultyProxy, until_ready
from parts import Part, eventually

from headrace.keys import KeyStore, make_key
from headrace.settings import Settings
from headrace.store import connect
from headrace_client import (
    AcceptedEvent,
    AsyncBatcher,
    AsyncClient,
    Batcher,
    Client,
    Ended,
    HeadraceError,
    RecommendationRequest,
    Retries,
    Unauthorized,
    Unavailable,
    UnknownEvent,
    Unreachable,
    Unreadable,
    Update,
    click,
    tokens,
)

QUICK = Retries(first_s=0.01, longest_s=0.05)
PATIENT = Retries(attempts=1_000, first_s=0.05, longest_s=0.2, within_s=60)


@pytest.fixture
def user() -> str:
    return f"user-{uuid.uuid4().hex[:8]}"


@pytest.mark.parametrize("faults", [["503"], ["503", "503"], ["lost"], ["slow", "lost", "503"]])
def test_an_event_arrives_in_spite_of_faults_and_counts_once(
    url: str, user: str, faults: Sequence[str]
) -> None:
    proxy = FaultyProxy(url, faults)
    with proxy.in_thread() as address, Client(address, KEY, timeout_s=2, retries=QUICK) as client:
        sent = client.send_events([click(user, "tea")])
        assert sent.accepted == 1
        asked = RecommendationRequest(user_id=user, after=tokens(sent), timeout_ms=10_000)
        assert client.recommend(asked).session.interactions == 1
        assert proxy.requests.count("POST /v1/events") == len(faults) + 1


async def test_faults_that_do_not_end_are_told(url: str, user: str) -> None:
    proxy = FaultyProxy(url, ["503"] * 4 + ["slow"])
    async with proxy.running() as address:
        async with AsyncClient(address, KEY, retries=Retries(attempts=4, first_s=0.01)) as client:
            with pytest.raises(Unavailable):
                await client.send_events([click(user, "tea")])
        once = Retries(attempts=1)
        async with AsyncClient(address, KEY, timeout_s=0.3, retries=once) as client:
            with pytest.raises(Unreachable) as away:
                await client.trending()
    assert not away.value.not_sent


async def test_what_may_not_be_done_twice_is_not_repeated(url: str) -> None:
    proxy = FaultyProxy(url, ["lost", "503"])
    async with proxy.running() as address, AsyncClient(address, KEY, retries=QUICK) as client:
        with pytest.raises(Unreachable):
            await client.roll_back("default")
        with pytest.raises(Unavailable):
            await client.roll_back("default")
    assert len(proxy.requests) == 2


async def test_the_server_says_when_to_ask_again(url: str) -> None:
    waits: list[float] = []
    began = time.monotonic()

    def busy(_: httpx.Request) -> httpx.Response:
        waits.append(time.monotonic() - began)
        return httpx.Response(
            429 if len(waits) == 1 else 200, headers={"Retry-After": "1"}, json={"items": []}
        )

    http = httpx.AsyncClient(transport=httpx.MockTransport(busy))
    async with AsyncClient(url, retries=QUICK, http=http) as client:
        await client.trending()
    assert len(waits) == 2
    assert waits[1] >= 1


@pytest.mark.parametrize("status", ["401", "403", "429", "500", "503"])
async def test_a_part_of_many_events_that_was_not_sent_is_unknown(
    url: str, user: str, status: str
) -> None:
    proxy = FaultyProxy(url, ["", status, status])
    events = [click(user, f"item-{n}") for n in range(5_003)]
    few = Retries(attempts=2, first_s=0.01)
    async with proxy.running() as address, AsyncClient(address, KEY, retries=few) as client:
        sent = await client.send_events(events)
    assert (sent.accepted, sent.unknown) == (5_000, 3)
    assert [outcome.event_id for outcome in sent.events] == [event.event_id for event in events]
    assert isinstance(sent.events[-1], UnknownEvent)
    assert sent.events[-1].reason.startswith(status)


def half(request: httpx.Request) -> httpx.Response:
    """Answer as a server whose Kafka has acknowledged the first event, and then refuses the key."""
    first, *others = [msgspec.json.decode(line) for line in request.content.splitlines()]
    if first["item_id"] == "cup":
        return httpx.Response(401)
    known = {"topic": "clicks", "partition": 0, "offset": 7, "token": "clicks.0.7"}
    outcomes = [
        {"status": "accepted", "event_id": first["event_id"], **known},
        *({"status": "unknown", "event_id": each["event_id"], "reason": ""} for each in others),
    ]
    counts = {"accepted": 1, "invalid": 0, "unknown": len(others)}
    return httpx.Response(202, json={**counts, "events": outcomes})


async def test_what_was_accepted_is_told_though_the_others_are_refused_when_they_are_sent_again(
    user: str,
) -> None:
    events = [click(user, "tea"), click(user, "cup")]
    transport = httpx.MockTransport(half)
    for_tasks = AsyncClient(
        "http://localhost", retries=QUICK, http=httpx.AsyncClient(transport=transport)
    )
    async with for_tasks as client:
        told = (await client.send_events(events)).events
        async with AsyncBatcher(client) as batcher:
            told += [await each for each in [await batcher.add(event) for event in events]]
    for_threads = Client("http://localhost", retries=QUICK, http=httpx.Client(transport=transport))
    with for_threads as blocking:
        told += blocking.send_events(events).events
        with Batcher(blocking) as batched:
            outcomes = [batched.add(event) for event in events]
        told += [outcome.result(0) for outcome in outcomes]
    assert [each.event_id for each in told] == [event.event_id for event in events] * 4
    assert [type(each) for each in told] == [AcceptedEvent, UnknownEvent] * 4
    assert all("401" in each.reason for each in told if isinstance(each, UnknownEvent))


async def test_when_no_event_was_accepted_the_call_raises(user: str) -> None:
    http = httpx.AsyncClient(transport=httpx.MockTransport(half))
    async with AsyncClient("http://localhost", retries=QUICK, http=http) as client:
        with pytest.raises(Unauthorized):
            await client.send_events([click(user, "cup"), click(user, "tea")])


async def test_a_stream_goes_on_where_it_was_though_the_server_is_killed(
    url: str, server: Part, user: str
) -> None:
    async with AsyncClient(url, KEY, retries=PATIENT) as client:
        sent = await client.send_events([click(user, "cup")])
        seen = RecommendationRequest(user_id=user, after=tokens(sent), timeout_ms=10_000)
        await client.recommend(seen)
        await until_settled(client)
        states: list[HeadraceError | None] = []
        async with aclosing(client.stream(user, k=3, on_state=states.append)) as updates:
            first = await anext(updates)
            assert first.answer.session.interactions == 1

            server.end(signal.SIGKILL)
            server.start()
            await until_ready(url)
            # Opened again with the id of the list, the stream says nothing until there is news.
            following = asyncio.create_task(anext(updates))
            await asyncio.sleep(3)
            assert not following.done()
            assert states[0] is states[-1] is None
            assert any(isinstance(each, Unreachable) for each in states)
            await client.send_event(click(user, "pot"))
            second = await asyncio.wait_for(following, 30)
            assert second.id != first.id
            assert second.answer.session.interactions == 2


async def test_a_stream_says_that_its_key_was_revoked_and_is_then_refused(
    system: tuple[Settings, Part], user: str
) -> None:
    settings = system[0]
    key, text = make_key(("recommend",), now=0.0)
    redis = connect(settings)
    keys = KeyStore(redis, settings)
    await keys.add(key)
    states: list[HeadraceError | None] = []
    try:
        async with AsyncClient(settings.url, text) as client:

            async def known() -> bool:
                with contextlib.suppress(Unauthorized):
                    return bool((await client.key()).scopes)
                return False

            await eventually(known, "the server knows the key")
            async with aclosing(client.stream(user, k=3, on_state=states.append)) as updates:
                await anext(updates)
                await keys.remove(key.id)
                with pytest.raises(Unauthorized):
                    await asyncio.wait_for(rest_of(updates), 30)
    finally:
        await redis.aclose()
    assert [type(each) for each in states] == [type(None), Ended]
    assert str(states[1]) == "The API key was revoked."


@pytest.mark.parametrize(
    ("name", "data"),
    [("recommendations", b"{}"), ("recommendations", b'{"id": "\xff"}'), ("end", b"[]")],
)
async def test_what_comes_over_a_stream_and_is_none_of_headrace_s_is_told(
    name: str, data: bytes
) -> None:
    # What an event of another name brings is nobody's business yet.
    sent = b"event: later\ndata: 1\n\nevent: %b\ndata: %b\n\n" % (name.encode(), data)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=sent))
    http = httpx.AsyncClient(transport=transport)
    async with AsyncClient("http://localhost", http=http) as client:
        with pytest.raises(Unreadable, match="sends over a stream what is no list"):
            await anext(client.stream("anyone"))


async def rest_of(updates: AsyncIterator[Update]) -> None:
    """Read a stream for as long as it goes on."""
    async for _ in updates:
        pass


async def until_settled(client: AsyncClient) -> None:
    """Wait until other tests' events change no list any more."""
    shown = await client.trending(k=500)
    while True:
        await asyncio.sleep(1.2)
        if shown == (shown := await client.trending(k=500)):
            return


async def test_calls_outlive_a_server_that_is_killed_and_comes_back(
    url: str, server: Part, user: str
) -> None:
    async with AsyncClient(url, KEY, retries=PATIENT) as client:
        server.end(signal.SIGKILL)
        calls = asyncio.gather(
            client.send_events([click(user, "tea")]), client.trending(), client.ready()
        )
        await asyncio.sleep(0.3)
        server.start()
        sent, _, ready = await calls
    assert sent.accepted == 1
    assert ready.ready


async def test_a_batcher_sends_together_what_comes_one_by_one(url: str, user: str) -> None:
    proxy = FaultyProxy(url, [])
    events = [click(user, f"item-{n}") for n in range(250)]
    async with proxy.running() as address, AsyncClient(address, KEY) as client:
        async with AsyncBatcher(client, most=100, within_s=60) as batcher:
            outcomes = [await batcher.add(event) for event in events]
            await asyncio.gather(*outcomes[:200])
            await batcher.flush()
            assert all(outcome.done() for outcome in outcomes)
            last = await batcher.add(click(user, "last"))
        told = [await outcome for outcome in [*outcomes, last]]
        with pytest.raises(RuntimeError):
            await batcher.add(events[0])
    assert [each.event_id for each in told[:250]] == [event.event_id for event in events]
    assert proxy.requests == ["POST /v1/events"] * 4


def test_a_batcher_for_threads_sends_together_what_comes_one_by_one(url: str, user: str) -> None:
    proxy = FaultyProxy(url, ["lost"])
    events = [click(user, f"item-{n}") for n in range(250)]
    with proxy.in_thread() as address, Client(address, KEY, retries=QUICK) as client:
        with Batcher(client, most=100, within_s=60) as batcher:
            outcomes = [batcher.add(event) for event in events]
            outcomes[199].result(60)
            batcher.flush()
            assert all(outcome.done() for outcome in outcomes)
            last = batcher.add(click(user, "last"))
        told = [outcome.result(0) for outcome in [*outcomes, last]]
        with pytest.raises(RuntimeError):
            batcher.add(events[0])
    assert [each.event_id for each in told[:250]] == [event.event_id for event in events]
    assert len(proxy.requests) == 5


async def test_whoever_waits_for_an_outcome_hears_that_the_server_is_away(user: str) -> None:
    away = AsyncClient("http://127.0.0.1:9", retries=Retries(attempts=1))
    async with away as client, AsyncBatcher(client) as batcher:
        outcome = await batcher.add(click(user, "tea"))
        await batcher.flush()
        with pytest.raises(Unreachable):
            await outcome
    with Client("http://127.0.0.1:9", retries=Retries(attempts=1)) as blocking:
        with Batcher(blocking) as for_threads:
            told = for_threads.add(click(user, "tea"))
        with pytest.raises(Unreachable):
            told.result(0)


async def test_whoever_gives_up_on_a_batcher_leaves_nobody_waiting(user: str) -> None:
    never = Retries(attempts=1_000, first_s=60, longest_s=60, within_s=600)
    async with AsyncClient("http://127.0.0.1:9", retries=never) as client:
        batcher = AsyncBatcher(client, most=2, within_s=0.01)
        outcomes = [await batcher.add(click(user, f"item-{n}")) for n in range(3)]
        for give_up_on in (batcher.flush, batcher.close):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(give_up_on(), 0.1)
            assert not batcher._flushing
        assert all(outcome.cancelled() for outcome in outcomes)


def test_an_event_that_is_withdrawn_before_its_call_is_not_sent(url: str, user: str) -> None:
    with Client(url, KEY, retries=QUICK) as client, Batcher(client, within_s=60) as batcher:
        withdrawn, sent = (batcher.add(click(user, item)) for item in ("tea", "milk"))
        assert withdrawn.cancel()
        batcher.flush()
        assert sent.result(0).event_id
        asked = RecommendationRequest(user_id=user, after=sent.result(0).token, timeout_ms=10_000)
        assert client.recommend(asked).session.interactions == 1
