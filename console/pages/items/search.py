"""The catalogue: searched as one types, page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from console import formats
from console.visit import Visit
from console.widgets.html import Tag, box, button, text
from console.widgets.parts import Field
from console.widgets.shared import Panel
from headrace_client.types import FoundItems, Item

_TYPED_S = 0.25
_PAGE = 20
_CHIPS = 4
_ALL = ""


class Search:
    """What is asked for, and what was found."""

    def __init__(self, visit: Visit) -> None:
        self.on_choice: Callable[[str | None], None]
        """Is given the item that was chosen; None for a new one."""
        self._visit = visit
        self._query, self._category, self._offset = "", _ALL, 0
        self._panel = Panel(visit, "Catalogue")
        with self._panel.tools:
            if visit.allows("admin"):
                button("New item", lambda: self.on_choice(None))
        self._panel.body.clear()
        with self._panel.body, box("search-form"):
            Field(
                "Search", kind="search", hint="Words of id, title and categories",
                on_change=self._type,
            )  # fmt: skip
            self._categories = Field(
                "Category", kind="select", options={_ALL: "all"}, on_change=self._choose_category
            )
        self._found = Panel(visit, "Found")
        self.refresh()

    def refresh(self) -> None:
        """Search again: something was changed."""
        self._found.load(self._read, self._draw)

    async def _read(self) -> FoundItems:
        return await self._visit.api.items(
            self._query or None,
            category=self._category or None,
            limit=_PAGE,
            offset=self._offset,
        )

    async def _type(self, query: str) -> None:
        self._query, self._offset = query.strip()[:200], 0
        typed = self._query
        await asyncio.sleep(_TYPED_S)
        if typed == self._query:
            self.refresh()

    def _choose_category(self, category: str) -> None:
        self._category, self._offset = category, 0
        self.refresh()

    def _turn(self, by: int) -> None:
        self._offset = max(0, self._offset + by)
        self.refresh()

    def _draw(self, found: FoundItems) -> None:
        if not self._query and not self._category:
            known = {name: f"{name} ({formats.count(n)})" for name, n in found.categories.items()}
            self._categories.set_options({_ALL: "all", **known})
        if not found.count:
            text("No item of the catalogue is like that.", "none", tag="p")
            return
        with Tag("ol", "found"):
            for item in found.items:
                self._draw_item(item)
        last = found.offset + len(found.items)
        with box("pager"):
            back = button("Previous", lambda: self._turn(-_PAGE), kind="small")
            back.attribute("disabled", None if found.offset else True)
            text(
                f"{formats.count(found.offset + 1)} to {formats.count(last)} of "
                f"{formats.count(found.count)}",
                "muted",
            )
            forth = button("Next", lambda: self._turn(_PAGE), kind="small")
            forth.attribute("disabled", None if last < found.count else True)

    def _draw_item(self, item: Item) -> None:
        with Tag("li"):
            row = button("", lambda: self.on_choice(item.item_id), kind="found-item")
            row.attribute("data-item", item.item_id)
            with row:
                text(item.title or "without a title", "found-title" if item.title else "none")
                text(item.item_id, "mono muted")
                with box("chips"):
                    for category in item.categories[:_CHIPS]:
                        text(category, "chip")
