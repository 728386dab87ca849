"""The item table of a loaded version: what `ItemTable` holds, and the items' vectors."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from models.retrieval.items import ItemTable
from models.retrieval.places import UNKNOWN


class ItemVectors(ItemTable):
    """Items by position: first those trained on, then cold ones in the order in which they came.

    An item that is withdrawn keeps its position and its vector, for sessions that hold it.
    """

    def __init__(self, item_ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """`vectors`: `[items, width]`, one row per id."""
        super().__init__(item_ids)
        self._table = vectors
        self._trained = len(item_ids)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """`[items, width]`, by position; not to be written to."""
        return self._table[: len(self._ids)]

    def are_cold(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return of each position whether the item there came after the training."""
        return np.asarray(positions >= self._trained)

    @property
    def has_cold(self) -> bool:
        """Whether an item came after the training."""
        return len(self._ids) > self._trained

    def cold_candidates(self) -> NDArray[np.int64]:
        """Return where the cold items stand that may be recommended, rising."""
        cold = np.arange(self._trained, len(self._ids))
        return cold[self.are_candidates(cold)]

    def are_trained(self, item_ids: Collection[str]) -> NDArray[np.bool_]:
        """Return of each of these whether the version was trained on it."""
        positions = self.looked_up(item_ids)
        return np.asarray((positions != UNKNOWN) & (positions < self._trained))

    def put(self, item_ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Add cold items, or replace their vectors. They are withdrawn until `restore`."""
        self.add(item_ids)
        missing = len(self._ids) - len(self._table)
        if missing > 0:
            # Room for as many again, so that items that come one by one are not copied each time.
            spare = np.zeros((missing + len(self._table), self._table.shape[1]), np.float32)
            self._table = np.concatenate([self._table, spare])
        at = self.positions(item_ids)
        self._table[at] = vectors
        # Until the index has the new vectors, none of them is found.
        self._withdrawn.update(at.tolist())
        self._is_candidate[at] = False


def directions(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `[n, width - 1]`: the `[n, width]` vectors, biases apart, at length 1."""
    unbiased = vectors[:, :-1]
    norms = np.linalg.norm(unbiased, axis=1, keepdims=True)
    return np.asarray(unbiased / np.maximum(norms, np.finfo(np.float32).tiny))
