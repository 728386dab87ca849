"""Items: the catalogue searched and changed, an item's neighbours, and the map of all."""

from console.pages.items.page import PAGE

__all__ = ["PAGE"]
