"""The catalogue: items checked, changes applied once, followers told of each."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.crc import key_slot

from headrace.catalog import CatalogStore, ChangedItem, Item, ItemChange, parse_item
from headrace.errors import InvalidItem
from headrace.events import MAX_BYTES
from headrace.settings import Settings


@pytest.fixture
def store(redis: Redis, settings: Settings) -> CatalogStore:
    return CatalogStore(redis, settings)


def change(offset: int, item_id: str, *, title: str | None = "t", **where: Any) -> ItemChange:
    """A change; a title of None deletes the item."""
    item = Item(item_id=item_id, title=title) if title is not None else None
    return ItemChange(
        item_id, item, where.get("topic_id", "first"), where.get("partition", 0), offset
    )


def items(changes: dict[str, ChangedItem]) -> dict[str, Item | None]:
    return {item_id: changed.item for item_id, changed in changes.items()}


def test_an_item_with_everything() -> None:
    raw = {
        "item_id": "i",
        "title": "Toy Story",
        "categories": ["Animation", "Children's"],
        "price": 9.99,
        "attributes": {"year": 1995, "imdb": None, "colour": True},
    }
    item = parse_item(json.dumps(raw).encode())
    assert item == Item(
        item_id="i",
        title="Toy Story",
        categories=("Animation", "Children's"),
        price=9.99,
        attributes={"year": 1995, "imdb": None, "colour": True},
    )
    assert parse_item(msgspec.json.encode(item)) == item
    assert parse_item(b'{"item_id": "i"}') == Item(item_id="i")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("item_id", ""),
        ("item_id", "x" * 257),
        ("item_id", "a\n"),
        ("item_id", 5),
        ("title", "t" * 1_025),
        ("categories", "Animation"),
        ("categories[0]", [""]),
        ("categories[0]", ["c" * 129]),
        ("categories", ["c"] * 65),
        ("price", -1),
        ('attributes["a"]', {"a": {}}),
        ('attributes["a"]', {"a": 2**64}),
        ("attributes", []),
        ("colour", "red"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidItem) as caught:
        parse_item(json.dumps({"item_id": "i", field.partition("[")[0]: value}).encode())
    assert caught.value.field == field


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["item_id", "title", "price", "attributes", "a"]), inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_anything_is_an_item_or_an_invalid_item(raw: bytes) -> None:
    try:
        item = parse_item(raw)
    except InvalidItem:
        return
    assert parse_item(msgspec.json.encode(item)) == item


def test_an_item_too_long_is_refused() -> None:
    with pytest.raises(InvalidItem, match="bytes long"):
        parse_item(b'{"item_id": "i"}' + b" " * MAX_BYTES)


async def test_changes_are_applied_in_order_and_once(store: CatalogStore) -> None:
    batch = [change(0, "a", title="old"), change(1, "b"), change(2, "a", title="new")]
    assert await store.apply(batch) == 3
    assert await store.apply(batch) == 0
    assert await store.get("a") == Item(item_id="a", title="new")
    assert sorted(item.item_id for item in await store.all()) == ["a", "b"]


async def test_a_deleted_item_is_gone_and_may_come_back(store: CatalogStore) -> None:
    await store.apply([change(0, "a"), change(1, "a", title=None)])
    assert await store.get("a") is None
    assert await store.all() == []
    assert await store.apply([change(0, "a"), change(2, "a", title="again")]) == 1
    assert await store.get("a") == Item(item_id="a", title="again")


async def test_partitions_and_topics_made_anew_have_marks_of_their_own(
    store: CatalogStore,
) -> None:
    await store.apply([change(5, "a")])
    assert await store.apply([change(0, "b", partition=1)]) == 1
    assert await store.apply([change(0, "c", topic_id="second")]) == 1
    assert await store.apply([change(0, "c", topic_id="second")]) == 0


async def test_followers_hear_of_each_change_once(store: CatalogStore) -> None:
    assert await store.changes_since(0) == (0, {})
    await store.apply([change(0, "a"), change(1, "b"), change(2, "b", title=None)])
    at, changes = await store.changes_since(0)
    assert items(changes) == {"a": Item(item_id="a", title="t"), "b": None}
    assert [change.number for change in changes.values()] == [1, 3]
    assert await store.changes_since(at) == (at, {})
    await store.apply([change(3, "a", title="new"), change(4, "a", title="newer")])
    later, changes = await store.changes_since(at)
    assert items(changes) == {"a": Item(item_id="a", title="newer")}
    assert later > at
    assert (await store.changes_since(0))[1].keys() == {"a", "b"}


async def test_followers_may_read_in_parts(store: CatalogStore) -> None:
    await store.apply([change(n, f"i{n}") for n in range(5)])
    await store.apply([change(5, "i1", title=None)])
    parts, at = [], 0
    while True:
        at, changes = await store.changes_since(at, 2)
        if not changes:
            break
        parts.append(list(changes))
    assert parts == [["i0", "i2"], ["i3", "i4"], ["i1"]]


async def test_deletions_are_told_with_whatever_else_is_read(store: CatalogStore) -> None:
    await store.apply([change(0, "a"), change(1, "b"), change(2, "b", title=None)])
    deletions, [same] = await store.read_with_deletions(0, store.deletions(2))
    assert (deletions.sequence, deletions.numbers) == (3, {"b": 3})
    assert same == deletions
    await store.apply([change(3, "a", title=None), change(4, "b")])
    deletions, [] = await store.read_with_deletions(deletions.sequence)
    assert (deletions.sequence, deletions.numbers) == (5, {"a": 4})
    # What has come back is deleted no more.
    deletions, _ = await store.read_with_deletions(0)
    assert deletions.numbers == {"a": 4}


async def test_an_older_change_does_not_undo_a_newer_one_of_the_same_item(
    store: CatalogStore,
) -> None:
    # A server applies its own deletion, at 7, before the worker has come to what stands before it.
    assert await store.apply([change(7, "a", title=None)]) == 1
    assert await store.apply([change(5, "a"), change(6, "b"), change(7, "a", title=None)]) == 1
    assert await store.get("a") is None
    assert await store.get("b") is not None
    # The same for an item put in again.
    assert await store.apply([change(9, "a", title="again")]) == 1
    assert await store.apply([change(7, "a", title=None), change(8, "a", title=None)]) == 0
    assert await store.get("a") == Item(item_id="a", title="again")


async def test_what_is_left_in_hand_of_a_topic_made_anew_comes_too_late(
    store: CatalogStore,
) -> None:
    assert await store.apply([change(5, "a")]) == 1
    assert await store.apply([change(0, "a", title=None, topic_id="second")]) == 1
    assert await store.apply([change(6, "a"), change(7, "b")]) == 0
    assert await store.get("a") is None
    assert await store.apply([change(1, "a", title="again", topic_id="second")]) == 1
    assert await store.get("a") == Item(item_id="a", title="again")


async def test_what_is_not_there_is_none_and_the_keys_share_a_slot(
    store: CatalogStore, redis: Redis, settings: Settings
) -> None:
    assert await store.get("nothing") is None
    assert [key async for key in redis.scan_iter(f"{settings.namespace}:*")] == []
    await store.apply([change(0, "{odd}"), change(1, "gone", title=None)])
    keys = [key async for key in redis.scan_iter(f"{settings.namespace}:*")]
    assert len(keys) == 4
    assert len({key_slot(key) for key in keys}) == 1
