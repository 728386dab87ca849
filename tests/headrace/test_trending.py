"""Trending items: decayed counts, derived by hand, over several partitions, each event once."""

from __future__ import annotations

import msgspec
import pytest
from events_log import NOW, logged
from redis.asyncio import Redis

from headrace.aggregates import AggregateStore
from headrace.sessions import LoggedEvent
from headrace.settings import Settings, TrendingSettings
from headrace.trending import TrendingStore

HOUR = 3_600.0


@pytest.fixture
def store(redis: Redis, settings: Settings) -> Counts:
    return trending(redis, settings, half_life_s=HOUR, purchase_weight=3.0)


class Counts(TrendingStore):
    """Trending items, and the way to count events."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        super().__init__(redis, settings)
        self._aggregates = AggregateStore(redis, settings)

    async def apply(self, events: list[LoggedEvent]) -> int:
        return await self._aggregates.apply(events)


def trending(redis: Redis, settings: Settings, **changes: float) -> Counts:
    return Counts(
        redis,
        msgspec.structs.replace(settings, trending=TrendingSettings(**changes)),  # type: ignore[arg-type]
    )


async def test_counts_decay_by_half_in_a_half_life(store: Counts) -> None:
    # At NOW + 2 h: a = 1/4 + 1/2 = 3/4, b = 1, c = 3 · 1/4 = 3/4 (a purchase), together 5/2.
    await store.apply(
        [
            logged(0, item_id="a", timestamp=NOW),
            logged(1, item_id="a", timestamp=NOW + HOUR),
            logged(0, item_id="b", timestamp=NOW + 2 * HOUR, kind="click"),
            logged(0, item_id="c", timestamp=NOW, kind="purchase"),
        ]
    )
    top = await store.top(10)
    assert top[0] == ("b", pytest.approx(1 / 2.5))
    assert dict(top) == pytest.approx({"a": 0.75 / 2.5, "b": 1 / 2.5, "c": 0.75 / 2.5})
    assert await store.top(1) == top[:1]


async def test_late_events_count_what_is_left_of_them(store: Counts) -> None:
    for n, hours in enumerate((2, 0)):
        await store.apply([logged(n, item_id="a", timestamp=NOW + hours * HOUR)])
    await store.apply([logged(2, item_id="b", timestamp=NOW + 2 * HOUR)])
    assert dict(await store.top(2)) == pytest.approx({"a": 1.25 / 2.25, "b": 1 / 2.25})


async def test_an_item_is_added_up_over_partitions_and_topics(store: Counts) -> None:
    await store.apply(
        [logged(n, item_id="a", partition=n % 2, kind="click") for n in range(4)]
        + [logged(0, item_id="a", partition=3), logged(0, item_id="b", partition=1)]
    )
    assert dict(await store.top(2)) == pytest.approx({"a": 5 / 6, "b": 1 / 6})
    assert await store.events_counted() == 6


async def test_an_event_counts_once(store: Counts) -> None:
    batch = [logged(n, item_id=f"i{n % 2}") for n in range(10)]
    assert await store.apply(batch) == 10
    assert await store.apply(batch) == 0
    assert await store.apply([*batch[5:], logged(10, item_id="i0")]) == 1
    assert await store.events_counted() == 11
    assert dict(await store.top(2)) == pytest.approx({"i0": 6 / 11, "i1": 5 / 11})


async def test_a_topic_made_anew_counts_on(store: Counts) -> None:
    await store.apply([logged(n) for n in range(5)])
    assert await store.apply([logged(0, topic_id="second")]) == 1
    assert await store.events_counted() == 6


async def test_the_least_trending_items_are_dropped(redis: Redis, settings: Settings) -> None:
    store = trending(redis, settings, limit=10)
    await store.apply([logged(n, item_id=f"i{n}", timestamp=NOW + n) for n in range(30)])
    assert [item_id for item_id, _ in await store.top(100)] == [f"i{n}" for n in range(29, 19, -1)]
    assert await store.events_counted() == 30


async def test_a_lower_limit_holds_from_the_next_new_item_on(
    redis: Redis, settings: Settings
) -> None:
    await trending(redis, settings, limit=20).apply(
        [logged(n, item_id=f"i{n}", timestamp=NOW + n) for n in range(20)]
    )
    store = trending(redis, settings, limit=10)
    await store.apply([logged(20, item_id="i20", timestamp=NOW + 20)])
    assert [item_id for item_id, _ in await store.top()] == [f"i{n}" for n in range(20, 10, -1)]


@pytest.mark.parametrize("half_life_s", [HOUR / 2, 3 * HOUR])
async def test_under_another_half_life_counts_go_on_from_what_is_left_of_them(
    redis: Redis, settings: Settings, half_life_s: float
) -> None:
    # At NOW + 2 h, by an hour: a = 1/4, b = 1, c = 1/2; c of another topic of the same partition.
    before = trending(redis, settings, half_life_s=HOUR)
    await before.apply(
        [
            logged(0, item_id="a", timestamp=NOW),
            logged(1, item_id="b", timestamp=NOW + 2 * HOUR),
            logged(0, item_id="c", timestamp=NOW + HOUR, kind="click"),
        ]
    )
    left = {"a": 0.25 / 1.75, "b": 1 / 1.75, "c": 0.5 / 1.75}
    assert dict(await before.top()) == pytest.approx(left)
    after = trending(redis, settings, half_life_s=half_life_s)
    # Before the first event and after it, of one topic, at the same time: d = 1.
    assert dict(await after.top()) == pytest.approx(left)
    again = [logged(1, item_id="b", timestamp=NOW + 2 * HOUR)]
    assert await after.apply(again) == 0
    assert dict(await after.top()) == pytest.approx(left)
    await after.apply([logged(2, item_id="d", timestamp=NOW + 2 * HOUR)])
    assert dict(await after.top()) == pytest.approx(
        {"a": 0.25 / 2.75, "b": 1 / 2.75, "c": 0.5 / 2.75, "d": 1 / 2.75}
    )
    # From there on by the new one, also of the topic without an event since: e comes twice when all
    # of them are worth half.
    later = NOW + 2 * HOUR + half_life_s
    await after.apply([logged(3, item_id="e", timestamp=later)])
    await after.apply([logged(1, item_id="e", timestamp=later, kind="click")])
    assert dict(await after.top()) == pytest.approx(
        {"a": 0.25 / 6.75, "b": 1 / 6.75, "c": 0.5 / 6.75, "d": 1 / 6.75, "e": 4 / 6.75}
    )


async def test_an_item_is_trending_while_it_counts_as_much_as_a_click_a_window_ago(
    redis: Redis, settings: Settings
) -> None:
    store = trending(redis, settings, half_life_s=HOUR, window_s=2 * HOUR, purchase_weight=3.0)
    # At NOW + 3 h a click of NOW counts 1/8, less than 1/4, the least; a purchase of then 3/8.
    await store.apply(
        [
            logged(0, item_id="clicked", kind="click"),
            logged(0, item_id="bought", kind="purchase"),
            logged(1, item_id="newest", timestamp=NOW + 3 * HOUR, kind="click"),
        ]
    )
    assert [item_id for item_id, _ in await store.top(9)] == ["newest", "bought"]
    ranked = await store.ranked()
    assert (ranked.trending, ranked.faded) == (await store.top(), ["clicked"])


async def test_an_event_sent_again_counts_once(store: Counts) -> None:
    first = logged(0, item_id="a")
    again = msgspec.structs.replace(first, offset=1)
    assert await store.apply([first, again]) == 1
    assert await store.apply([again]) == 0
    assert await store.events_counted() == 1


async def test_ages_of_events_do_not_overflow(redis: Redis, settings: Settings) -> None:
    store = trending(redis, settings, half_life_s=0.5, window_s=5e9)
    await store.apply(
        [logged(0, item_id="old", timestamp=0.0), logged(1, item_id="new", timestamp=4e9)]
    )
    assert await store.top(2) == [("new", pytest.approx(1.0)), ("old", 0.0)]


async def test_before_any_event_nothing_is_trending_and_asking_writes_nothing(
    store: Counts, redis: Redis, settings: Settings
) -> None:
    assert await store.top(5) == []
    assert await store.events_counted() == 0
    assert [key async for key in redis.scan_iter(f"{settings.namespace}:*")] == []
