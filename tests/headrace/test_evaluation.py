"""Events scored against the lists before them, in a real Redis: which count, and that once."""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec
import pytest
from events_log import NOW, logged
from impression_tools import V1, V2, fold_scores, impression
from redis.asyncio import Redis

from headrace.evaluation import (
    ITEMS_A_LIST,
    LISTS,
    NOT_THE_MODELS,
    POPULAR,
    EvaluationStore,
    Score,
)
from headrace.settings import EvaluationSettings, Settings

TEN = [f"item-{n}" for n in range(10)]


@pytest.fixture
def store(redis: Redis, settings: Settings) -> EvaluationStore:
    return EvaluationStore(redis, settings)


def judged(scores: Mapping[str, Score]) -> int:
    """How many events were scored against lists."""
    return sum(score.events for label, score in scores.items() if label != POPULAR)


async def test_a_hit_counts_by_its_rank_and_a_miss_counts_as_none(store: EvaluationStore) -> None:
    await store.keep([impression("u", NOW, TEN)])
    await store.score([logged(0, item_id="item-0", timestamp=NOW + 1)])
    assert await store.read(NOW) == {V1: Score(1, 1, 1_000_000)}
    await store.score([logged(1, item_id="item-2", timestamp=NOW + 2)])
    # 1 / log2(1 + 3) = 1/2
    assert await store.read(NOW) == {V1: Score(2, 2, 1_500_000)}
    await store.score([logged(2, item_id="another", timestamp=NOW + 3)])
    [score] = (await store.read(NOW)).values()
    assert score == Score(3, 2, 1_500_000)
    assert (score.hit_rate, score.ndcg) == (2 / 3, 0.5)


async def test_the_last_list_before_the_event_is_judged_whichever_came_first(
    store: EvaluationStore,
) -> None:
    first, second = impression("u", NOW, TEN), impression("u", NOW + 10, TEN[::-1], version=V2)
    await store.keep([second])
    await store.keep([first])
    early, late = (
        logged(0, item_id="item-0", timestamp=NOW + 9),
        logged(1, item_id="item-0", timestamp=NOW + 10),
    )
    before_both = logged(2, item_id="item-0", timestamp=NOW - 1)
    assert judged(await store.score([early, late, before_both])) == 2
    assert await store.read(NOW) == {V1: Score(1, 1, 1_000_000), V2: Score(1, 1, 289_065)}


async def test_popular_items_are_judged_by_the_same_events(store: EvaluationStore) -> None:
    await store.keep([impression("u", NOW, TEN, met=["met"])])
    popular = ["met", "item-0", "item-5", *(f"other-{n}" for n in range(20))]
    hits = [
        # Without what the user had met it is the second one, 1 / log2(3); then the first.
        logged(0, item_id="item-5", timestamp=NOW + 1),
        logged(1, item_id="item-0", timestamp=NOW + 2),
    ]
    assert await store.score(hits, popular) == {
        V1: Score(2, 2, 356_207 + 1_000_000),
        POPULAR: Score(2, 2, 630_930 + 1_000_000),
    }
    # Without the three that are behind the user: the eleventh, then the ninth, 1 / log2(10).
    misses = [
        logged(2, item_id="other-10", timestamp=NOW + 3),
        logged(3, item_id="other-8", timestamp=NOW + 4),
    ]
    assert await store.score(misses, popular) == {V1: Score(2), POPULAR: Score(2, 1, 301_030)}
    assert await store.score(misses, popular) == {}
    assert (await store.read(NOW)).keys() == {V1}


async def test_only_positive_events_judge_a_list(store: EvaluationStore) -> None:
    await store.keep([impression("u", NOW, TEN)])
    at = NOW + 1
    events = [
        logged(0, item_id="item-0", timestamp=at, rating=3.5),
        logged(1, item_id="item-1", timestamp=at, kind="purchase", rating=1.0),
        logged(2, item_id="item-2", timestamp=at, kind="purchase", rating=None),
        logged(3, item_id="item-3", timestamp=at, kind="click"),
        logged(4, item_id="item-4", timestamp=at, rating=4.0),
    ]
    assert judged(await store.score(events)) == 3


async def test_a_list_is_judged_only_if_nothing_but_the_session_had_a_say_in_it(
    store: EvaluationStore,
) -> None:
    limits: list[dict[str, object]] = [
        {"candidates": 20}, {"excluded": 1}, {"shown": 10}, {"filter": {"year": {"eq": 1}}},
        {"diversity": 0.2}, {"stability": 3}, {"k": 9},
    ]  # fmt: skip
    lists = [impression("u", NOW + n, TEN, **asked) for n, asked in enumerate(limits)]
    await store.keep([*lists, impression(None, NOW, TEN)])
    assert judged(await store.score([logged(0, item_id="item-0", timestamp=NOW + 60)])) == 0
    # A longer list is judged by its beginning.
    await store.keep([impression("u", NOW, [*TEN, "item-10"], version=None)])
    events = [logged(n, item_id=f"item-{n}", timestamp=NOW + 60) for n in (9, 10)]
    assert judged(await store.score(events)) == 2
    assert await store.read(NOW) == {NOT_THE_MODELS: Score(2, 1, 289_065)}


async def test_what_a_list_left_out_because_it_was_met_does_not_judge_it(
    store: EvaluationStore,
) -> None:
    await store.keep([impression("u", NOW, TEN, met=["met"])])
    await store.keep([impression("v", NOW, ["met", *TEN], met=["met"], recommend_seen=True)])
    at = NOW + 1
    click = logged(0, "u", "item-1", at, kind="click")
    # Bought after it was clicked: the same choice.
    purchase = logged(0, "u", "item-1", at + 1, kind="purchase", rating=None)
    assert (
        judged(await store.score([logged(1, "u", "met", at, kind="click"), click, purchase])) == 1
    )
    assert judged(await store.score([logged(2, "v", "met", at, kind="click")])) == 1


