"""How sure a difference is: the paired bootstrap (Efron & Tibshirani, 1993, chapter 16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
_CONFIDENCE = 0.95
_COUNTS_AT_ONCE = 1 << 22
"""Bounds the matrix of how often each group was drawn (32 MiB)."""


@dataclass(frozen=True)
class Difference:
    """Of two means, as a share of the second; below 0 the first is lower."""

    share: float
    low: float
    """Of the 95 % interval."""
    high: float


def paired_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    group: NDArray[np.integer[Any]],
    seed: int = 0,
) -> Difference:
    """Return by how much the mean of `first` differs from that of `second`, and how sure that is.

    `first`, `second`, `group`: `[n]`; what belongs to one group is drawn together, for one user's
    events are alike. A share of nothing is 0 or, where `first` is something, 1.
    """
    groups, of = np.unique(group, return_inverse=True)
    if not len(groups):
        return Difference(0.0, 0.0, 0.0)
    sums = np.stack([np.bincount(of, first), np.bincount(of, second)], axis=1)
    rng, even = np.random.default_rng(seed), np.full(len(groups), 1.0 / len(groups))
    at_once = max(1, _COUNTS_AT_ONCE // len(groups))
    shares = np.concatenate(
        [
            _shares(np.asarray(rng.multinomial(len(groups), even, rows) @ sums, np.float64))
            for rows in _pieces(RESAMPLES, at_once)
        ]
    )
    edge = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(shares, [edge, 1 - edge])
    return Difference(float(_shares(sums.sum(axis=0)[None])[0]), float(low), float(high))


def _shares(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `[n]` of `[n, 2]`: the first as a share of the second, less 1."""
    first, second = sums.T
    of_nothing = np.where(first > 0, 1.0, 0.0)
    return np.where(second > 0, first / np.where(second > 0, second, 1.0) - 1.0, of_nothing)


def _pieces(total: int, at_once: int) -> list[int]:
    return [min(at_once, total - at) for at in range(0, total, at_once)]
