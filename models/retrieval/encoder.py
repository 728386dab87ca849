"""From sessions to query vectors: what the query tower reads of them, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from headrace.sessions import Session
from models.retrieval.features import (
    INTERACTION_FEATURES,
    interaction_features,
    kind_codes,
    rating_values,
)
from models.retrieval.tower import QueryTower


class SessionEncoder:
    """Makes the query vectors of sessions. One thread calls it at a time."""

    def __init__(self, tower: QueryTower, *, of_items: bool) -> None:
        """`of_items`: the tower was told of items alone, not of what was done to them."""
        self._tower = tower
        self._of_items = of_items

    def __call__(
        self,
        sessions: Sequence[Session],
        places: Sequence[NDArray[np.int64]],
        vectors: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Return `[n, width]`: the query vectors of the newest interactions with known items.

        `places`: of each session where its items stand in `vectors`, `[items, width]`; -1 for an
        unknown one. Each session has a known item.
        """
        place = np.concatenate(places)
        sizes = np.fromiter(map(len, places), np.int64, len(places))
        known = (place >= 0).nonzero()[0]
        row = np.arange(len(places)).repeat(sizes)[known]
        lengths = np.bincount(row, minlength=len(places))
        # Sessions end in the last column, whatever their length.
        column = np.arange(len(known)) - lengths.cumsum()[row] + self._tower.session_length
        if column.min() < 0:
            newest = column >= 0
            known, row, column = known[newest], row[newest], column[newest]

        shape = (len(places), self._tower.session_length)
        padded_vectors = np.zeros((*shape, self._tower.width), np.float32)
        padded_vectors[row, column] = vectors[place[known]]
        padded_features = np.zeros((*shape, INTERACTION_FEATURES), np.float32)
        if not self._of_items:
            padded_features[row, column] = _features(sessions, sizes)[known]
        lengths = np.minimum(lengths, self._tower.session_length)
        return self._tower(padded_vectors, padded_features, lengths.astype(np.int32))


def _features(sessions: Sequence[Session], sizes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return `[n, INTERACTION_FEATURES]` of all sessions' interactions, one after the other.

    `sizes`: how many there are of each.
    """
    times = np.fromiter(chain.from_iterable([each.timestamps for each in sessions]), np.float64)
    gaps = np.empty(len(times))
    np.subtract(times[1:], times[:-1], out=gaps[1:])
    gaps[sizes[:-1].cumsum()] = 0.0
    gaps[0] = 0.0
    return interaction_features(
        gaps,
        kind_codes([kind for each in sessions for kind in each.kinds]),
        rating_values([rating for each in sessions for rating in each.ratings]),
    )