async def test_the_same_events_again_in_any_batches_count_once(
    store: EvaluationStore, redis: Redis, settings: Settings
) -> None:
    rng = random.Random(5)
    users = [f"user-{n}" for n in range(30)]
    lists = [
        impression(user, NOW + 100 * turn + rng.random(), rng.sample([*TEN, *users], 10),
                   version=rng.choice([V1, V2, None]), met=rng.sample(TEN, 3),
                   recommend_seen=rng.random() < 0.3)
        for user in users for turn in range(LISTS + 2)
    ]  # fmt: skip
    rng.shuffle(lists)
    kinds = ["click", "rating", "purchase"]
    events = [
        logged(number, rng.choice(users), rng.choice(TEN), NOW + rng.random() * 800,
               kind=rng.choice(kinds), rating=rng.choice([2.0, 5.0]), partition=number % 3)
        for number in range(2_000)
    ]  # fmt: skip
    for first in range(0, len(lists), 50):
        await store.keep(lists[first : first + 50])
    wanted = fold_scores(lists, events, settings)
    assert sum(score.hits for score in wanted.values()) > 20
    position = 0
    while position < len(events):
        # Killed after the batch was scored, before its position was stored: it comes again, longer.
        batch = events[position : position + rng.randrange(1, 300)]
        await store.score(batch)
        if rng.random() < 0.5:
            position += len(batch)
        else:
            # Lists that are delivered again, too, change nothing.
            await store.keep(rng.sample(lists, 20))
    assert await store.read(NOW) == wanted
    # Sent again by a producer, at other offsets.
    again = [msgspec.structs.replace(each, offset=each.offset + 9_999) for each in events[:500]]
    assert judged(await store.score(again)) == 0
    # A topic that was made anew begins again; what was scored stays.
    anew = [msgspec.structs.replace(logged(0, "u"), topic_id="second", offset=0)]
    await store.score(anew)
    assert await store.read(NOW) == wanted


async def test_what_left_the_window_counts_no_more_and_is_forgotten(
    redis: Redis, settings: Settings
) -> None:
    window_s = 3600.0 * 24
    evaluation = EvaluationSettings(window_s=window_s)
    store = EvaluationStore(redis, msgspec.structs.replace(settings, evaluation=evaluation))
    for day in range(4):
        at = NOW + day * window_s
        await store.keep([impression("u", at, TEN)])
        await store.score([logged(day, item_id="item-0", timestamp=at + 1)])
    # Past the time slice of an hour that reaches into the window.
    now = NOW + 3 * window_s + 7_200
    assert await store.read(now) == {V1: Score(1, 1, 1_000_000)}
    assert await store.read(now + 2 * window_s) == {}
    [key] = [key async for key in redis.scan_iter(settings.key("evaluation", "*counts"))]
    assert len({field.split(b"/")[0] for field in await redis.hgetall(key)}) <= 2


async def test_a_list_is_judged_by_so_many_events_and_for_so_long(
    store: EvaluationStore, settings: Settings
) -> None:
    await store.keep([impression("u", NOW, TEN)])
    late = logged(0, item_id="item-0", timestamp=NOW + settings.impressions.ttl_s + 1)
    assert judged(await store.score([late])) == 0
    many = [logged(n, item_id=f"other-{n}", timestamp=NOW + 1) for n in range(1, ITEMS_A_LIST + 20)]
    assert judged(await store.score(many)) == ITEMS_A_LIST


async def test_of_a_user_who_is_forgotten_no_list_is_left(
    store: EvaluationStore, redis: Redis, settings: Settings
) -> None:
    await store.keep([impression(user, NOW, TEN) for user in ("u", "v")])
    await store.forget("u", until=NOW)
    await store.forget("nobody", until=NOW)
    assert judged(await store.score([logged(0, "u", "item-0", NOW + 1)])) == 0
    assert judged(await store.score([logged(1, "v", "item-0", NOW + 1)])) == 1
    assert not [key async for key in redis.scan_iter(settings.key("*:u"))]


async def test_lists_that_were_served_after_an_erasure_stay_when_it_is_carried_out_again(
    store: EvaluationStore, redis: Redis, settings: Settings
) -> None:
    """As every worker does that begins within a day."""
    # The one served ten seconds after may have been made of what was being erased.
    await store.keep([impression("u", at, TEN) for at in (NOW, NOW + 20, NOW + 21)])
    await store.forget("u", until=NOW + 10)
    assert judged(await store.score([logged(0, "u", "item-0", NOW + 20.5)])) == 0
    assert judged(await store.score([logged(1, "u", "item-0", NOW + 25)])) == 1
    [key] = [key async for key in redis.scan_iter(settings.key("*:u"))]
    assert 0 < await redis.ttl(key) <= settings.impressions.ttl_s


async def test_an_event_that_was_scored_does_not_judge_a_list_that_comes_late(
    store: EvaluationStore,
) -> None:
    await store.keep([impression("u", NOW, TEN)])
    event = logged(0, item_id="item-0", timestamp=NOW + 9)
    assert judged(await store.score([event])) == 1
    await store.keep([impression("u", NOW + 5, TEN, version=V2)])
    assert judged(await store.score([event])) == 0
    assert set(await store.read(NOW)) == {V1}
