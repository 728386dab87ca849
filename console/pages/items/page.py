"""The page: a search, the item that was chosen, and the map."""

from __future__ import annotations

from console.pages.items.item import ItemView
from console.pages.items.item_map import MapPanel
from console.pages.items.search import Search
from console.visit import Page, Visit
from console.widgets.address import Address, Query
from console.widgets.html import box


def _build(visit: Visit) -> None:
    async def go(_: Query) -> None:
        """Show what was shown at a step of the history, unless something is being typed."""
        if not await view.may_leave():
            address.note({**search.query(), **view.query()}, step=True)
            return
        search.go()
        view.go()

    address = Address(visit.query, go)
    with box("items-grid"):
        with box("stack"):
            search = Search(visit, address)
        with box("stack"):
            view = ItemView(visit, address, search.refresh)
    search.on_choice = view.choose
    MapPanel(visit, view.choose)


PAGE = Page("/items", "Items", "recommend", _build)
