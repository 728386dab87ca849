"""The contract of `SessionStore`, against a plain fold of the same log."""

from __future__ import annotations

import random
import uuid

import msgspec
import pytest
from events_log import NOW, fold, last_offsets, logged, order
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.crc import key_slot

from headrace.erasures import Erasure
from headrace.sessions import Interaction, LoggedEvent, Session, SessionStore
from headrace.settings import SessionSettings, Settings
from headrace.store import connect

USERS = ("ann", "bob")


@pytest.fixture
def store(redis: Redis, settings: Settings) -> SessionStore:
    return SessionStore(redis, settings)


def limited(redis: Redis, settings: Settings, limit: int, seen_limit: int = 5_000) -> SessionStore:
    sessions = SessionSettings(limit=limit, seen_limit=seen_limit)
    return SessionStore(redis, msgspec.structs.replace(settings, sessions=sessions))


def draw_log(
    rng: random.Random, events: int, items: int, times: int, users: tuple[str, ...] = USERS
) -> dict[tuple[str, int], list[LoggedEvent]]:
    """A log by topic and partition, with many equal timestamps and late events."""
    partitions: dict[tuple[str, int], list[LoggedEvent]] = {}
    for _ in range(events):
        kind, partition = rng.choice(("click", "purchase", "rating")), rng.randrange(2)
        of_partition = partitions.setdefault((kind, partition), [])
        of_partition.append(
            logged(
                len(of_partition),
                rng.choice(users),
                f"item-{rng.randrange(items)}",
                NOW + rng.randrange(times) / 4,
                kind=kind,
                rating=rng.choice((None, 1.0, 4.5)),
                partition=partition,
            )
        )
    return partitions


def deliver(
    rng: random.Random, partitions: dict[tuple[str, int], list[LoggedEvent]]
) -> list[list[LoggedEvent]]:
    """The log in batches: in order within a partition, and now and then a suffix anew."""
    at = dict.fromkeys(partitions, 0)
    batches = []
    while any(at[name] < len(log) for name, log in partitions.items()):
        batch: list[LoggedEvent] = []
        for name in rng.sample(sorted(partitions), len(partitions)):
            end = at[name] + rng.randrange(6)
            batch += partitions[name][at[name] : end]
            at[name] = min(end, len(partitions[name]))
        batches.append(batch)
        if rng.random() < 0.4:
            for name in partitions:
                at[name] = max(0, at[name] - rng.randrange(5))
    return batches


async def check_against_fold(
    store: SessionStore, partitions: dict[tuple[str, int], list[LoggedEvent]], limit: int
) -> None:
    whole = [event for log in partitions.values() for event in log]
    for user_id in {event.event.user_id for event in whole}:
        session = await store.read(user_id)
        of_user = [event for event in whole if event.event.user_id == user_id]
        expected = fold(whole, user_id, limit)
        assert session.interactions() == expected
        assert list(session.item_ids) == list(expected), "the dictionary is not oldest first"
        assert session.applied == len(of_user)
        assert session.marks == last_offsets(whole, user_id)
        assert set(await store.all_seen(user_id)) == {event.event.item_id for event in of_user}


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    limit=st.integers(1, 5),
    events=st.integers(0, 60),
    items=st.integers(1, 9),
    times=st.integers(1, 12),
)
def test_whatever_is_delivered_how_often_the_session_is_the_fold_of_the_log(
    redis_url: str, seed: int, limit: int, events: int, items: int, times: int
) -> None:
    import asyncio

    async def run() -> None:
        rng = random.Random(seed)
        settings = Settings(redis=redis_url, namespace=f"fold-{uuid.uuid4().hex}")
        redis = connect(settings)
        try:
            store = limited(redis, settings, limit)
            partitions = draw_log(rng, events, items, times)
            new = 0
            for batch in deliver(rng, partitions):
                new += (await store.apply(batch)).count("new")
            assert new == events
            await check_against_fold(store, partitions, limit)
        finally:
            await redis.aclose()

    asyncio.run(run())


async def test_long_sessions_equal_the_fold(redis: Redis, settings: Settings) -> None:
    rng = random.Random(5)
    store = limited(redis, settings, limit=50)
    partitions = draw_log(rng, events=4_000, items=300, times=900)
    for batch in deliver(rng, partitions):
        await store.apply(batch)
    await check_against_fold(store, partitions, 50)


async def test_one_batch_of_thousands_of_events_of_a_user(store: SessionStore) -> None:
    batch = [logged(n, "u", f"i{n % 150}", NOW + n) for n in range(3_000)]
    assert (await store.apply(batch)).count("new") == 3_000
    session = await store.read("u")
    assert session.applied == 3_000
    assert session.interactions() == fold(batch, "u", 200)


async def test_a_batch_applied_again_changes_nothing(store: SessionStore, redis: Redis) -> None:
    batch = [logged(n, f"u{n % 3}", f"i{n}", NOW + n) for n in range(30)]
    assert (await store.apply(batch)).count("new") == 30
    before = [await store.read(f"u{n}") for n in range(3)]
    assert (await store.apply(batch)).count("new") == 0
    assert (await store.apply([*batch[10:], logged(30, "u0", "new", NOW + 99)])).count("new") == 1
    after = [await store.read(f"u{n}") for n in range(3)]
    assert after[1:] == before[1:]
    assert after[0].applied == before[0].applied + 1


