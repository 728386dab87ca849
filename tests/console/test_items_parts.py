"""What Items is made of, apart from any browser, and what items are called."""

from __future__ import annotations

from typing import cast

import pytest
from nicegui import ElementFilter
from nicegui.testing import user_simulation
from parts import eventually
from parts_tools import opened_visit

from console.pages.items import search
from console.pages.items.item_map import MapPanel, words_of
from console.pages.items.popularity import draw_popularity
from console.titles import Titles
from console.widgets.address import Address
from console.widgets.html import Tag
from headrace_client import AsyncClient
from headrace_client.types import (
    FoundItems,
    Item,
    ItemMap,
    ItemPopularity,
    ModelInfo,
    Ready,
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


async def test_a_map_is_not_asked_for_before_there_is_a_model() -> None:
    class Young:
        async def ready(self) -> Ready:
            return Ready(ready=True, redis=True, kafka=True, model_id="shop", model=None)

        async def close(self) -> None: ...

    def page() -> None:
        visit = opened_visit()
        # Whatever else is asked fails, and says so.
        visit.api = Young()  # type: ignore[assignment]
        MapPanel(visit, lambda _: None)

    async with user_simulation(page) as user:
        await user.open("/")
        with user:

            async def says_so() -> bool:
                told = "No data yet. Model shop has no live version. The first training makes one."
                return told in [each.text for each in ElementFilter(kind=Tag)]

            await eventually(says_so, "it says why there is none")


@pytest.mark.parametrize(
    ("step_s", "at", "events", "told"),
    [
        (
            86_400, [0, 86_400], [0, 1],
            "Of the 2 days up to the newest event of any item, 1970-01-01 to 1970-01-02 UTC.",
        ),
        (
            3_600, [3_600], [0],
            "No data yet. Of the hour of the newest event of any item, 1970-01-01 01:00 UTC: it "
            "was not met then, or too seldom to be counted.",
        ),
        (86_400, [], [], "No data yet. There have been no events yet."),
    ],
)  # fmt: skip
async def test_popularity_says_which_time_it_is_of(
    step_s: int, at: list[int], events: list[int], told: str
) -> None:
    found = ItemPopularity(item_id="tea", step_s=step_s, at=at, events=events)
    async with user_simulation(lambda: draw_popularity(found)) as user:
        await user.open("/")
        with user:
            assert told in [each.text for each in ElementFilter(kind=Tag)]
