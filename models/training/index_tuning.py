"""How far ScaNN must look to find what an exact search finds, measured on real sessions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from models.retrieval.index import ScannIndex, ScannSettings, count_leaves

LEAST_RECALL = 0.99
"""Share of the exact top 10 that an index must find to be shipped."""
_AIM = 0.995
"""What the settings are chosen for; the margin is for sessions other than those looked at."""
_SHARES = (1 / 64, 1 / 32, 3 / 64, 1 / 16, 3 / 32, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 1.0)
"""Of the leaves, tried in this order."""
_REORDERED = (100, 200, 400, 1_000)
"""Candidates scored exactly, tried in this order once the leaves are chosen."""
_K = 10
_SCORES_AT_ONCE = 1 << 24
"""Bounds the matrix of exact scores (64 MiB)."""


@dataclass(frozen=True)
class Tuning:
    """The cheapest settings that find enough, or the best there are."""

    settings: ScannSettings
    recall: float
    """Share of the exact top 10 that is found, over all queries."""
    leaves_share: float
    """Share of the leaves that is searched."""

    @property
    def suffices(self) -> bool:
        """Whether an index with these settings may be shipped."""
        return self.recall >= LEAST_RECALL


def tune(index: ScannIndex, vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> Tuning:
    """Choose the index's settings for these queries, and leave it with them.

    `vectors`: `[items, width]`, those indexed; `queries`: `[n, width]`, of real sessions. The
    smallest share of leaves is looked for while very many candidates are scored again, then the
    fewest of those.
    """
    tenth = _tenth_best(vectors, queries)
    leaves = count_leaves(len(vectors))

    def measure(settings: ScannSettings) -> Tuning:
        index.settings = settings
        recall = _recall(index, vectors, queries, tenth)
        return Tuning(settings, recall, min(1.0, settings.leaves / leaves))

    tried = ScannSettings(leaves=1, reordered=_REORDERED[-1])
    best = Tuning(tried, 0.0, 0.0)
    for share in _SHARES:
        best = measure(replace(tried, leaves=max(1, round(leaves * share))))
        if best.recall >= _AIM:
            break
    for reordered in _REORDERED[:-1]:
        if best.recall < _AIM:
            break
        cheaper = measure(replace(best.settings, reordered=reordered))
        if cheaper.recall >= _AIM:
            best = cheaper
            break
    index.settings = best.settings
    return best


def _tenth_best(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return `[n]`: the smallest score of each query's exact top 10."""
    rows = max(1, _SCORES_AT_ONCE // len(vectors))
    k = min(_K, len(vectors))
    tenth = [
        np.partition(queries[at : at + rows] @ vectors.T, len(vectors) - k, axis=1)[:, -k]
        for at in range(0, len(queries), rows)
    ]
    return np.concatenate([np.zeros(0, np.float32), *tenth])


def _recall(
    index: ScannIndex,
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    tenth: NDArray[np.float32],
) -> float:
    """Return the share of the exact top 10s that is found; 0 when there are no queries.

    An item that scores no less than the tenth best counts: one of two with equal scores is as good.
    """
    hits = 0
    if not len(queries):
        return 0.0
    none = [np.zeros(0, np.int64)] * len(queries)
    listed = index.search_many(queries, _K, none)
    for query, least, (found, _) in zip(queries, tenth, listed, strict=True):
        # The scores come from another order of summation than the tenth best's.
        slack = 1e-6 * max(1.0, abs(float(least)))
        hits += int((vectors[found] @ query >= least - slack).sum())
    return hits / (min(_K, len(vectors)) * len(queries))
