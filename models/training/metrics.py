"""Figures of ranked lists and of probabilities, all vectorised.

Lists are measured by the rank of the one item that came next among all items (no sampled
negatives: Krichene & Rendle, 2020), from 1 up. Equal scores count against the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.local.baselines import MISS

BINS = 15
"""Of the expected calibration error and the reliability diagram."""

Ranks = NDArray[np.int64]


def ranks(
    scores: NDArray[np.float32] | NDArray[np.float64],
    target: NDArray[np.int32],
    allowed: NDArray[np.bool_] | None = None,
) -> Ranks:
    """Return the rank of each target among its row's items: 1 + those whose score is not lower.

    `scores`: `[n, items]`; `target`: `[n]`; `allowed`: `[n, items]`, what may be recommended, all
    when None. A score that is not a number beats every other. A target whose own score is not a
    number, that is not allowed, or whose code is not below `items` has the rank `MISS`.
    """
    row = np.arange(len(target))
    there = target < scores.shape[1]
    column = np.where(there, target, 0)
    own = scores[row, column]
    ahead = ~(scores < own[:, None])
    if allowed is not None:
        ahead &= allowed
    # The target stands among those not lower than itself, unless it is not allowed.
    found = ahead[row, column] & there & ~np.isnan(own)
    return np.where(found, np.count_nonzero(ahead, axis=1), MISS)


def ranks_in_lists(
    items: NDArray[np.int32], scores: NDArray[np.float32], target: NDArray[np.int32]
) -> Ranks:
    """Return the rank of each target in its list; `MISS` where it is not listed.

    `items`, `scores`: `[n, k]`, in any order; a place without an item holds -1.
    """
    is_target = items == target[:, None]
    own = np.where(is_target, scores, -np.inf).max(axis=1, initial=-np.inf)
    ahead = ~(scores < own[:, None]) & (items >= 0)
    found = is_target.any(axis=1) & ~np.isnan(own)
    return np.where(found, np.count_nonzero(ahead, axis=1), MISS)


def hr(ranks: Ranks, k: int) -> float:
    """Return HR@k, which with one relevant item is Recall@k: the share of ranks up to k."""
    return float((ranks <= k).mean()) if len(ranks) else 0.0


def ndcg(ranks: Ranks, k: int) -> float:
    """Return NDCG@k (Järvelin & Kekäläinen, 2002) with one relevant item: 1 / log2(1 + rank)."""
    return _mean(1.0 / np.log2(1.0 + ranks), ranks <= k)


def mrr(ranks: Ranks, k: int) -> float:
    """Return MRR@k: the mean of 1 / rank, 0 past k."""
    return _mean(1.0 / ranks, ranks <= k)


def ranking_figures(ranks: Ranks) -> dict[str, float]:
    """Return the figures of the next-item protocols under their names in the report."""
    return {
        "hr_at_10": hr(ranks, 10),
        "ndcg_at_10": ndcg(ranks, 10),
        "recall_at_20": hr(ranks, 20),
        "mrr_at_20": mrr(ranks, 20),
    }


def _mean(gains: NDArray[np.float64], counted: NDArray[np.bool_]) -> float:
    return float(np.where(counted, gains, 0.0).mean()) if len(gains) else 0.0


@dataclass(frozen=True)
class Reliability:
    """How often what was given a probability came true, in bins of equal mass."""

    predicted: NDArray[np.float64]
    """`[bins]`: the mean probability."""
    observed: NDArray[np.float64]
    """`[bins]`: the share that came true."""
    count: NDArray[np.int64]
    """`[bins]`"""
    base_rate: float
    """The share of all that came true."""
    brier: float
    """The mean squared error of the probabilities (Brier, 1950)."""

    @property
    def expected_calibration_error(self) -> float:
        """The mean distance of predicted and observed, each bin by its count (Naeini, 2015)."""
        total = self.count.sum()
        if not total:
            return 0.0
        return float((np.abs(self.predicted - self.observed) * self.count).sum() / total)

    @property
    def brier_skill(self) -> float:
        """1 - Brier / Brier of always saying the base rate: above 0 it knows something.

        0 where all or none came true: there is nothing to know.
        """
        of_base_rate = self.base_rate * (1 - self.base_rate)
        return 1 - self.brier / of_base_rate if of_base_rate > 0 else 0.0


def reliability(
    probabilities: NDArray[np.float64], came_true: NDArray[np.bool_], bins: int = BINS
) -> Reliability:
    """Sort probabilities into bins of equal mass, as near as their number allows.

    Both are `[n]`. Equal probabilities may fall into two bins: their order is the given one.
    """
    order = np.argsort(probabilities, kind="stable")
    p, true = probabilities[order].astype(np.float64), came_true[order].astype(np.float64)
    edges = np.linspace(0, len(p), min(bins, max(len(p), 1)) + 1).astype(np.int64)
    count = np.diff(edges)
    sums = [np.diff(np.concatenate([[0.0], np.cumsum(x)])[edges]) for x in (p, true)]
    predicted, observed = (x / np.maximum(count, 1) for x in sums)
    return Reliability(
        predicted=predicted,
        observed=observed,
        count=count,
        base_rate=float(true.mean()) if len(p) else 0.0,
        brier=float(((p - true) ** 2).mean()) if len(p) else 0.0,
    )
