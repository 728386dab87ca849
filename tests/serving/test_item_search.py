"""Searching the catalogue: what is found, in which order, page by page, and after changes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from serving_tools import check_problem

from headrace.catalog import CatalogStore, Item, ItemChange
from headrace.settings import Settings
from serving.item_search import ItemSearch

MANY = 10_000
HTML = "<img src=x onerror=alert(1)>"
ITEMS = (
    Item(item_id="1", title="Toy Story", categories=("Animation", "Comedy")),
    Item(item_id="2", title="A Story of Toys", categories=("Drama",)),
    Item(item_id="3", title="The Toy", categories=("Comedy",)),
    Item(item_id="toy", title="Zorro"),
    Item(item_id="5", title="Tintoy\nBay", categories=("Drama", "Toys of War")),
    Item(item_id="6", title=HTML),
    Item(item_id="seven"),
    Item(item_id="8", title="ÉCLAIR (1995)"),
)


@pytest.fixture
async def search(redis: Redis, settings: Settings) -> ItemSearch:
    return ItemSearch(await stored(redis, settings, *ITEMS))


async def stored(
    redis: Redis, settings: Settings, *items: Item | str, first: int = 0
) -> CatalogStore:
    """The catalogue after these changes; an id alone deletes."""
    catalog = CatalogStore(redis, settings)
    await catalog.apply(
        [
            ItemChange(item, None, "topic", 0, offset)
            if isinstance(item, str)
            else ItemChange(item.item_id, item, "topic", 0, offset)
            for offset, item in enumerate(items, first)
        ]
    )
    return catalog


async def ids(search: ItemSearch, query: str, category: str | None = None) -> list[str]:
    return (await search.find(query, category, limit=100)).item_ids


@pytest.mark.parametrize(
    ("query", "found"),
    [
        # The id; the title's beginning; a word's, by title; anywhere.
        ("toy", ["toy", "1", "2", "3", "5"]),
        ("TOY", ["toy", "1", "2", "3", "5"]),
        ("toy story", ["1", "2"]),
        ("story  toy", ["2", "1"]),
        ("comedy", ["3", "1"]),
        ("toys of war", ["5"]),
        ("bay", ["5"]),
        ("éclair", ["8"]),
        ("(1995)", ["8"]),
        (".*", []),
        ("story\nthe", []),
        (HTML, ["6"]),
        ("nothing like it", []),
        ("seven", ["seven"]),
    ],
)
async def test_every_word_occurs_and_the_best_come_first(
    search: ItemSearch, query: str, found: list[str]
) -> None:
    assert await ids(search, query) == found


async def test_without_a_query_all_come_by_title(search: ItemSearch) -> None:
    # `<` comes before letters; an item without a title stands where its id does.
    assert await ids(search, "") == ["6", "2", "seven", "3", "5", "1", "toy", "8"]
    assert await ids(search, "", "Comedy") == ["3", "1"]
    assert await ids(search, "story", "Comedy") == ["1"]
    assert await ids(search, "", "comedy") == []
    found = await search.find("toy", limit=1)
    assert found.count == 5
    assert found.categories == {"Comedy": 2, "Drama": 2, "Animation": 1, "Toys of War": 1}


async def test_what_changes_is_found_as_it_is(
    search: ItemSearch, redis: Redis, settings: Settings
) -> None:
    assert await ids(search, "zorro") == ["toy"]
    await stored(redis, settings, Item(item_id="toy", title="Batman"), "1", first=100)
    assert await ids(search, "zorro") == []
    assert await ids(search, "batman") == ["toy"]
    assert await ids(search, "toy story") == ["2"]
    # A Redis that has forgotten everything begins the numbers of changes anew.
    async for key in redis.scan_iter(settings.key("{catalogue}*")):
        await redis.delete(key)
    await stored(redis, settings, Item(item_id="9", title="Alone"))
    assert await ids(search, "") == ["9"]


async def test_many_items_page_by_page(redis: Redis, settings: Settings) -> None:
    items = [Item(item_id=f"{n}", title=f"Item {n:05}", categories=("All",)) for n in range(MANY)]
    search = ItemSearch(await stored(redis, settings, *items))
    seen: list[str] = []
    for offset in range(0, MANY, 500):
        found = await search.find("item", limit=500, offset=offset)
        assert (found.count, found.categories) == (MANY, {"All": MANY})
        seen += found.item_ids
    assert seen == [item.item_id for item in items]
    assert (await search.find("item", limit=500, offset=MANY)).item_ids == []


async def test_over_http(client: httpx.AsyncClient) -> None:
    for item in ITEMS:
        body: dict[str, Any] = {"title": item.title, "categories": item.categories}
        assert (await client.put(f"/v1/items/{item.item_id}", json=body)).status_code == 202
    answer = (
        await client.get("/v1/items", params={"query": "toy", "limit": 2, "offset": 1})
    ).json()
    assert (answer["count"], answer["offset"]) == (5, 1)
    assert [item["item_id"] for item in answer["items"]] == ["1", "2"]
    assert answer["items"][0] == {
        "item_id": "1", "title": "Toy Story", "categories": ["Animation", "Comedy"]
    }  # fmt: skip
    # Titles come as they are: whoever shows them escapes them.
    [item] = (await client.get("/v1/items", params={"id": "6"})).json()["items"]
    assert item["title"] == HTML
    named = await client.get("/v1/items", params={"id": ["3", "unknown", "1"]})
    assert [item["item_id"] for item in named.json()["items"]] == ["3", "1"]

    for params, words in (
        ({"query": "x" * 201}, "query: Expected at most 200 characters"),
        ({"limit": "0"}, "limit: Expected a whole number from 1 to 500"),
        ({"offset": "-1"}, "offset: Expected"),
        ({"id": ["1"] * 101}, "at most 100 ids"),
        ({"id": ["a\tb"]}, "id: "),
        ({"category": ""}, "category: "),
    ):
        check_problem(await client.get("/v1/items", params=params), 422, words)
