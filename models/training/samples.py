"""Sessions of the log on which an export is checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.training.dataset import Histories, sessions_before

CHECKED = 1_000
"""Sessions at the most."""
_ROWS = 128
"""Sessions in one call of a tower."""


@dataclass(frozen=True)
class Sessions:
    """n sessions as the query tower reads them, left-padded."""

    items: NDArray[np.int32]
    """`[n, length]`: rows of the item vectors, 0 for padding."""
    features: NDArray[np.float32]
    """`[n, length, INTERACTION_FEATURES]`."""
    length: NDArray[np.int32]
    """`[n]`: interactions of each, at least 1."""

    def __len__(self) -> int:
        return len(self.length)

    def batches(self) -> Iterator[Sessions]:
        """Yield them some at a time."""
        for at in range(0, len(self), _ROWS):
            rows = slice(at, at + _ROWS)
            yield Sessions(self.items[rows], self.features[rows], self.length[rows])


def sample_sessions(data: Histories, length: int) -> Sessions:
    """Return sessions of the log, as they were at moments evenly spaced among all there were.

    `length`: the query tower's.
    """
    there = np.flatnonzero(data.first < np.arange(len(data)))
    spaced = np.linspace(0, len(there) - 1, min(CHECKED, len(there))).astype(np.int64)
    found = sessions_before(data, there[spaced], length)
    return Sessions(found["items"], found["features"], found["length"])
