"""Asking before each event, against a server whose answers are known."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from stub_server import StubServer

from headrace.catalog import Item
from headrace.errors import HeadraceError
from headrace.events import Rating
from headrace.local.demo.client import Client, RequestFailed, connect_client
from headrace.local.demo.figures import Figures, Hits
from headrace.local.demo.prequential import Prequential, PrequentialOptions, Schedule
from headrace.settings import Settings


@pytest.fixture
async def server() -> AsyncIterator[StubServer]:
    async with StubServer().running() as server:
        yield server


@pytest.fixture
async def client(server: StubServer) -> AsyncIterator[Client]:
    async with connect_client(Settings(url=server.url, api_key="secret")) as client:
        yield client


def _ratings(*pairs: str) -> list[Rating]:
    return [
        Rating(event_id=str(number), user_id=pair[0], item_id=pair[1], timestamp=number, rating=3)
        for number, pair in enumerate(pairs)
    ]


async def _run(client: Client, ratings: list[Rating], first: int, **options: float) -> Figures:
    figures = Figures(Hits(first, len(ratings) - first), len(ratings))
    chosen = PrequentialOptions(**{"events_per_second": 1_000.0, **options})  # type: ignore[arg-type]
    await Prequential(client, figures, chosen).run(ratings, first)
    return figures


async def test_hits_are_the_items_that_were_recommended(server: StubServer, client: Client) -> None:
    server.next_items = {"x": ["a", "b"], "y": ["c"]}
    figures = await _run(client, _ratings("xz", "xa", "yd", "xb", "yc"), 1, k=1)
    # k = 1: x is always recommended a, y always c. The first rating was sent before.
    assert figures.hits.model().tolist() == [1.0, 0.0, 0.0, 1.0]
    assert figures.sent == 4
    assert figures.failed_requests == 0
    assert [swap.version for swap in figures.swaps] == [server.version]
    assert server.authorizations == {"Bearer secret"}


async def test_a_users_events_go_one_after_another(server: StubServer, client: Client) -> None:
    await _run(client, _ratings(*("xa", "ya") * 30), 0, sample_every=1_000)
    for user_id in "xy":
        calls = [call for call, user in server.calls if user == user_id]
        # Position 0 is sampled, so that x is asked for more often in the beginning.
        sends = [place for place, call in enumerate(calls) if call == "send"]
        assert len(sends) == 30
        assert all(calls[place - 1] == "ask" for place in sends)


async def test_freshness_of_every_sampled_event(server: StubServer, client: Client) -> None:
    server.applied_after_s = 0.5
    figures = await _run(client, _ratings(*("xa",) * 10), 0, sample_every=5)
    assert len(figures.freshness) == 2
    assert figures.unseen == 0
    # The server's own delay, which began just before the acknowledgement arrived.
    assert figures.freshness.ms.min() > 25
    assert len(figures.requests) > 10 + 2


async def test_failures_are_counted_with_their_reason(server: StubServer, client: Client) -> None:
    server.failing_users = frozenset("x")
    figures = await _run(client, _ratings("xa", "xa", "ya"), 1)
    reason = 'POST /v1/recommendations: status 503, {"title":"as told"}'
    assert figures.failures == {reason: 1}
    assert figures.hits.model().tolist() == [0.0, 0.0]
    assert figures.sent == 2


async def test_a_server_that_has_too_much_in_hand_is_asked_again(
    server: StubServer, client: Client
) -> None:
    # More than the failures that are borne.
    server.turned_away = 300
    server.next_items = {"x": ["a"]}
    figures = await _run(client, _ratings(*("xa",) * 10), 0)
    assert (figures.failed_requests, figures.turned_away, figures.sent) == (0, 300, 10)
    assert figures.hits.model().tolist() == [1.0] * 10


async def test_one_that_has_for_too_long_has_failed(server: StubServer, client: Client) -> None:
    server.turned_away = 10**9
    figures = await _run(client, _ratings("xa"), 0, patience_s=-1.0)
    assert (figures.failed_requests, figures.sent) == (2, 0)


async def test_ticks_are_further_apart_after_a_pause() -> None:
    schedule = Schedule(1_000.0)
    first = await schedule.next()
    for _ in range(3):
        schedule.slow_down(0.05)
    ticks = [await schedule.next() for _ in range(3)]
    assert ticks[0] >= first + 0.05
    # Three at once count once: 1.5 of the usual millisecond, and less from tick to tick.
    assert ticks[1] - ticks[0] == pytest.approx(0.0015)
    assert ticks[2] - ticks[1] == pytest.approx(0.0015 * 0.995)


async def test_a_server_that_is_away_for_good_ends_the_demo() -> None:
    async with connect_client(Settings(url="http://127.0.0.1:9")) as client:
        with pytest.raises(HeadraceError, match="requests have failed"):
            await _run(client, _ratings(*("xa",) * 300), 0)


async def test_the_catalogue_goes_in_as_ndjson(server: StubServer, client: Client) -> None:
    await client.put_items([Item(item_id="1", title="Toy Story"), Item(item_id="2")])
    assert server.items == ['{"item_id":"1","title":"Toy Story"}', '{"item_id":"2"}']


async def test_an_answer_that_is_none_is_a_failure(server: StubServer, client: Client) -> None:
    with pytest.raises(RequestFailed, match="GET /v1/tasks: status 404"):
        await client.tasks()
