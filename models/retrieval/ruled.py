"""Which items follow sessions, by the rules of a training and those counted since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.retrieval.rules import LiveTable, Rules

_TINY = float(np.finfo(np.float64).tiny)
_ROW_BITS = 32
"""A session's row stands in front of a position, which takes no more bits than that."""


class Ruled(NamedTuple):
    """The items that rules lead to, and how probably."""

    positions: NDArray[np.int64]
    """`[n]`, each once, rising."""
    probabilities: NDArray[np.float64]
    """`[n]`."""

    def of(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the probability of each of these positions, 0 for one no rule leads to."""
        if not len(self.positions):
            return np.zeros(len(positions))
        at, there = self.found(positions)
        return np.where(there, self.probabilities[at], 0.0)

    def found(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return where each of these positions stands, and whether it does.

        There must be an item that rules lead to.
        """
        at = np.minimum(self.positions.searchsorted(positions), len(self.positions) - 1)
        return at, self.positions[at] == positions


NOT_RULED = Ruled(np.zeros(0, np.int64), np.zeros(0))


class LiveRules:
    """Rules counted at a training and, summed with them, those of the transitions since."""

    def __init__(self, base: Rules, live: LiveTable | None = None) -> None:
        """Begin with what was counted at the training."""
        self._base = base
        self._live = LiveTable() if live is None else live

    def add(self, previous: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        """Add transitions: see `LiveTable.add`. Positions beyond the training's are cold items."""
        self._live.add(previous, items)

    def candidates(
        self, recent: Sequence[NDArray[np.int64]], decay: float, smoothing: float
    ) -> list[Ruled]:
        """Return the items that follow each of n sessions, and how probably.

        `recent`: of each session the positions of its newest items, newest first. The probability
        of b is Σ decay^j · r(b | recent[j]) / Σ decay^j.
        """
        if not recent:
            return []
        # 1. The newest items of all sessions, one after the other, and what each counts for.
        lengths = [len(each) for each in recent]
        items = np.concatenate(recent)
        row = np.arange(len(recent)).repeat(lengths)
        shares = decay ** np.concatenate([np.arange(length) for length in lengths])
        trained = (items < self._base.items).nonzero()[0]
        totals = self._live.totals(items)
        totals[trained] += self._base.totals[items[trained]]
        # Of an item from which no rule leads there is nothing to divide.
        heaps = np.maximum(totals + smoothing, _TINY)
        factors = shares / (np.bincount(row, shares, len(recent))[row] * heaps)
        # 2. The rules that lead from them.
        source, targets, weights = self._entries(items, trained)
        if not len(targets):
            return [NOT_RULED] * len(recent)
        # 3. Each item of a session once: sorted, its parts stand side by side.
        keys = (row[source] << _ROW_BITS) + targets
        order = keys.argsort(kind="stable")
        keys = keys[order]
        is_first = np.empty(len(keys), np.bool_)
        is_first[0] = True
        np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
        first = is_first.nonzero()[0]
        parts = weights[order] * factors[source[order]]
        positions, probabilities = targets[order[first]], np.add.reduceat(parts, first)
        # 4. Cut where a session ends.
        ends = keys[first].searchsorted(np.arange(1, len(recent)) << _ROW_BITS).tolist()
        return [
            Ruled(positions[begin:end], probabilities[begin:end])
            for begin, end in zip([0, *ends], [*ends, len(positions)], strict=True)
        ]

    def _entries(
        self, items: NDArray[np.int64], trained: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return of the rules from these items: from which of them, the target, the weight.

        `trained`: which of the items the training knew.
        """
        begins = self._base.starts[items[trained]]
        lengths = self._base.starts[items[trained] + 1] - begins
        source = trained.repeat(lengths)
        entries = np.arange(len(source)) + (begins - lengths.cumsum() + lengths).repeat(lengths)
        targets = self._base.targets[entries].astype(np.int64)
        weights = self._base.weights[entries].astype(np.float64)
        if not len(self._live):
            return source, targets, weights
        of_live, live_targets, live_weights = self._live.entries(items)
        return (
            np.concatenate([source, of_live]),
            np.concatenate([targets, live_targets]),
            np.concatenate([weights, live_weights]),
        )
