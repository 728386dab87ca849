"""How often items were met, by hour and by day, in a real Redis."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from headrace import popularity
from headrace.popularity import KEPT, STEP_S, History, PopularityStore, PopularityTally
from headrace.settings import Settings

HOUR, DAY = 3_600, 86_400
MONDAY = 19_723 * DAY
"""2024-01-01, in Unix seconds."""


@pytest.fixture
def store(redis: Redis, settings: Settings) -> PopularityStore:
    return PopularityStore(redis, settings)


async def test_events_count_in_their_own_hour_and_day(store: PopularityStore) -> None:
    assert await store.read("tea", "day") == History([], [])
    tally = PopularityTally(store)
    tally.count([(MONDAY + 5, "tea"), (MONDAY + 2 * HOUR, "tea"), (MONDAY + 5, "mug")])
    await tally.tell()
    # What was told is not told again; what comes later and is older counts, too.
    tally.count([(MONDAY + 3_599.9, "tea"), (MONDAY + DAY, "mug")])
    await tally.tell()
    await tally.tell()
    assert await store.read("tea", "day") == History([MONDAY, MONDAY + DAY], [3, 0])
    hours = await store.read("tea", "hour")
    assert hours.at == [MONDAY + hour * HOUR for hour in range(25)]
    assert hours.events == [2, 0, 1, *[0] * 22]
    assert (await store.read("unknown", "day")).events == [0, 0]


async def test_the_newest_buckets_are_kept(
    store: PopularityStore, redis: Redis, settings: Settings
) -> None:
    tally = PopularityTally(store)
    days = 40
    for day in range(days):
        tally.count([(MONDAY + day * DAY, "tea")])
        if day % 3 == 0:
            await tally.tell()
    # Long after it: of the past nothing is kept.
    tally.count([(MONDAY, "tea")])
    await tally.tell()
    history = await store.read("tea", "day")
    assert history.at[-1] == MONDAY + (days - 1) * DAY
    assert history.events == [1] * KEPT["day"]
    assert (await store.read("tea", "hour")).events == [*[0] * 23, 1, *[0] * 23, 1]
    keys = [key async for key in redis.scan_iter(settings.state_key("popularity", "*"))]
    # Of hours two lie within the newest 48, and 48 buckets are kept, whichever those are.
    assert len(keys) <= KEPT["day"] + days + len(STEP_S)


async def test_of_a_bucket_the_items_met_most_are_kept(
    store: PopularityStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(popularity, "_ITEMS", 3)
    tally = PopularityTally(store)
    tally.count([(MONDAY, f"item-{n}") for n in range(6) for _ in range(n + 1)])
    await tally.tell()
    counts = [(await store.read(f"item-{n}", "day")).events for n in range(6)]
    assert counts == [[0], [0], [0], [4], [5], [6]]


async def test_what_redis_did_not_take_is_told_later(
    store: PopularityStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = PopularityTally(store)

    async def away(_: object) -> None:
        tally.count([(MONDAY, "tea")])
        raise RedisError("away")

    tally.count([(MONDAY, "tea")])
    with monkeypatch.context() as patch:
        patch.setattr(store, "add", away)
        with pytest.raises(RedisError):
            await tally.tell()
    await tally.tell()
    assert (await store.read("tea", "day")).events == [2]
