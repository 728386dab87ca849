"""The baseline: the items with the most ratings so far that the user has not rated yet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.events import Rating


def popularity_hits(ratings: Sequence[Rating], first: int, k: int) -> NDArray[np.bool_]:
    """Return of each rating from `first` on whether popularity had its item among k.

    The counts are those of all ratings before it; the user's seen items are left out; of items
    with equal counts the one rated first comes first.
    """
    users = {user_id: code for code, user_id in enumerate({r.user_id: None for r in ratings})}
    items = {item_id: code for code, item_id in enumerate({r.item_id: None for r in ratings})}
    counts = np.zeros(len(items), np.int64)
    seen = np.zeros((len(users), len(items)), np.bool_)
    hits = np.zeros(max(len(ratings) - first, 0), np.bool_)
    for position, rating in enumerate(ratings):
        user, item = users[rating.user_id], items[rating.item_id]
        if position >= first:
            hits[position - first] = _is_among(k, item, counts, seen[user])
        counts[item] += 1
        seen[user, item] = True
    return hits


def _is_among(k: int, item: int, counts: NDArray[np.int64], seen: NDArray[np.bool_]) -> bool:
    """Return whether the item is among the k unseen items with the highest counts."""
    if seen[item] or not counts[item]:
        return False
    # Codes are given in the order of first ratings.
    ahead = counts > counts[item]
    ahead[:item] |= counts[:item] == counts[item]
    return int(np.count_nonzero(ahead & ~seen)) < k