async def test_an_event_that_changes_nothing_advances_the_mark_and_counts(
    store: SessionStore,
) -> None:
    await store.apply([logged(7, timestamp=NOW)])
    await store.apply([logged(9, timestamp=NOW - 1)])
    session = await store.read("u")
    assert (session.timestamps, session.applied, session.marks) == ((NOW,), 2, {"ratings/0": 9})


async def test_the_newest_event_of_an_item_wins_whole(store: SessionStore) -> None:
    await store.apply([logged(0, rating=5.0), logged(0, timestamp=NOW + 1, kind="click")])
    assert (await store.read("u")).interactions() == {"i": Interaction(NOW + 1, None, "click")}


@pytest.mark.parametrize("first", [0, 1])
async def test_equal_timestamps_are_settled_by_topic_partition_and_offset(
    store: SessionStore, first: int
) -> None:
    for number, (older, newer) in enumerate(
        [
            (logged(9, kind="click"), logged(0, kind="purchase", rating=None)),
            (logged(9, kind="purchase"), logged(0, kind="rating")),
            (logged(9, rating=1.0, partition=0), logged(1, rating=2.0, partition=1)),
            (logged(8, rating=1.0), logged(9, rating=2.0)),
        ]
    ):
        user_id = f"u{number}"
        pair = [
            msgspec.structs.replace(
                each, event=msgspec.structs.replace(each.event, user_id=user_id)
            )
            for each in (older, newer)
        ]
        assert order(older) < order(newer)
        same_partition = older.mark == newer.mark
        for each in pair if same_partition or not first else reversed(pair):
            await store.apply([each])
        assert (await store.read(user_id)).interactions() == fold(pair, user_id, 200)


async def test_at_the_limit_a_late_event_does_not_drive_out_a_newer_one(
    redis: Redis, settings: Settings
) -> None:
    # c and a are equally old; c was dropped by the tie. The late d must go, a must stay.
    store = limited(redis, settings, limit=2)
    log = [
        logged(0, item_id="c", timestamp=NOW + 10, kind="click"),
        logged(0, item_id="a", timestamp=NOW + 10),
        logged(1, item_id="b", timestamp=NOW + 20),
        logged(2, item_id="d", timestamp=NOW + 5),
    ]
    for event in log:
        await store.apply([event])
    assert list((await store.read("u")).item_ids) == ["a", "b"]
    assert set(await store.all_seen("u")) == {"a", "b", "c", "d"}


async def test_equal_order_of_items_of_a_topic_made_anew_can_be_read(store: SessionStore) -> None:
    await store.apply([logged(0, item_id="a", kind="purchase", rating=None)])
    await store.apply([logged(0, item_id="b", kind="purchase", rating=2.0, topic_id="second")])
    assert set((await store.read("u")).item_ids) == {"a", "b"}


async def test_the_seen_set_is_bounded_and_holds_the_dictionary(
    redis: Redis, settings: Settings
) -> None:
    store = limited(redis, settings, limit=1_000, seen_limit=1_001)
    rng = random.Random(3)
    log = [logged(n, item_id=f"i{n}", timestamp=NOW + rng.randrange(50)) for n in range(1_500)]
    await store.apply(log)
    session, seen = await store.read("u"), await store.all_seen("u")
    assert session.interactions() == fold(log, "u", 1_000)
    assert len(seen) == 1_001
    assert set(session.item_ids) < set(seen)
    flags = await store.seen("u", [session.item_ids[0], "never met"])
    assert flags == [True, False]


async def test_seen_of_nothing_is_nothing(store: SessionStore) -> None:
    assert await store.seen("u", []) == []
    assert await store.seen("nobody", ["i"]) == [False]


async def test_a_topic_made_anew_is_applied_from_its_beginning(store: SessionStore) -> None:
    await store.apply([logged(n, item_id=f"old-{n}", timestamp=NOW + n) for n in range(5)])
    anew = [logged(n, item_id=f"new-{n}", timestamp=NOW + n, topic_id="second") for n in range(3)]
    assert (await store.apply(anew)).count("new") == 3
    assert (await store.apply(anew)).count("new") == 0
    session = await store.read("u")
    assert (session.applied, session.marks) == (8, {"ratings/0": 2})


async def test_an_unknown_user_has_an_empty_session_and_reading_writes_nothing(
    store: SessionStore, redis: Redis, settings: Settings
) -> None:
    await store.apply([logged(0, "known")])
    keys = sorted([key async for key in redis.scan_iter(f"{settings.namespace}:*")])
    dumps = [await redis.dump(key) for key in keys]
    for _ in range(2):
        assert await store.read("nobody") == Session()
        assert (await store.read("known")).applied == 1
        assert await store.all_seen("nobody") == []
    assert (await store.read("nobody")).updated_at is None
    assert sorted([key async for key in redis.scan_iter(f"{settings.namespace}:*")]) == keys
    assert [await redis.dump(key) for key in keys] == dumps


