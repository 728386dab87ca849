"""Transitions in Redis: what a fold over the log comes to, each event once, within bounds."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import pytest
from events_log import fold_transitions, logged, stored_transitions
from redis.asyncio import Redis

from headrace.aggregates import REMEMBERED, STEPS, AggregateStore
from headrace.sessions import LoggedEvent
from headrace.settings import RulesSettings, SessionSettings, Settings
from headrace.topics import Place
from headrace.transitions import Positions, Transition, TransitionStore


class Kept(TransitionStore):
    """Transitions, and the way to keep them."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        super().__init__(redis, settings)
        self._aggregates = AggregateStore(redis, settings)

    async def apply(self, events: Sequence[LoggedEvent]) -> int:
        return await self._aggregates.apply(events)


@pytest.fixture
def store(redis: Redis, settings: Settings) -> Kept:
    return Kept(redis, settings)


async def read_all(
    store: Kept, positions: Positions, limit: int = 512
) -> tuple[Positions, list[Transition]]:
    every: list[Transition] = []
    while True:
        positions, transitions = await store.read_after(positions, limit)
        if not transitions:
            return positions, every
        every += transitions


def draw_log(rng: random.Random, count: int, users: int = 5) -> list[LoggedEvent]:
    """A log of three topics with two partitions, users keeping to theirs, and offsets with gaps."""
    offsets: dict[tuple[str, int], int] = {}
    log = []
    for _ in range(count):
        kind, user = rng.choice(["click", "purchase", "rating"]), rng.randrange(users)
        at = kind, user % 2
        offsets[at] = offsets.get(at, -1) + rng.choice([1, 1, 1, 2])
        item = f"item {rng.randrange(30)} é/'\""
        log.append(logged(offsets[at], f"user {user}", item, kind=kind, partition=user % 2))
    return log


async def test_by_hand(store: Kept, redis: Redis, settings: Settings) -> None:
    # Ann clicks a, then b, buys b, and clicks c; Bob's click stands between.
    log = [
        logged(0, "ann", "a", kind="click"),
        logged(1, "bob", "z", kind="click"),
        logged(2, "ann", "b", kind="click"),
        logged(0, "ann", "b", kind="purchase"),
        logged(3, "ann", "c", kind="click"),
    ]
    assert await store.apply(log) == 5
    positions, transitions = await store.read_after({})
    assert transitions == [
        Transition("clicks", "first", 0, 0, "a", ()),
        Transition("clicks", "first", 0, 1, "z", ()),
        Transition("clicks", "first", 0, 2, "b", ("a",)),
        Transition("clicks", "first", 0, 3, "c", ("b", "b", "a")),
        Transition("purchases", "first", 0, 0, "b", ("b", "a")),
    ]
    clicks, purchases = Place("clicks", "first", 0), Place("purchases", "first", 0)
    assert positions == {clicks: 3, purchases: 0}
    assert await store.read_after(positions) == (positions, [])
    assert await store.read_after({clicks: 2}) == (positions, transitions[3:])


async def test_ten_items_before_are_kept(store: Kept) -> None:
    await store.apply([logged(at, "ann", f"i{at}") for at in range(14)])
    _, transitions = await store.read_after({})
    assert transitions[13].previous == tuple(f"i{at}" for at in range(12, 2, -1))
    assert transitions[9].previous == tuple(f"i{at}" for at in range(8, -1, -1))


async def test_an_event_sent_again_counts_once(store: Kept) -> None:
    first, second = logged(0, "ann", "a"), logged(1, "ann", "b")
    again = [msgspec.structs.replace(first, offset=2), msgspec.structs.replace(second, offset=3)]
    # In the same batch and in a later one; what comes between does not make it new.
    assert await store.apply([first, second, again[0]]) == 2
    assert await store.apply([again[1], logged(4, "ann", "c")]) == 1
    assert await store.apply([logged(6, "bob", "z")]) == 1
    _, transitions = await store.read_after({})
    assert [(at.offset, at.item_id, at.previous) for at in transitions] == [
        (0, "a", ()),
        (1, "b", ("a",)),
        (4, "c", ("b", "a")),
        (6, "z", ()),
    ]


async def test_what_is_remembered_of_a_user_is_bounded(
    store: Kept, redis: Redis, settings: Settings
) -> None:
    for first in range(0, 500, 100):
        await store.apply([logged(at, "ann", "i") for at in range(first, first + 100)])
    [key] = [key async for key in redis.scan_iter(settings.key("transitions", "*recent*"))]
    items, _, digests = (await redis.get(key)).partition(b"\n\n")
    assert (len(items.split()), len(digests.split())) == (STEPS, REMEMBERED)
    newest, forgotten = logged(499, "ann", "i"), logged(0, "ann", "i")
    assert await store.apply([msgspec.structs.replace(newest, offset=500)]) == 0
    assert await store.apply([msgspec.structs.replace(forgotten, offset=501)]) == 1


