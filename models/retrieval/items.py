"""The items by position: their ids, what the catalogue says of them, and which are candidates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from headrace.catalog import Item
from models.retrieval.attributes import ItemAttributes, Mask
from models.retrieval.filters import Filter
from models.retrieval.limits import Limits
from models.retrieval.places import UNKNOWN, Places

_FILTERS_KEPT = 64
"""Filters whose items are remembered: a byte for each item and filter."""


class ItemTable:
    """Items by position, in the order in which they came. One that is withdrawn keeps its place."""

    def __init__(self, item_ids: Sequence[str] = ()) -> None:
        self._ids = list(item_ids)
        self._places = Places(self._ids)
        self._withdrawn: set[int] = set()
        self._is_candidate = np.ones(len(item_ids), np.bool_)
        self._attributes = ItemAttributes()
        self._filtered: OrderedDict[bytes, Mask] = OrderedDict()
        """By a filter's key, of the newest filters, the positions of which it holds."""

    def __len__(self) -> int:
        """Return how many items are known, candidates or not."""
        return len(self._ids)

    def ids(self, positions: NDArray[np.int64]) -> list[str]:
        """Return the ids at these positions."""
        return [self._ids[position] for position in positions.tolist()]

    def position(self, item_id: str) -> int | None:
        """Return where a known item stands, candidate or not; None for an unknown one."""
        return self._places.get(item_id)

    def positions(self, item_ids: Collection[str]) -> NDArray[np.int64]:
        """Return where the known ones among these stand."""
        found = self.looked_up(item_ids)
        return np.asarray(found[found != UNKNOWN])

    def looked_up(self, item_ids: Collection[str]) -> NDArray[np.int64]:
        """Return where each of these stands; -1 for an unknown one."""
        return self._places.of(item_ids)

    def candidate(self, item_id: str) -> int | None:
        """Return where a candidate stands; None for an item unknown or withdrawn."""
        position = self._places.get(item_id)
        return None if position in self._withdrawn else position

    def are_candidates(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return of each position whether a candidate stands there."""
        return np.asarray(self._is_candidate[positions])

    def allowed(self, limits: Limits) -> Mask:
        """Return of each position whether a candidate stands there that the limits allow."""
        mask: Mask = self._is_candidate[: len(self._ids)].copy()
        if limits.filter is not None:
            mask &= self._holding(limits.filter)
        mask[self.positions(limits.exclude)] = False
        return mask

    def holding(self, item_ids: Sequence[str], asked: Filter) -> Mask:
        """Return of each of these whether it is a candidate of which the filter holds."""
        # An unknown one stands at -1: the last place, which allows nothing.
        allowed = np.append(self.allowed(Limits(filter=asked)), False)
        return np.asarray(allowed[self.looked_up(item_ids)])

    def has(self, asked: Filter) -> bool:
        """Return whether there is a candidate of which the filter holds."""
        return bool(self.allowed(Limits(filter=asked)).any())

    def first_of(
        self, order: NDArray[np.int64], k: int, limits: Limits, exclude: Collection[str] = ()
    ) -> NDArray[np.int64]:
        """Return k allowed positions, none of `exclude`: first those of `order`, then others.

        `order` may name a position twice.
        """
        allowed = self.allowed(limits)
        allowed[self.positions(exclude)] = False
        kept = order[allowed[order]]
        _, first = np.unique(kept, return_index=True)
        kept = kept[np.sort(first)][:k]
        allowed[kept] = False
        return np.concatenate([kept, np.flatnonzero(allowed)[: k - len(kept)]])

    def take(self, items: Sequence[Item]) -> NDArray[np.int64]:
        """Make items candidates, as the catalogue describes them now.

        Returns the positions of those that were none.
        """
        item_ids = [item.item_id for item in items]
        self.add(item_ids)
        self.describe(items)
        return self.restore(item_ids)

    def describe(self, items: Sequence[Item]) -> None:
        """Take what the catalogue says of known items now."""
        self._attributes.put(self.looked_up([item.item_id for item in items]).tolist(), items)
        self._filtered.clear()

    def settle(self) -> None:
        """Do now what the next filters would have to wait for."""
        self._attributes.settle()

    def add(self, item_ids: Sequence[str]) -> None:
        """Make these known; those that were not are withdrawn until `restore`."""
        unknown = (self.looked_up(item_ids) == UNKNOWN).tolist()
        new = list(dict.fromkeys(compress(item_ids, unknown)))
        if not new:
            return
        positions = range(len(self._ids), len(self._ids) + len(new))
        for item_id, position in zip(new, positions, strict=True):
            self._places.add(item_id, position)
        self._ids.extend(new)
        self._withdrawn.update(positions)
        missing = len(self._ids) - len(self._is_candidate)
        if missing > 0:
            # Room for as many again, so that items that come one by one are not copied each time.
            self._is_candidate = np.pad(self._is_candidate, (0, missing + len(self._is_candidate)))
        self._filtered.clear()

    def restore(self, item_ids: Sequence[str]) -> NDArray[np.int64]:
        """Make withdrawn items candidates; return the positions of those that were not."""
        restored = [at for at in self.positions(item_ids).tolist() if at in self._withdrawn]
        self._withdrawn.difference_update(restored)
        self._is_candidate[restored] = True
        return np.array(sorted(set(restored)), np.int64)

    def withdraw(self, item_ids: Collection[str]) -> NDArray[np.int64]:
        """Make items no candidates; return the positions of those that were."""
        at = [p for p in self.positions(item_ids).tolist() if p not in self._withdrawn]
        self._withdrawn.update(at)
        self._is_candidate[at] = False
        return np.array(at, np.int64)

    def _holding(self, asked: Filter) -> Mask:
        """Return of each position whether the filter holds of the item there."""
        mask = self._filtered.get(asked.key)
        if mask is None:
            mask = self._attributes.matches(asked.root, len(self._ids), self.positions)
            self._filtered[asked.key] = mask
            while len(self._filtered) > _FILTERS_KEPT:
                self._filtered.popitem(last=False)
        self._filtered.move_to_end(asked.key)
        return mask
