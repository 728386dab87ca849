"""The product's lists, as served, and what came of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.training.metrics import Ranks, ranks_in_lists
from models.training.quality.baselines import Advance
from models.training.quality.model import Model
from models.training.quality.queries import Histories, Queries

K = 20
"""The longest list that a figure looks at."""
ONE_MORE = 1
"""Items asked for beyond a list's end: of what scores as its last one does, one stands ahead."""
AHEAD = 10
"""Coming events of which a recommended item is to be one."""
_AT_ONCE = 1_000


def evaluate_lists(model: Model, queries: Queries, advance: Advance = lambda _: None) -> Ranks:
    """Return the rank of each query's target in the product's list; past its end, over K."""
    parts = [np.zeros(0, np.int64)]
    for at in range(0, len(queries), _AT_ONCE):
        some = queries[at : at + _AT_ONCE]
        lists = model.product(some, K + ONE_MORE)
        parts.append(ranks_in_lists(lists.items, lists.scores, some.target))
        advance(len(some))
    return np.concatenate(parts)


def came_true(
    data: Histories, rows: NDArray[np.int64], listed: NDArray[np.int32], threshold: float
) -> NDArray[np.bool_]:
    """Return `[n, k]`: whether each listed item is among the user's next 10 events, positive.

    `rows`: `[n]`, of the event that came next; `listed`: `[n, k]`; positive is a rating that is not
    below the threshold, and any event without one.
    """
    coming = rows[:, None] + np.arange(AHEAD)
    at = np.minimum(coming, len(data) - 1)
    # NaN, of an event without a rating, is not below anything.
    good = (coming < len(data)) & ~(data.log.rating[at] < threshold)
    good &= data.first[at] == data.first[rows][:, None]
    item = np.where(good, data.log.item[at], -1)
    return np.asarray((listed[:, :, None] == item[:, None, :]).any(axis=2) & (listed >= 0))