@pytest.mark.parametrize("seed", range(4))
async def test_redelivered_and_overlapping_batches_come_to_what_a_fold_comes_to(
    store: Kept, redis: Redis, settings: Settings, seed: int
) -> None:
    rng = random.Random(seed)
    log = draw_log(rng, 700)
    new, at = 0, 0
    while at < len(log):
        # The batch after a crash begins where some batch before it began.
        begins = max(0, at - rng.choice([0, 0, 3, 90]))
        ends = min(len(log), at + rng.choice([1, 7, 300]))
        new += await store.apply(log[begins:ends])
        at = ends
    assert new == len(log)
    assert await store.apply(log) == 0
    assert await stored_transitions(redis, settings) == fold_transitions(log)
    positions, transitions = await read_all(store, {}, limit=50)
    assert sorted(map(repr, transitions)) == sorted(
        repr(
            Transition(
                each.topic, each.topic_id, each.partition, each.offset, each.event.item_id, before
            )
        )
        for each, before in zip(log, _before(log), strict=True)
    )
    for place in positions:
        offsets = [at.offset for at in transitions if _place(at) == place]
        assert offsets == sorted(set(offsets))
        assert positions[place] == offsets[-1]


def _place(transition: Transition) -> Place:
    return Place(transition.topic, transition.topic_id, transition.partition)


def _before(log: Sequence[LoggedEvent]) -> list[tuple[str, ...]]:
    met: dict[str, list[str]] = {}
    before = []
    for each in log:
        items = met.setdefault(each.event.user_id, [])
        before.append(tuple(items[:10]))
        items.insert(0, each.event.item_id)
    return before


async def test_a_topic_made_anew_begins_another_stream(store: Kept) -> None:
    await store.apply([logged(at, "ann", f"old {at}") for at in range(3)])
    positions, _ = await store.read_after({})
    assert await store.apply([logged(0, "ann", "new", topic_id="second")]) == 1
    reached, transitions = await store.read_after(positions)
    assert transitions == [
        Transition("ratings", "second", 0, 0, "new", ("old 2", "old 1", "old 0"))
    ]
    assert reached == {**positions, Place("ratings", "second", 0): 0}


async def test_a_stream_keeps_its_newest_entries(redis: Redis, settings: Settings) -> None:
    small = msgspec.structs.replace(settings, rules=RulesSettings(window=1_000))
    store = Kept(redis, small)
    log = [logged(at, f"user {at % 7}", f"item {at}") for at in range(2_500)]
    for first in range(0, len(log), 500):
        await store.apply(log[first : first + 500])
    [(place, entries)] = (await stored_transitions(redis, small)).items()
    # Redis trims whole nodes of 100 entries at the most.
    assert 1_000 <= len(entries) <= 1_100
    assert entries == fold_transitions(log)[place][-len(entries) :]
    # A follower that came late passes over what is gone.
    _, transitions = await read_all(store, {place: 3})
    assert [at.offset for at in transitions] == list(range(2_500 - len(entries), 2_500))


async def test_a_stream_that_was_trimmed_to_nothing_knows_its_mark(
    store: Kept, redis: Redis, settings: Settings
) -> None:
    log = [logged(at, "ann", f"i{at}") for at in range(5)]
    await store.apply(log)
    [key] = [key async for key in redis.scan_iter(f"{settings.namespace}:*:of:*")]
    await redis.xtrim(key, maxlen=0, approximate=False)
    assert await redis.xlen(key) == 0
    assert await store.read_after({}) == ({}, [])
    assert await store.apply(log) == 0
    assert await store.apply([logged(5, "ann", "i5")]) == 1
    _, [transition] = await store.read_after({})
    assert transition.previous == ("i4", "i3", "i2", "i1", "i0")


async def test_everything_expires_a_while_after_the_last_event(
    redis: Redis, settings: Settings
) -> None:
    soon = msgspec.structs.replace(settings, sessions=SessionSettings(ttl_s=60))
    store = Kept(redis, soon)
    await store.apply([logged(0, "ann", "a"), logged(0, "bob", "a", partition=1)])
    keys = [key async for key in redis.scan_iter(f"{settings.namespace}:transitions:{{*")]
    assert len(keys) == 4
    for key in keys:
        assert 0 < await redis.ttl(key) <= 60
        # What keeps the marks is kept up by redelivered events too.
        await redis.expire(key, 30)
    await store.apply([logged(0, "ann", "a")])
    ttls = {key: await redis.ttl(key) for key in keys}
    assert sorted(ttl > 30 for ttl in ttls.values()) == [False, False, False, True]


async def test_a_reader_gets_at_most_what_it_asks_for_of_every_stream_its_share(
    store: Kept,
) -> None:
    await store.apply([logged(at, "ann", f"i{at}") for at in range(40)])
    await store.apply([logged(at, "bob", f"i{at}", partition=1) for at in range(40)])
    positions, transitions = await store.read_after({}, 20)
    assert [(at.partition, at.offset) for at in transitions] == [
        (partition, offset) for partition in (0, 1) for offset in range(10)
    ]
    _, rest = await read_all(store, positions, 20)
    assert len(rest) == 60


async def test_a_user_is_forgotten(store: Kept, redis: Redis) -> None:
    await store.apply([logged(0, "ann", "a"), logged(1, "bob", "a")])
    await store.forget("ann")
    await store.forget("nobody")
    await store.apply([logged(2, "ann", "b"), logged(3, "bob", "b")])
    _, transitions = await store.read_after({Place("ratings", "first", 0): 1})
    assert [at.previous for at in transitions] == [(), ("a",)]


async def test_reading_writes_nothing(store: Kept, redis: Redis, settings: Settings) -> None:
    assert await store.read_after({}) == ({}, [])
    await store.forget("nobody")
    assert [key async for key in redis.scan_iter(f"{settings.namespace}:*")] == []


@pytest.mark.parametrize("topic_id", ["first", "a/b", "0b2c-9"])
def test_a_place_is_read_from_its_name(topic_id: str) -> None:
    place = Place("clicks", topic_id, 12)
    assert Place.parse(str(place)) == place
