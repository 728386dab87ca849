"""The catalogue: searched as one types, page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from console import formats
from console.visit import Visit
from console.widgets.address import Address
from console.widgets.html import Tag, box, button, text
from console.widgets.parts import Field
from console.widgets.shared import Panel, no_data
from headrace_client.types import FoundItems, Item

_TYPED_S = 0.25
_LONGEST = 200
"""Characters of a search."""
_PAGE = 20
_CHIPS = 4
_ALL = ""
_LOOK_S = 5.0
"""Pause between looks at a catalogue in which there is nothing yet."""
_QUERY, _CATEGORY, _OFFSET = "query", "category", "offset"
"""The names under which the page's address has them."""


class Search:
    """What is asked for, and what was found."""

    def __init__(self, visit: Visit, address: Address) -> None:
        self.on_choice: Callable[[str | None], object]
        """Is given the item that was chosen; None for a new one."""
        self._visit = visit
        self._address = address
        self._names: dict[str, str] = {}
        self._is_empty = False
        """Whether the catalogue was, when it was looked at last."""
        self._read_address()
        self._panel = Panel(visit, "Catalogue")
        with self._panel.tools:
            if visit.allows("admin"):
                button("New item", lambda: self.on_choice(None))
        self._panel.body.clear()
        with self._panel.body, box("search-form"):
            self._words = Field(
                "Search", kind="search", hint="Words of id, title and categories",
                value=self._query, on_change=self._type,
            )  # fmt: skip
            self._categories = Field(
                "Category", kind="select", options=self._options(), value=self._category,
                on_change=self._choose_category,
            )  # fmt: skip
        self._found = Panel(visit, "Found")
        self.refresh()
        visit.every(_LOOK_S, self._look)

    def go(self) -> None:
        """Search for what the address says."""
        before = self.query()
        self._read_address()
        if self.query() != before:
            self._words.set(self._query)
            self._categories.set_options(self._options())
            self._categories.set(self._category)
            self.refresh()

    def query(self) -> dict[str, str]:
        """Return what the address says of what is searched for."""
        offset = str(self._offset) if self._offset else ""
        return {_QUERY: self._query, _CATEGORY: self._category, _OFFSET: offset}

    def _read_address(self) -> None:
        said = self._address.query
        self._query, self._category = said.get(_QUERY, "")[:_LONGEST], said.get(_CATEGORY, _ALL)
        offset = said.get(_OFFSET, "")
        is_number = offset.isascii() and offset.isdigit() and len(offset) < 7
        self._offset = int(offset) if is_number else 0

    def refresh(self) -> None:
        """Search again: something was changed."""
        self._address.note(self.query())
        # The same answer may say something else: there is no such item, or none at all.
        self._found.load(self._read, self._draw, always=True)

    async def _look(self) -> None:
        if self._is_empty:
            self.refresh()

    async def _read(self) -> FoundItems:
        found = await self._ask()
        if found.count and not found.items:
            # There are fewer than there were: what is now the last page.
            self._offset = (found.count - 1) // _PAGE * _PAGE
            self._address.note(self.query())
            found = await self._ask()
        if self._is_of_all:
            self._note_categories(found)
        elif not self._names:
            self._note_categories(await self._visit.api.items(limit=1))
        return found

    async def _ask(self) -> FoundItems:
        return await self._visit.api.items(
            self._query or None,
            category=self._category or None,
            limit=_PAGE,
            offset=self._offset,
        )

    async def _type(self, query: str) -> None:
        self._query, self._offset = query.strip()[:_LONGEST], 0
        typed = self._query
        await asyncio.sleep(_TYPED_S)
        if typed == self._query:
            self.refresh()

    def _choose_category(self, category: str) -> None:
        self._category, self._offset = category, 0
        self.refresh()

    def _turn(self, offset: int) -> None:
        self._offset = max(0, offset)
        self.refresh()

    @property
    def _is_of_all(self) -> bool:
        return not self._query and not self._category

    def _note_categories(self, everything: FoundItems) -> None:
        self._names = {
            name: f"{name} ({formats.count(n)})" for name, n in everything.categories.items()
        }
        self._categories.set_options(self._options())

    def _options(self) -> dict[str, str]:
        """Return what categories are called; the one that was chosen is always there."""
        chosen = {self._category: self._category} if self._category else {}
        return {_ALL: "all", **chosen, **self._names}

    def _draw(self, found: FoundItems) -> None:
        self._is_empty = self._is_of_all and not found.count
        if self._is_empty:
            no_data("The catalogue is empty: POST /v1/items and headrace import fill it.")
            return
        if not found.count:
            text("No item of the catalogue is like that.", "none", tag="p")
            return
        with Tag("ol", "found"):
            for item in found.items:
                self._draw_item(item)
        last = found.offset + len(found.items)
        with box("pager"):
            # From the page that is shown: a double click asks for the same one twice.
            back = button("Previous", lambda: self._turn(found.offset - _PAGE), kind="small")
            back.attribute("disabled", None if found.offset else True)
            text(
                f"{formats.count(found.offset + 1)} to {formats.count(last)} of "
                f"{formats.count(found.count)}",
                "muted",
            )
            forth = button("Next", lambda: self._turn(found.offset + _PAGE), kind="small")
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
