"""What `SessionStore.erase` leaves of a session: the fold of the log without what is covered."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Mapping, Sequence

import msgspec
import pytest
from events_log import NOW, fold, last_offsets, logged
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from headrace.erasures import Erasure
from headrace.sessions import ERASED_S, LoggedEvent, Session, SessionStore
from headrace.settings import SessionSettings, Settings
from headrace.store import connect
from headrace.topics import EVENT_TOPICS


@pytest.fixture
def store(redis: Redis, settings: Settings) -> SessionStore:
    return SessionStore(redis, settings)


def erasure(
    through: Mapping[str, Mapping[str, int]],
    user_id: str = "u",
    *,
    at: float = NOW,
    topic_id: str = "first",
) -> Erasure:
    return Erasure(
        user_id=user_id,
        at=at,
        topic_ids=dict.fromkeys(EVENT_TOPICS, topic_id),
        through={topic: dict(ends) for topic, ends in through.items()},
    )


def draw_log(rng: random.Random, count: int, items: int, *, in_order: bool) -> list[LoggedEvent]:
    """A log in the order of arrival, of two partitions a topic and two users."""
    ends: dict[tuple[str, int], int] = {}
    log = []
    for number in range(count):
        at = rng.choice(("click", "purchase", "rating")), rng.randrange(2)
        ends[at] = ends.get(at, -1) + 1
        log.append(
            logged(
                ends[at],
                rng.choice(("u", "v")),
                f"item-{rng.randrange(items)}",
                NOW + (number if in_order else rng.randrange(6)),
                kind=at[0],
                partition=at[1],
            )
        )
    return log


def ends_of(log: Sequence[LoggedEvent]) -> dict[str, dict[str, int]]:
    """How far each partition has come; those that hold nothing are told, too."""
    ends = {topic: {"0": 0, "1": 0} for topic in EVENT_TOPICS}
    for each in log:
        ends[each.topic][str(each.partition)] = each.offset + 1
    return ends


def batches(rng: random.Random, log: Sequence[LoggedEvent]) -> list[Sequence[LoggedEvent]]:
    """The log in batches, some of which come again."""
    found, at = [], 0
    while at < len(log):
        end = at + rng.randrange(1, 6)
        found.append(log[at:end])
        at = max(0, end - rng.choice((0, 0, 0, 7)))
    return found


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    limit=st.integers(1, 5),
    count=st.integers(0, 40),
    erased=st.integers(0, 40),
    heard=st.integers(0, 8),
)
def test_erased_anywhere_the_session_is_the_fold_of_what_came_later(
    redis_url: str, seed: int, limit: int, count: int, erased: int, heard: int
) -> None:
    async def run() -> None:
        rng = random.Random(seed)
        settings = Settings(redis=redis_url, namespace=f"erase-{uuid.uuid4().hex}")
        settings = msgspec.structs.replace(settings, sessions=SessionSettings(limit=limit))
        redis = connect(settings)
        store = SessionStore(redis, settings)
        try:
            # With events applied by Redis's turn that came after the erasure (`heard`), only those
            # that no erased one kept out are there: so the log's times are in order then.
            log = draw_log(rng, count, items=7, in_order=heard > 0)
            before = log[:erased]
            # Some of those before were not applied by then.
            applied = log[: erased + heard] if heard else before[: rng.randrange(len(before) + 1)]
            for batch in batches(rng, applied):
                await store.apply(batch)
            forgotten = erasure(ends_of(before))
            for _ in range(rng.choice((1, 2))):
                await store.erase(forgotten)
            # A worker that has not heard of it reads everything again.
            for batch in batches(rng, log):
                await store.apply(batch)
                if rng.random() < 0.2:
                    await store.erase(forgotten)
            left = [each for each in log[erased:] if each.event.user_id == "u"]
            session = await store.read("u")
            assert session.interactions() == fold(left, "u", limit)
            assert session.marks == last_offsets(left, "u")
            assert set(session.item_ids) <= set(await store.all_seen("u"))
            seen = {each.event.item_id for each in left}
            if heard:
                assert set(await store.all_seen("u")) <= seen
            else:
                assert set(await store.all_seen("u")) == seen
                assert session.applied == len(left)
            other = [each for each in log if each.event.user_id == "v"]
            assert (await store.read("v")).interactions() == fold(other, "v", limit)
            assert (await store.read("v")).applied == len(other)
        finally:
            await redis.aclose()

    asyncio.run(run())


async def test_what_is_left_of_an_erased_user_is_the_erasure_for_a_day(
    store: SessionStore, redis: Redis, settings: Settings
) -> None:
    for user_id in ("u", "{}", "100%", "a b", "用户", "x" * 256, "never seen"):
        if user_id != "never seen":
            await store.apply([logged(n, user_id, f"secret-{n}") for n in range(5)])
        known = await store.erase(erasure({"ratings": {"0": 5}}, user_id))
        assert known is (user_id != "never seen")
        assert await store.read(user_id) == Session()
        assert await store.all_seen(user_id) == []
    keys = [key async for key in redis.scan_iter(f"{settings.namespace}:*")]
    assert len(keys) == 7
    for key in keys:
        assert key.endswith(b":marks")
        fields = await redis.hgetall(key)
        assert list(fields) == [b"erased"]
        assert b"secret" not in fields[b"erased"]
        assert 0 < await redis.ttl(key) <= ERASED_S


async def test_events_after_the_erasure_keep_it_as_long_as_the_session(
    store: SessionStore, redis: Redis, settings: Settings
) -> None:
    await store.erase(erasure({"ratings": {"0": 5}}))
    await store.apply([logged(5)])
    async for key in redis.scan_iter(f"{settings.namespace}:*"):
        assert ERASED_S < await redis.ttl(key) <= settings.sessions.ttl_s
    assert await store.apply([logged(4), logged(5), logged(6)]) == ["erased", "known", "new"]


async def test_a_session_that_ends_sooner_than_its_erasure_ends_all_the_same(
    redis: Redis, settings: Settings
) -> None:
    short = msgspec.structs.replace(settings, sessions=SessionSettings(ttl_s=3_600))
    store = SessionStore(redis, short)
    await store.erase(erasure({"ratings": {"0": 5}}))
    await store.apply([logged(5)])
    left = {key: await redis.ttl(key) async for key in redis.scan_iter(f"{short.namespace}:*")}
    marks = left.pop(next(key for key in left if key.endswith(b":marks")))
    assert 3_600 < marks <= ERASED_S
    assert len(left) == 2
    assert all(0 < ttl <= 3_600 for ttl in left.values())


async def test_events_that_came_between_the_ends_and_the_emptying_stay(
    store: SessionStore, redis: Redis, settings: Settings
) -> None:
    await store.apply([logged(n, item_id=f"old-{n}", timestamp=NOW + n) for n in range(5)])
    # One partition held nothing at all when the user was erased.
    later = [
        logged(5, item_id="new-5", timestamp=NOW + 5),
        logged(0, item_id="first-click", timestamp=NOW + 6, kind="click", partition=1),
    ]
    await store.apply(later)
    assert await store.erase(erasure({"ratings": {"0": 5}, "clicks": {"1": 0}}))
    session = await store.read("u")
    assert session.item_ids == ("new-5", "first-click")
    assert await store.all_seen("u") == ["new-5", "first-click"]
    assert (session.applied, session.marks) == (2, {"ratings/0": 5, "clicks/1": 0})
    assert await store.apply(later) == ["known", "known"]
    async for key in redis.scan_iter(f"{settings.namespace}:*"):
        assert ERASED_S < await redis.ttl(key) <= settings.sessions.ttl_s


async def test_an_erasure_heard_late_takes_nothing_back(store: SessionStore) -> None:
    await store.apply([logged(n, item_id=f"i{n}") for n in range(10)])
    first = erasure({"ratings": {"0": 5}}, at=NOW)
    # By a server whose clock is behind.
    second = erasure({"ratings": {"0": 10}}, at=NOW - 60)
    assert await store.erase(second)
    assert not await store.erase(first)
    assert await store.apply([logged(n, item_id=f"i{n}") for n in range(11)]) == [
        *["erased"] * 10,
        "new",
    ]
    assert not await store.erase(first)
    assert not await store.erase(second)
    assert (await store.read("u")).item_ids == ("i10",)


async def test_what_is_of_a_topic_from_before_it_was_made_anew_is_erased(
    store: SessionStore,
) -> None:
    await store.apply([logged(n, item_id=f"old-{n}", topic_id="first") for n in range(9)])
    assert await store.erase(erasure({"ratings": {"0": 2}}, topic_id="second"))
    assert await store.read("u") == Session()
    # Made anew after it, the topic's events count.
    anew = [logged(n, item_id=f"new-{n}", topic_id="third") for n in range(2)]
    assert await store.apply(anew) == ["new", "new"]
    assert not await store.erase(erasure({"ratings": {"0": 2}}, topic_id="second"))
    assert set((await store.read("u")).item_ids) == {"new-0", "new-1"}
    # Erased once more: the older erasure must not take the place of the newer one.
    newer = erasure({"ratings": {"0": 2}}, topic_id="third", at=NOW + 60)
    assert await store.erase(newer)
    assert not await store.erase(erasure({"ratings": {"0": 2}}, topic_id="second"))
    assert await store.apply(anew) == ["erased", "erased"]


async def test_old_items_with_high_offsets_of_a_topic_made_anew_are_erased(
    store: SessionStore,
) -> None:
    old = [logged(n, item_id=f"old-{n}", topic_id="first") for n in range(3, 9)]
    await store.apply(old)
    await store.apply([logged(n, item_id=f"new-{n}", topic_id="second") for n in range(3)])
    # The last one came after the erasure.
    assert await store.erase(erasure({"ratings": {"0": 2}}, topic_id="second"))
    assert (await store.read("u")).item_ids == ("new-2",)
    assert await store.all_seen("u") == ["new-2"]