ODD_USERS = ["a b", "{x}", "}{", "100%", "%7Bx%7D", "{", "%25", "用户", "a:b:seen", "a*"]


async def test_odd_user_ids_are_users_of_their_own(store: SessionStore) -> None:
    await store.apply([logged(n, user_id, f"i{n}") for n, user_id in enumerate(ODD_USERS)])
    for n, user_id in enumerate(ODD_USERS):
        assert (await store.read(user_id)).item_ids == (f"i{n}",)
    forgotten = Erasure(
        user_id="{x}", at=NOW, topic_ids={"ratings": "first"}, through={"ratings": {"0": 99}}
    )
    assert await store.erase(forgotten)
    assert not await store.erase(forgotten)
    assert await store.read("{x}") == Session()
    assert (await store.read("%7Bx%7D")).applied == 1


async def test_the_keys_of_a_user_are_in_one_slot_and_expire(
    store: SessionStore, redis: Redis, settings: Settings
) -> None:
    for n, user_id in enumerate(ODD_USERS):
        before = {key async for key in redis.scan_iter(f"{settings.namespace}:*")}
        await store.apply([logged(n, user_id)])
        keys = {key async for key in redis.scan_iter(f"{settings.namespace}:*")} - before
        assert len(keys) == 3
        assert len({key_slot(key) for key in keys}) == 1
        for key in keys:
            assert 0 < await redis.ttl(key) <= settings.sessions.ttl_s


async def test_different_users_are_in_different_slots(
    store: SessionStore, redis: Redis, settings: Settings
) -> None:
    await store.apply([logged(n, f"user-{n}") for n in range(50)])
    slots = {key_slot(key) async for key in redis.scan_iter(f"{settings.namespace}:*")}
    assert len(slots) > 25


@pytest.mark.parametrize("lost", ["seen", "items", "marks"])
async def test_a_lost_key_does_not_stop_the_user(
    redis: Redis, settings: Settings, lost: str
) -> None:
    store = limited(redis, settings, limit=3)
    log = [logged(n, item_id=f"i{n}", timestamp=NOW + n) for n in range(5)]
    await store.apply(log)
    keys = [key async for key in redis.scan_iter(f"{settings.namespace}:*:{lost}")]
    assert await redis.delete(*keys) == 1
    later = [logged(n, item_id=f"i{n}", timestamp=NOW + n) for n in range(5, 9)]
    late = [logged(n, item_id=f"late{n}", timestamp=NOW - n) for n in range(9, 12)]
    for event in later + late:
        await store.apply([event])
    session = await store.read("u")
    assert list(session.item_ids) == ["i6", "i7", "i8"]
    assert set(session.item_ids) <= set(await store.all_seen("u"))


async def test_timestamps_and_ratings_keep_their_full_precision(store: SessionStore) -> None:
    times = [1704060026.1234567, 1704060026.1234569, 0.1 + 0.2, 5e-324, 0.0, 2**53 + 0.0]
    await store.apply(
        [logged(n, item_id=f"i{n}", timestamp=at, rating=0.1 + n) for n, at in enumerate(times)]
    )
    interactions = (await store.read("u")).interactions()
    assert [interactions[f"i{n}"].timestamp for n in range(len(times))] == times
    assert [interactions[f"i{n}"].rating for n in range(len(times))] == [
        0.1 + n for n in range(len(times))
    ]
    assert list(interactions) == [f"i{n}" for n in sorted(range(len(times)), key=times.__getitem__)]


async def test_of_timestamps_that_differ_in_the_last_bit_the_later_is_newer(
    redis: Redis, settings: Settings
) -> None:
    store = limited(redis, settings, limit=1)
    early, late = 1704060026.1234567, 1704060026.1234569
    assert early < late
    await store.apply([logged(0, item_id="late", timestamp=late)])
    await store.apply([logged(1, item_id="early", timestamp=early)])
    assert (await store.read("u")).item_ids == ("late",)


def test_a_session_from_interactions_is_the_newest_of_them() -> None:
    interactions = {
        "b": Interaction(NOW + 2, 5.0),
        "a": Interaction(NOW, None, "click"),
        "c": Interaction(NOW + 2, None, "purchase"),
    }
    session = Session.from_interactions(interactions, 2)
    assert session.item_ids == ("b", "c")
    assert session.interactions() == {"b": interactions["b"], "c": interactions["c"]}
    assert session.updated_at == NOW + 2
    assert Session.from_interactions({}, 2) == Session()


async def test_every_interaction_is_shown_with_all_its_fields(store: SessionStore) -> None:
    await store.apply([logged(0, kind="click", item_id="c"), logged(1, item_id="r", rating=4.5)])
    read = (await store.read("u")).interactions()
    given = msgspec.json.decode(msgspec.json.encode(read), type=dict[str, Interaction])
    for interactions in (read, given):
        assert msgspec.json.decode(msgspec.json.encode(interactions)) == {
            "c": {"timestamp": NOW, "rating": None, "event": "click"},
            "r": {"timestamp": NOW, "rating": 4.5, "event": "rating"},
        }
