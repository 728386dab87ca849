"""The item table of a loaded version: ids, vectors, and which items are candidates."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray


class ItemVectors:
    """Items by position: first those trained on, then cold ones in the order in which they came.

    An item that is withdrawn keeps its position and its vector, for sessions that hold it.
    """

    def __init__(self, item_ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """`vectors`: `[items, width]`, one row per id."""
        self._ids = list(item_ids)
        self._position = {item_id: position for position, item_id in enumerate(item_ids)}
        self._table = vectors
        self._trained = len(item_ids)
        self._withdrawn: set[int] = set()
        self._is_candidate = np.ones(len(item_ids), np.bool_)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """`[items, width]`, by position; not to be written to."""
        return self._table[: len(self._ids)]

    def ids(self, positions: NDArray[np.int64]) -> list[str]:
        """Return the ids at these positions."""
        return [self._ids[position] for position in positions.tolist()]

    def position(self, item_id: str) -> int | None:
        """Return where a known item stands, candidate or not; None for an unknown one."""
        return self._position.get(item_id)

    def positions(self, item_ids: Collection[str]) -> NDArray[np.int64]:
        """Return where the known ones among these stand."""
        known = [at for item_id in item_ids if (at := self._position.get(item_id)) is not None]
        return np.array(known, np.int64)

    def candidate(self, item_id: str) -> int | None:
        """Return where a candidate stands; None for an item unknown or withdrawn."""
        position = self._position.get(item_id)
        return None if position in self._withdrawn else position

    def are_candidates(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return of each position whether a candidate stands there."""
        return self._is_candidate[positions]

    def are_cold(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return of each position whether the item there came after the training."""
        return np.asarray(positions >= self._trained)

    def is_trained(self, item_id: str) -> bool:
        """Return whether the version was trained on the item."""
        return self._position.get(item_id, self._trained) < self._trained

    def put(self, item_ids: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Add cold items, or replace their vectors. They are withdrawn until `restore`."""
        for item_id in item_ids:
            if item_id not in self._position:
                self._position[item_id] = len(self._ids)
                self._ids.append(item_id)
        missing = len(self._ids) - len(self._table)
        if missing > 0:
            # Room for as many again, so that items that come one by one are not copied each time.
            spare = np.zeros((missing + len(self._table), self._table.shape[1]), np.float32)
            self._table = np.concatenate([self._table, spare])
            self._is_candidate = np.pad(self._is_candidate, (0, len(spare)))
        at = self.positions(item_ids)
        self._table[at] = vectors
        self._withdrawn.update(at.tolist())
        self._is_candidate[at] = False

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
