"""What merely counts, on the demo's own events: popularity, sequential rules, item-kNN."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.events import Rating
from headrace.local.baselines import Baseline, ItemKnn, Popularity, SequentialRules, stream_ranks

_BASELINES: dict[str, Callable[[int], Baseline]] = {
    "popularity": Popularity,
    "rules": SequentialRules,
    "knn": ItemKnn,
}


def baseline_hits(ratings: Sequence[Rating], first: int, k: int) -> dict[str, NDArray[np.bool_]]:
    """Return by name, of each rating from `first` on, whether the baseline had its item among k.

    Each has learned every rating before it, however the model may lag behind. The user's seen
    items are left out; equal scores count against the baseline.
    """
    users = {user_id: code for code, user_id in enumerate({r.user_id: None for r in ratings})}
    items = {item_id: code for code, item_id in enumerate({r.item_id: None for r in ratings})}
    user = np.array([users[rating.user_id] for rating in ratings], np.int32)
    item = np.array([items[rating.item_id] for rating in ratings], np.int32)
    return {
        name: stream_ranks(user, item, first, baseline(len(items))) <= k
        for name, baseline in _BASELINES.items()
    }
