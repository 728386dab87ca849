"""The page: a search, the item that was chosen, and the map."""

from __future__ import annotations

from console.pages.items.item import ItemView
from console.pages.items.item_map import MapPanel
from console.pages.items.search import Search
from console.visit import Page, Visit
from console.widgets.html import box


def _build(visit: Visit) -> None:
    with box("items-grid"):
        with box("stack"):
            search = Search(visit)
        with box("stack"):
            view = ItemView(visit, search.refresh)
    search.on_choice = view.choose
    MapPanel(visit, view.choose)


PAGE = Page("/items", "Items", "recommend", _build)
