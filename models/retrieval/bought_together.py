"""Which items are bought together: counts of baskets, as a sparse matrix in four files.

Row by row (CSR), heaviest first: the row of item a names items b, and in how many of a's baskets
each was, too. Positions are those of `items.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OFFSETS, ITEMS, COUNTS, BASKETS = "offsets.npy", "items.npy", "counts.npy", "baskets.npy"


@dataclass(frozen=True)
class BoughtTogether:
    """For each of n items the items bought together with it."""

    offsets: NDArray[np.int64]
    """`[n + 1]`: the row of item a is `offsets[a]` to `offsets[a + 1]` of what follows."""
    items: NDArray[np.int32]
    counts: NDArray[np.int32]
    """Baskets that hold both items."""
    baskets: NDArray[np.int32]
    """`[n]`: baskets that hold the item."""

    @classmethod
    def nothing(cls, items: int) -> BoughtTogether:
        """Return that nothing is known of so many items."""
        none = np.zeros(0, np.int32)
        return cls(np.zeros(items + 1, np.int64), none, none, np.zeros(items, np.int32))

    @classmethod
    def load(cls, folder: Path, items: int) -> BoughtTogether:
        """Read what `save` wrote, of so many items.

        Raises `ValueError` or `OSError`, saying which file is wrong and how; nothing is unpickled.
        """
        loaded = cls(
            _read(folder, OFFSETS, np.int64),
            _read(folder, ITEMS, np.int32),
            _read(folder, COUNTS, np.int32),
            _read(folder, BASKETS, np.int32),
        )
        loaded._check(items)
        return loaded

    def save(self, folder: Path) -> None:
        """Write the four files."""
        for name, values in (
            (OFFSETS, self.offsets),
            (ITEMS, self.items),
            (COUNTS, self.counts),
            (BASKETS, self.baskets),
        ):
            np.save(folder / name, values, allow_pickle=False)

    def of(self, position: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the positions of the items bought together with one, heaviest first, and shares.

        A share is that of the item's baskets that hold the other one, in (0, 1]. Empty for an item
        that came later, or that nobody has bought together with another.
        """
        if position >= len(self.baskets):
            return np.zeros(0, np.int64), np.zeros(0)
        row = slice(*self.offsets[position : position + 2].tolist())
        shares = self.counts[row] / max(int(self.baskets[position]), 1)
        return self.items[row].astype(np.int64), shares

    def _check(self, items: int) -> None:
        if len(self.offsets) != items + 1 or len(self.baskets) != items:
            raise ValueError(f"{OFFSETS} or {BASKETS} has not one row for each of {items} items")
        rows = np.diff(self.offsets)
        if self.offsets[0] != 0 or (rows < 0).any() or self.offsets[-1] != len(self.items):
            raise ValueError(f"{OFFSETS} does not rise from 0 to the length of {ITEMS}")
        if len(self.items) and not 0 <= self.items.min() <= self.items.max() < items:
            raise ValueError(f"{ITEMS} names an item that there is not")
        most = np.repeat(self.baskets, rows)
        if len(self.counts) != len(self.items) or ((self.counts < 1) | (self.counts > most)).any():
            raise ValueError(f"{COUNTS} has a count below 1 or above that in {BASKETS}")


def _read(folder: Path, name: str, dtype: type[Any]) -> NDArray[Any]:
    try:
        values: NDArray[Any] = np.load(folder / name, allow_pickle=False)
    except ValueError as exc:
        raise ValueError(f"{name}: {exc}") from exc
    if values.dtype != dtype or values.ndim != 1:
        raise ValueError(f"{name} must hold {np.dtype(dtype).name} [n]")
    return values
