"""What Items is made of, apart from any browser, and what items are called."""

from __future__ import annotations

from typing import cast

import pytest
from nicegui import ElementFilter
from nicegui.testing import user_simulation
from parts import eventually
from parts_tools import opened_visit

from console.pages.items import search
from console.pages.items.item_map import words_of
from console.titles import Titles
from console.widgets.address import Address
from console.widgets.html import Tag
from headrace_client import AsyncClient
from headrace_client.types import (
    FoundItems,
    Item,
    ItemMap,
    ModelInfo,
)


async def test_an_item_that_was_changed_is_read_anew() -> None:
    there = {"tea": "Tea"}

    class Catalogue:
        async def items(self, ids: list[str]) -> FoundItems:
            items = [Item(item_id=each, title=there[each]) for each in ids]
            return FoundItems(items=items, count=len(items), offset=0, categories={})

    titles = Titles(cast("AsyncClient", Catalogue()))
    shown = []
    for title in ("Tea", "Mate"):
        there["tea"] = title
        await titles.find(["tea"])
        shown.append(titles.known["tea"].title)
    titles.forget("tea")
    await titles.find(["tea"])
    assert [*shown, titles.known["tea"].title] == ["Tea", "Tea", "Mate"]


async def test_a_list_of_items_keeps_its_names_when_too_many_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("console.titles._MOST", 2)

    class Catalogue:
        async def items(self, ids: list[str]) -> FoundItems:
            items = [Item(item_id=each, title=each) for each in ids]
            return FoundItems(items=items, count=len(items), offset=0, categories={})

    titles = Titles(cast("AsyncClient", Catalogue()))
    await titles.find(["a", "b"])
    await titles.find(["b", "c"])
    assert sorted(titles.known) == ["b", "c"]


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (2, "All 2 items of v, each in the colour of its first category"),
        (9, "2 of 9 items of v, the most popular of late, each in the colour"),
    ],
)
def test_a_map_says_what_it_leaves_out(count: int, words: str) -> None:
    found = ItemMap(
        model=ModelInfo(id="shop", version="v"), ids=["a", "b"], titles=[None, None],
        categories=[None, None], x=[0, 1], y=[0, 1], count=count, explained=0.5,
    )  # fmt: skip
    assert words_of(found).startswith(words)


async def test_a_catalogue_that_was_empty_is_shown_once_it_is_filled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "_LOOK_S", 0.05)
    there: list[Item] = []

    class Catalogue:
        async def items(self, *_: object, **__: object) -> FoundItems:
            categories = {"Drinks": len(there)} if there else {}
            return FoundItems(items=there, count=len(there), offset=0, categories=categories)

        async def close(self) -> None: ...

    def page() -> None:
        visit = opened_visit()
        visit.api = Catalogue()  # type: ignore[assignment]
        search.Search(visit, Address({}))

    async with user_simulation(page) as user:
        await user.open("/")
        with user:

            def shown(words: str) -> bool:
                return any(words in each.text for each in ElementFilter(kind=Tag))

            async def says(words: str) -> bool:
                return shown(words)

            await eventually(lambda: says("No data yet. The catalogue is empty"), "it is empty")
            there.append(Item(item_id="tea", title="Tea"))
            await eventually(lambda: says("1 to 1 of 1"), "the item is shown")
