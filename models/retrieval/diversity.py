"""Maximal marginal relevance: a list whose items are not all of a kind.

Carbonell & Goldstein, "The Use of MMR, Diversity-Based Reranking for Reordering Documents and
Producing Summaries" (SIGIR 1998): the next item is the one with the largest

    (1 - d) · relevance - d · (largest similarity with an item chosen before)

Similarity is the cosine of two items' vectors, 0 for a negative one. Relevance falls evenly from 1
with the place in the list, so that d means the same for scores of any scale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def diverse_order(directions: NDArray[np.float32], k: int, diversity: float) -> NDArray[np.int64]:
    """Return which k of n items to take, in their order.

    `directions`: `[n, width]`, of length 1 or 0, the most relevant item first; `diversity`: d, in
    [0, 1]; 0 keeps the order. O(k · n · width).
    """
    n = len(directions)
    relevance = (1.0 - diversity) * (1.0 - np.arange(n) / max(n, 1))
    nearest = np.zeros(n)
    taken = np.zeros(n, np.bool_)
    order = np.zeros(min(k, n), np.int64)
    for place in range(len(order)):
        gain = relevance - diversity * nearest
        gain[taken] = -np.inf
        order[place] = best = int(np.argmax(gain))
        taken[best] = True
        np.maximum(nearest, directions @ directions[best], out=nearest)
    return order
