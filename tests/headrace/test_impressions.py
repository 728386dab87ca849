"""Impressions: how they are read, found, bounded and forgotten, in a real Redis."""

from __future__ import annotations

import msgspec
import pytest
from events_log import NOW
from impression_tools import impression
from redis.asyncio import Redis

from headrace.errors import InvalidImpression
from headrace.impressions import (
    MAX_BYTES,
    WITHOUT_USER,
    Impression,
    ImpressionStore,
    parse_impression,
)
from headrace.settings import ImpressionSettings, Settings


@pytest.fixture
def store(redis: Redis, settings: Settings) -> ImpressionStore:
    bounds = ImpressionSettings(per_user=3, ttl_s=600)
    return ImpressionStore(redis, msgspec.structs.replace(settings, impressions=bounds))


def rows(*impressions: Impression) -> list[tuple[Impression, bytes]]:
    return [(each, msgspec.json.encode(each)) for each in impressions]


async def test_a_list_is_found_as_it_was_kept_and_no_other(
    store: ImpressionStore, redis: Redis, settings: Settings
) -> None:
    made = impression("ann", NOW, ["a", "b"], met=["c"], filter={"year": {"gte": 1990}})
    await store.keep(rows(made))
    assert await store.find(made.id) == made
    assert await store.find("0" * 32) is None
    for key in [key async for key in redis.scan_iter(settings.key("impressions", "*"))]:
        assert 0 < await redis.ttl(key) <= 600


async def test_the_newest_of_a_user_stay_whatever_comes_again(
    store: ImpressionStore, redis: Redis, settings: Settings
) -> None:
    lists = [impression("ann", NOW + n, ["a"]) for n in range(7)]
    await store.keep(rows(*lists[:5]))
    await store.keep(rows(*lists[2:]))
    await store.keep(rows(lists[0], lists[6]))
    found = [await store.find(each.id) for each in lists]
    assert found == [None] * 4 + lists[4:]
    assert await redis.zcard(settings.key("impressions", "of", "ann")) == 3


async def test_lists_for_nobody_are_bounded_together(store: ImpressionStore) -> None:
    lists = [impression(None, NOW + n, ["a"]) for n in range(WITHOUT_USER + 5)]
    for first in range(0, len(lists), 2_000):
        await store.keep(rows(*lists[first : first + 2_000]))
    found = [await store.find(each.id) for each in lists[:10]]
    assert found == [None] * 5 + lists[5:10]


async def test_what_was_served_until_an_erasure_and_just_after_is_forgotten(
    store: ImpressionStore,
) -> None:
    before, just_after, later = (impression("ann", NOW + s, ["a"]) for s in (-5, 5, 60))
    other = impression("bob", NOW, ["a"])
    await store.keep(rows(before, just_after, later, other))
    await store.forget("ann", until=NOW)
    found = [await store.find(each.id) for each in (before, just_after, later, other)]
    assert found == [None, None, later, other]
    await store.forget("nobody", until=NOW)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scores": [0.1]}, "scores"),
        ({"because": [{}]}, "because"),
        ({"id": "x"}, "id"),
        ({"user_id": ""}, "user_id"),
        ({"served_at": -1}, "served_at"),
        ({"item_ids": None}, "item_ids"),
    ],
)
def test_what_is_no_impression_is_told_by_its_field(change: dict[str, object], field: str) -> None:
    good = msgspec.to_builtins(impression("ann", NOW, ["a", "b"], met=["c"]))
    assert parse_impression(msgspec.json.encode(good)).item_ids == ("a", "b")
    with pytest.raises(InvalidImpression) as caught:
        parse_impression(msgspec.json.encode({**good, **change}))
    assert caught.value.field == field


def test_columns_of_different_lengths_and_too_long_records_are_no_impressions() -> None:
    good = msgspec.to_builtins(impression("ann", NOW, ["a"], met=["c"]))
    good["session"]["newest"]["ratings"] = []
    with pytest.raises(InvalidImpression, match="equally long"):
        parse_impression(msgspec.json.encode(good))
    for raw in (b"", b"[]", None, b" " * (MAX_BYTES + 1)):
        with pytest.raises(InvalidImpression):
            parse_impression(raw)
