"""Searching the catalogue in words: its items as lines of one text, which the search scans.

A server holds that text, a third of a kilobyte an item, from the first search on; each search
takes in what has changed since the one before.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.catalog import CatalogStore, Item

_END = "\n"
"""Begins each line."""
_NEXT = "\x1f"
"""Between the fields of a line: id, title, categories."""
_CATEGORIES_TOLD = 500
Rows = NDArray[np.int64]
"""Numbers of lines."""


@dataclass(frozen=True)
class FoundItems:
    """What a search found."""

    count: int
    """Of all that match."""
    item_ids: list[str]
    """Of those asked for, in their order."""
    categories: dict[str, int]
    """How many of all that match have each category, the most frequent ones."""


class ItemSearch:
    """Finds items by the words of their ids, titles and categories, whatever their case."""

    def __init__(self, catalog: CatalogStore) -> None:
        self._catalog = catalog
        self._sequence = 0
        self._items: dict[str, tuple[str, tuple[str, ...]]] = {}
        """By id, title and categories."""
        self._text: _Text | None = None
        self._catching_up = asyncio.Lock()

    async def find(
        self, query: str, category: str | None = None, *, limit: int, offset: int = 0
    ) -> FoundItems:
        """Return items in which every word of the query occurs, those from `offset` on.

        First the one whose id it is, then those whose title begins with it, those with a word that
        does, and others; among equals by title. `category` is compared letter for letter. Raises
        `redis.exceptions.RedisError` or `OSError`.
        """
        async with self._catching_up:
            await self._catch_up()
            if self._text is None:
                self._text = await asyncio.to_thread(_Text, self._items)
            text = self._text
        return await asyncio.to_thread(text.find, query, category, limit, offset)

    async def _catch_up(self) -> None:
        if await self._catalog.sequence() < self._sequence:
            # Redis has forgotten the catalogue, which begins anew.
            self._sequence, self._items, self._text = 0, {}, None
        while True:
            sequence, changed = await self._catalog.changes_since(self._sequence)
            if not changed:
                return
            self._sequence, self._text = sequence, None
            for item_id, change in changed.items():
                if change.item is None:
                    self._items.pop(item_id, None)
                else:
                    self._items[item_id] = _searched(change.item)


class _Text:
    """All items at one moment, in the order of their titles."""

    def __init__(self, items: Mapping[str, tuple[str, tuple[str, ...]]]) -> None:
        rows = sorted(
            (_plain(title) or _plain(item_id), item_id, _plain(title), categories)
            for item_id, (title, categories) in items.items()
        )
        self._ids = [item_id for _, item_id, _, _ in rows]
        lines = [
            _END + _NEXT.join((_plain(item_id), title, *map(_plain, categories)))
            for _, item_id, title, categories in rows
        ]
        self._text = "".join((*lines, _END))
        lengths = np.fromiter(map(len, lines), np.int64, len(lines))
        self._starts: Rows = np.cumsum(lengths) - lengths
        self._codes: dict[str, int] = {}
        entries = [
            (row, self._codes.setdefault(category, len(self._codes)))
            for row, (_, _, _, categories) in enumerate(rows)
            for category in categories
        ]
        self._row_of, self._code_of = np.array(entries, np.int64).reshape(-1, 2).T

    def find(self, query: str, category: str | None, limit: int, offset: int) -> FoundItems:
        """Return what `ItemSearch.find` does."""
        matches = np.ones(len(self._ids), np.bool_)
        for word in _plain(query).split():
            matches &= self._having(re.escape(word))
        if category is not None:
            of_category = np.zeros(len(self._ids), np.bool_)
            code = self._codes.get(category, -1)
            of_category[self._row_of[self._code_of == code]] = True
            matches &= of_category
        rows = np.flatnonzero(matches)
        rank = self._ranks(_plain(query).strip())[rows]
        rows = rows[np.lexsort((rows, rank))]
        page = rows[offset : offset + limit].tolist()
        return FoundItems(len(rows), [self._ids[row] for row in page], self._counted(matches))

    def _having(self, pattern: str) -> NDArray[np.bool_]:
        """Return of each line whether the pattern occurs in it."""
        # The rest of the line belongs to the match: one for each line, and no more.
        found = re.finditer(f"{pattern}[^{_END}]*", self._text)
        starts = np.fromiter((match.start() for match in found), np.int64)
        having = np.zeros(len(self._ids), np.bool_)
        having[np.searchsorted(self._starts, starts, side="right") - 1] = True
        return having

    def _ranks(self, query: str) -> Rows:
        ranks = np.full(len(self._ids), 3)
        if query:
            word = re.escape(query)
            ranks[self._having(rf"[\s{_NEXT}]{word}")] = 2
            ranks[self._having(f"{_END}[^{_END}{_NEXT}]*{_NEXT}{word}")] = 1
            ranks[self._having(f"{_END}{word}{_NEXT}")] = 0
        return ranks

    def _counted(self, matches: NDArray[np.bool_]) -> dict[str, int]:
        counts = np.bincount(self._code_of[matches[self._row_of]], minlength=len(self._codes))
        named = sorted(zip((-counts).tolist(), self._codes, strict=True))
        return dict(_told(named))


def _told(named: list[tuple[int, str]]) -> Iterator[tuple[str, int]]:
    for negative, category in named[:_CATEGORIES_TOLD]:
        if negative:
            yield category, -negative


def _searched(item: Item) -> tuple[str, tuple[str, ...]]:
    return item.title or "", item.categories


def _plain(text: str) -> str:
    """Return text as it is searched: without case, and without what ends a line or a field."""
    return re.sub(r"[\x00-\x1f\x85\u2028\u2029]", " ", text.casefold())
