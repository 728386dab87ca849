"""What a filter says, and of which items it holds."""

from __future__ import annotations

import random
import timeit
from functools import partial
from typing import Any

import numpy as np
import pytest

from headrace.catalog import Item
from headrace.errors import InvalidFilter
from models.retrieval.filters import MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES, parse_filter
from models.retrieval.items import ItemTable
from models.retrieval.limits import Limits

ITEMS = [
    Item(
        item_id="a", title="Alien", categories=("Horror", "Space"), price=5.0,
        attributes={"year": 1979, "new": False, "maker": "Scott"},
    ),
    Item(
        item_id="b", title="Big", categories=("Comedy",), price=9.5,
        attributes={"year": 1988, "new": True, "maker": None},
    ),
    Item(
        item_id="c", title="Clue", categories=("Comedy", "Crime"), price=20.0,
        attributes={"year": 1985, "maker": "Lynn", "code": "1985"},
    ),
    Item(item_id="d", attributes={"year": "1985", "new": 1}),
]  # fmt: skip


@pytest.fixture
def table() -> ItemTable:
    table = ItemTable()
    table.take(ITEMS)
    return table


def held(table: ItemTable, **raw: Any) -> str:
    """The ids of the items of which the filter holds."""
    mask = table.allowed(Limits(filter=parse_filter(raw)))
    return "".join(table.ids(np.flatnonzero(mask)))


@pytest.mark.parametrize(
    ("raw", "ids"),
    [
        ({"categories": {"any": ["Comedy"]}}, "bc"),
        ({"categories": {"any": ["Crime", "Space", "no such"]}}, "ac"),
        ({"categories": {"all": ["Comedy", "Crime"]}}, "c"),
        ({"categories": {"all": ["Comedy", "Space"]}}, ""),
        ({"categories": {"all": ["Comedy", "Crime", "Comedy"]}}, "c"),
        ({"categories": {"all": ["Comedy", "no such"]}}, ""),
        ({"categories": {"all": ["Comedy", True, 1]}}, ""),
        ({"categories": {"any": ["comedy"]}}, ""),
        ({"categories": {"exists": False}}, "d"),
        ({"price": {"gte": 5, "lt": 20}}, "ab"),
        ({"price": {"gt": 5, "lte": 20}}, "bc"),
        ({"price": {"eq": 5}}, "a"),
        ({"year": {"in": [1979, 1985]}}, "ac"),
        ({"year": {"in": ["1985", 1988]}}, "bd"),
        ({"year": {"gt": 0}}, "abc"),
        ({"new": {"eq": True}}, "b"),
        ({"new": {"eq": 1}}, "d"),
        ({"new": {"in": [False, "x"]}}, "a"),
        ({"maker": {"exists": True}}, "ac"),
        ({"maker": {"eq": "Scott"}}, "a"),
        ({"title": {"in": ["Big", "Clue"]}}, "bc"),
        ({"item_id": {"in": ["d", "a", "nobody's"]}}, "ad"),
        ({"item_id": {"eq": "b"}}, "b"),
        ({"no such": {"eq": 1}}, ""),
        ({"not": {"no such": {"eq": 1}}}, "abcd"),
        ({"not": {"price": {"lt": 10}}}, "cd"),
        ({"not": {"not": {"price": {"lt": 10}}}}, "ab"),
        ({"price": {"lt": 10}, "year": {"gt": 1980}}, "b"),
        ({"and": [{"price": {"lt": 10}}, {"year": {"gt": 1980}}]}, "b"),
        ({"or": [{"price": {"lt": 6}}, {"categories": {"any": ["Crime"]}}]}, "ac"),
        ({"or": [{"item_id": {"eq": "d"}}], "not": {"price": {"gt": 0}}}, "d"),
    ],
    ids=str,
)
def test_of_which_items_a_filter_holds(table: ItemTable, raw: dict[str, Any], ids: str) -> None:
    assert held(table, **raw) == ids


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({}, "filter"),
        ({"price": 5}, "filter.price"),
        ({"price": {}}, "filter.price"),
        ({"price": {"lt": "x"}}, "filter.price.lt"),
        ({"price": {"less": 5}}, "filter.price"),
        ({"price": {"eq": None}}, "filter.price.eq"),
        ({"price": {"eq": [5]}}, "filter.price.eq"),
        ({"year": {"in": []}}, "filter.year.in"),
        ({"year": {"in": [1, None]}}, "filter.year.in[1]"),
        ({"year": {"any": [1]}}, "filter.year"),
        ({"categories": {"eq": "Comedy"}}, "filter.categories"),
        ({"categories": {"lt": 5}}, "filter.categories"),
        ({"title": {"lt": 5}}, "filter.title"),
        ({"not": [{"price": {"lt": 5}}]}, "filter.not"),
        ({"and": {"price": {"lt": 5}}}, "filter.and"),
        ({"or": []}, "filter.or"),
        ({"or": [{"price": {"lt": 5}}, {"not": {}}]}, "filter.or[1].not"),
        ({"year": {"eq": 2**60}}, "filter.year.eq"),
    ],
    ids=str,
)
def test_a_wrong_filter_is_told_where(raw: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidFilter) as caught:
        parse_filter(raw)
    assert caught.value.field == field


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"price": {"lt": 5}}
    for _ in range(depth - 1):
        inner = {"not": inner}
    return inner


def test_a_filter_is_bounded() -> None:
    conditions = [{"price": {"lt": n}} for n in range(MAX_CONDITIONS)]
    values = {"year": {"in": list(range(MAX_VALUES))}}
    for fits in (nested(MAX_DEPTH), {"or": conditions}, values):
        parse_filter(fits)
    for too_much in (
        nested(MAX_DEPTH + 1),
        {"or": [*conditions, {"price": {"gt": 5}}]},
        {"or": [values, {"year": {"eq": 1}}, {"month": {"in": [1]}}]},
    ):
        with pytest.raises(InvalidFilter):
            parse_filter(too_much)


def test_an_items_own_field_comes_before_an_attribute_of_its_name(table: ItemTable) -> None:
    table.take([Item(item_id="e", price=1.0, attributes={"price": 99, "item_id": "x"})])
    assert held(table, price={"gt": 90}) == ""
    assert held(table, price={"lt": 2}) == "e"
    assert held(table, item_id={"eq": "x"}) == ""


def test_filters_follow_the_catalogue(table: ItemTable) -> None:
    comedies = {"categories": {"any": ["Comedy"]}}
    assert held(table, **comedies) == "bc"
    table.take(
        [Item(item_id="b", categories=("Drama",)), Item(item_id="e", categories=("Comedy",))]
    )
    assert held(table, **comedies) == "ce"
    # What the item had before is forgotten.
    assert held(table, price={"eq": 9.5}) == ""
    assert held(table, title={"exists": True}) == "ac"
    table.withdraw(["c"])
    assert held(table, **comedies) == "e"
    table.restore(["c"])
    assert held(table, **comedies) == "ce"


def test_values_that_change_all_the_time_are_forgotten(table: ItemTable) -> None:
    for number in range(5_000):
        table.take([Item(item_id="a", title=f"title {number}")])
        table.settle()
        if number % 100 == 0:
            assert held(table, title={"eq": f"title {number}"}) == "a"
    assert held(table, title={"in": ["Big", "Clue", "title 4999", "title 4998"]}) == "abc"
    assert len(table._attributes._columns["title"]._code_of) < 2_000


def test_a_filter_holds_of_what_a_plain_look_at_each_item_says() -> None:
    rng = random.Random(0)
    values: list[Any] = [1, 2, 2.5, "1", "x", True, False, None]
    table, items = ItemTable(), {}
    for _ in range(30):
        changed = [
            Item(
                item_id=f"i{rng.randrange(40)}",
                categories=tuple(rng.sample("abc", rng.randrange(3))),
                attributes={name: rng.choice(values) for name in rng.sample("pqr", 2)},
            )
            for _ in range(5)
        ]
        changed = list({item.item_id: item for item in changed}.values())
        items |= {item.item_id: item for item in changed}
        table.take(changed)
        for _ in range(20):
            raw = arbitrary(rng, 3)
            mask = table.allowed(Limits(filter=parse_filter(raw)))
            found = set(table.ids(np.flatnonzero(mask)))
            assert found == {at for at, item in items.items() if holds(raw, item)}, raw


def arbitrary(rng: random.Random, depth: int) -> dict[str, Any]:
    choice = rng.randrange(7) if depth else rng.randrange(4)
    if choice == 4:
        return {"not": arbitrary(rng, depth - 1)}
    if choice > 4:
        return {("and", "or")[choice - 5]: [arbitrary(rng, depth - 1) for _ in range(2)]}
    if choice == 3:
        return {"categories": {rng.choice(("any", "all")): rng.sample("abcd", 2)}}
    name = rng.choice("pqrs")
    if choice == 2:
        return {name: {"gte": 1, "lt": 2.5}}
    if choice == 1:
        return {name: {"exists": rng.random() < 0.5}}
    return {name: {"in": rng.sample([1, 2, "1", "x", True, False], 2)}}


def holds(raw: dict[str, Any], item: Item) -> bool:
    ((name, said),) = raw.items()
    if name == "not":
        return not holds(said, item)
    if name in ("and", "or"):
        return {"and": all, "or": any}[name](holds(part, item) for part in said)
    if name == "categories":
        ((how, wanted),) = said.items()
        return {"all": all, "any": any}[how](each in item.categories for each in wanted)
    value = item.attributes.get(name)
    if "exists" in said:
        return (value is not None) == said["exists"]
    if "in" in said:
        return any(
            value == each and isinstance(value, bool) == isinstance(each, bool)
            for each in said["in"]
        )
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < 2.5


def test_an_item_that_names_a_category_twice_has_it_once() -> None:
    table = ItemTable()
    table.take([Item(item_id="a", categories=("x", "x")), Item(item_id="b", categories=("x", "y"))])
    assert held(table, categories={"all": ["x", "y"]}) == "b"
    assert held(table, categories={"all": ["x"]}) == "ab"


def test_all_of_many_categories_costs_no_more_than_any_of_them() -> None:
    table = ItemTable()
    table.take([Item(item_id=f"i{n}", categories=(f"c{n % MAX_VALUES}",)) for n in range(20_000)])
    values = [f"c{n}" for n in range(MAX_VALUES)]

    def quickest_s(how: str) -> float:
        # Each in another order, for what was asked for before is remembered.
        asked = [
            Limits(filter=parse_filter({"categories": {how: values[n:] + values[:n]}}))
            for n in range(5)
        ]
        return min(timeit.timeit(partial(table.allowed, each), number=1) for each in asked)

    # A pass for each value would be a thousand.
    assert quickest_s("all") < 30 * quickest_s("any")
