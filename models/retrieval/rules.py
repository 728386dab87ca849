"""Sequential rules: how often which item came how soon after which, in users' own sequences.

SR of Ludewig & Jannach, "Evaluation of Session-based Recommendation Algorithms" (2018): in a
user's events every item `a` that stands d = 1 … 10 places before an item `b` adds 1/d to the weight
of a → b; a = b counts too. The probability that b follows a is

    r(b | a) = weight(a, b) / (sum of a's weights + smoothing)

Items are known by position. What was counted at a training (`Rules`) is frozen; what came after is
added to a bounded table (`LiveTable`); `LiveRules` (`models.retrieval.ruled`) looks at both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEPS = 10
"""Places back from an event to which rules reach."""
PER_ITEM = 100
"""Targets kept of an item at a training, the heaviest ones."""
LIVE_TARGETS = 64
"""Targets kept of an item since the training."""
LIVE_ROWS = 100_000
"""Items with targets since the training: 50 MB when they are all there."""

_EVENTS_AT_ONCE = 1 << 19
"""Bounds the memory of counting: some arrays of `steps` times as many numbers of 8 bytes."""
_TRANSITIONS_AT_ONCE = 4_096
"""Bounds the memory of adding: some arrays of `STEPS * LIVE_TARGETS` times as many numbers."""
_ROWS_AT_FIRST = 1_024


@dataclass(frozen=True)
class Rules:
    """Every item's heaviest targets as compressed sparse rows, in a row the heaviest first."""

    starts: NDArray[np.int64]
    """`[items + 1]`: row a is `targets[starts[a]:starts[a + 1]]`."""
    targets: NDArray[np.int32]
    """`[pairs]`: the positions of the items that followed."""
    weights: NDArray[np.float32]
    """`[pairs]`, above 0."""
    totals: NDArray[np.float32]
    """`[items]`: the sum of each row's weights, those included that are not kept."""

    @property
    def items(self) -> int:
        """Number of items; a position is 0 to `items - 1`."""
        return len(self.totals)

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Return starts, targets, weights and totals."""
        return self.starts, self.targets, self.weights, self.totals

    def among(self, position_of: NDArray[np.int64], items: int) -> Rules:
        """Return the rules between some of the items, which are known by other positions there.

        `position_of`: `[self.items]`, -1 for an item that is left out; `items`: how many there are.
        """
        source = position_of[np.repeat(np.arange(self.items), np.diff(self.starts))]
        target = position_of[self.targets]
        totals = np.zeros(items)
        totals[position_of[position_of >= 0]] = self.totals[position_of >= 0]
        left_out = (source >= 0) & (target < 0)
        totals -= np.bincount(source[left_out], self.weights[left_out], minlength=items)
        kept = np.flatnonzero((source >= 0) & (target >= 0))
        kept = kept[np.argsort(source[kept], kind="stable")]
        lengths = np.bincount(source[kept], minlength=items)
        return Rules(
            starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
            targets=target[kept].astype(np.int32),
            weights=self.weights[kept],
            totals=np.maximum(totals, 0.0).astype(np.float32),
        )

    def flaw(self) -> str | None:
        """Return what is wrong with rules read from elsewhere, None for nothing."""
        starts, targets, weights, totals = self.arrays()
        arrays = self.arrays()
        if [str(array.dtype) for array in arrays] != ["int64", "int32", "float32", "float32"]:
            return "hold other types than int64, int32, float32 and float32"
        if any(array.ndim != 1 for array in arrays):
            return "hold an array that has not one dimension"
        if len(starts) != len(totals) + 1 or len(targets) != len(weights):
            return "hold arrays whose lengths do not fit together"
        if starts[0] != 0 or starts[-1] != len(targets) or (np.diff(starts) < 0).any():
            return "have starts that do not rise from 0 to the number of targets"
        if ((targets < 0) | (targets >= self.items)).any():
            return f"have a target outside of 0 to {self.items - 1}"
        if not (np.isfinite(weights).all() and np.isfinite(totals).all()):
            return "hold values that are not finite"
        kept = _row_sums(weights, starts)
        # Totals and weights were rounded each on its own.
        if (weights <= 0).any() or (kept > totals * (1 + 1e-4) + 1e-6).any():
            return "have a weight that is not above 0, or more weight in a row than its total"
        return None


def count_rules(
    item: NDArray[np.integer[Any]],
    first: NDArray[np.int64],
    items: int,
    *,
    steps: int = STEPS,
    per_item: int = PER_ITEM,
) -> Rules:
    """Count the rules of n events sorted by (user, time).

    `item`: `[n]`, item positions from 0 to `items - 1`; `first`: `[n]`, the place at which this
    event's user begins; `steps`: how far back rules reach; `per_item`: targets kept of an item, the
    heaviest ones, of equal ones those of lower position. Memory grows with n and with the pairs
    kept, not with all pairs: items are counted in groups, each group step by step.
    """
    order = np.argsort(item, kind="stable")
    occurrences = np.bincount(item, minlength=items)
    ends = np.cumsum(occurrences)
    totals = np.zeros(items, np.float32)
    lengths = np.zeros(items, np.int64)
    kept_targets, kept_weights = [np.zeros(0, np.int32)], [np.zeros(0, np.float32)]
    at = 0
    while at < len(order):
        # As many whole items as fit; one that is too frequent to fit stands alone.
        beyond = int(np.searchsorted(ends, at + _EVENTS_AT_ONCE, side="right"))
        low = int(item[order[at]])
        high = max(beyond, low + 1)
        pairs, sums = _count_pairs(order[at : ends[high - 1]], item, first, items, steps)
        sources, targets = np.divmod(pairs, items)
        totals[low:high] = np.bincount(sources - low, sums, minlength=high - low)
        weights = sums.astype(np.float32)
        kept = _heaviest(sources, targets, weights, per_item)
        lengths[low:high] = np.bincount(sources[kept] - low, minlength=high - low)
        kept_targets.append(targets[kept].astype(np.int32))
        kept_weights.append(weights[kept])
        at = int(ends[high - 1])
    return Rules(
        starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        targets=_joined(kept_targets),
        weights=_joined(kept_weights),
        totals=totals,
    )


def counted_on(base: Rules, before: Rules, after: Rules, *, per_item: int = PER_ITEM) -> Rules:
    """Return rules with what was counted since added to them.

    `before` and `after` were counted with every target kept, on the same events without and with
    the new ones: their difference is what the new ones say. `after` gives the number of items;
    positions of `base` are theirs. What `base` did not keep of an item stays in its total alone.
    """
    items = after.items
    pairs, weights = [], []
    totals = np.zeros(items)
    for rules, sign in ((base, 1.0), (after, 1.0), (before, -1.0)):
        source = np.repeat(np.arange(rules.items, dtype=np.int64), np.diff(rules.starts))
        pairs.append(source * items + rules.targets)
        weights.append(sign * rules.weights.astype(np.float64))
        totals[: rules.items] += sign * rules.totals.astype(np.float64)
    keys, place = np.unique(np.concatenate(pairs), return_inverse=True)
    summed = _sums(place, np.concatenate(weights), len(keys)).astype(np.float32)
    # The lightest thing that can be counted is 1 / STEPS; less is what rounding left of nothing.
    there = summed > 0.5 / STEPS
    source, targets = np.divmod(keys[there], items)
    kept = _heaviest(source, targets, summed[there], per_item)
    lengths = np.bincount(source[kept], minlength=items)
    heaviest = np.bincount(source[kept], summed[there][kept], minlength=items)
    return Rules(
        starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        targets=targets[kept].astype(np.int32),
        weights=summed[there][kept],
        totals=np.maximum(totals, heaviest).astype(np.float32),
    )


def _row_sums(weights: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sum of each row's weights.

    Not by differences of a cumulative sum: NumPy keeps all other threads waiting for that.
    """
    sums = np.zeros(len(starts) - 1)
    filled = np.flatnonzero(np.diff(starts))
    if len(filled):
        sums[filled] = np.add.reduceat(weights, starts[filled], dtype=np.float64)
    return sums


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Return the parts as one array, and let go of them."""
    whole = np.concatenate(parts)
    parts.clear()
    return whole


def _count_pairs(
    events: NDArray[np.int64],
    item: NDArray[np.integer[Any]],
    first: NDArray[np.int64],
    items: int,
    steps: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs that begin at these events, source · items + target, and their weights."""
    pairs, weights = np.zeros(0, np.int64), np.zeros(0, np.float64)
    for step in range(1, steps + 1):
        events = events[events + step < len(item)]
        events = events[first[events + step] == first[events]]
        new = item[events].astype(np.int64) * items + item[events + step]
        new, counts = np.unique(new, return_counts=True)
        pairs, place = np.unique(np.concatenate([pairs, new]), return_inverse=True)
        # Step by step: equal counts make equal sums, so that ties are ties.
        weights = _sums(place, np.concatenate([weights, counts / step]), len(pairs))
    return pairs, weights


def _heaviest(
    rows: NDArray[np.int64], targets: NDArray[np.int64], weights: NDArray[np.float32], limit: int
) -> NDArray[np.int64]:
    """Return where each row's `limit` heaviest entries stand, row by row, the heaviest first."""
    order = np.lexsort((targets, -weights, rows))
    return np.asarray(order[_places(rows[order]) < limit])


def _sums(groups: NDArray[np.int64], values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    return np.asarray(np.bincount(groups, values, size), np.float64)


def _places(sorted_rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return of each entry which one of its row it is, from 0."""
    begins = np.flatnonzero(np.diff(sorted_rows, prepend=-1))
    lengths = np.diff(begins, append=len(sorted_rows))
    return np.arange(len(sorted_rows)) - np.repeat(begins, lengths)


class LiveTable:
    """Rules counted one batch of transitions after the other, in bounded memory.

    An item has `per_item` targets at the most. When its row is full, the lightest one gives way to
    a new one, which starts at its own weight and inherits nothing. There are `max_rows` rows at the
    most; then the one that was added to longest ago is emptied for another item. Weights are summed
    over a batch before they are put in, so which targets a full row keeps depends on the batches.
    """

    def __init__(self, per_item: int = LIVE_TARGETS, max_rows: int = LIVE_ROWS) -> None:
        """`max_rows`: `STEPS` at the least, for one transition has as many sources."""
        if per_item < 1 or max_rows < STEPS:
            raise ValueError(f"a table of {max_rows} rows of {per_item} holds no transition")
        self._per_item = per_item
        self._max_rows = max_rows
        self._row_of = np.full(0, -1, np.int64)
        """By item position, its row; -1 for none."""
        self._used = 0
        self._clock = 0
        """Transitions so far."""
        self._targets = np.zeros((0, per_item), np.int32)
        self._weights = np.zeros((0, per_item), np.float32)
        """0 where there is no target."""
        self._totals = np.zeros(0)
        self._item_of = np.zeros(0, np.int64)
        self._touched = np.zeros(0, np.int64)
        """By row, the newest transition that added to it."""

    def __len__(self) -> int:
        """Return the number of rows in use."""
        return self._used

    def add(self, previous: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        """Add m transitions, the oldest first.

        `previous`: `[m, STEPS]`, the positions of the user's items before, newest first, -1 for
        none; `items`: `[m]`, the item that followed.
        """
        at_once = min(_TRANSITIONS_AT_ONCE, self._max_rows // STEPS)
        for at in range(0, len(items), at_once):
            self._add(previous[at : at + at_once], items[at : at + at_once])

    def entries(
        self, sources: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return of the rules from k items: which of the k, the target, the weight."""
        rows = self._rows(sources)
        among = np.flatnonzero(rows >= 0)
        weights = self._weights[rows[among]]
        row, column = np.nonzero(weights)
        targets = self._targets[rows[among[row]], column]
        return among[row], targets.astype(np.int64), weights[row, column].astype(np.float64)

    def totals(self, sources: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the sum of all weights ever added to each item's row, those gone included."""
        rows = self._rows(sources)
        totals = np.zeros(len(sources))
        totals[rows >= 0] = self._totals[rows[rows >= 0]]
        return totals

    def _add(self, previous: NDArray[np.int64], items: NDArray[np.int64]) -> None:
        transition, place = np.nonzero(previous >= 0)
        if not len(transition):
            return
        source, target = previous[transition, place], items[transition]
        rows = self._allocate(source, self._clock + transition)
        self._clock += len(items)
        # 1. Sum up what the batch says of each pair.
        pairs, which = np.unique(rows * (int(target.max()) + 1) + target, return_inverse=True)
        weights = np.bincount(which, 1.0 / (1 + place), len(pairs)).astype(np.float32)
        row, target = np.divmod(pairs, int(target.max()) + 1)
        np.add.at(self._totals, row, weights)
        # 2. Add to the targets that are there.
        there = (self._targets[row] == target[:, None]) & (self._weights[row] > 0)
        found = there.any(axis=1)
        self._weights[row[found], there[found].argmax(axis=1)] += weights[found]
        # 3. Put in new ones, the heaviest first, in place of none or of the lightest.
        row, target, weights = row[~found], target[~found], weights[~found]
        kept = _heaviest(row, target, weights, self._per_item)
        row, target, weights = row[kept], target[kept], weights[kept]
        rows, of_row = np.unique(row, return_inverse=True)
        lightest = np.argsort(self._weights[rows], axis=1, kind="stable")
        column = lightest[of_row, _places(row)]
        self._targets[row, column] = target
        self._weights[row, column] = weights

    def _allocate(self, sources: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each source, a new or a reused one if it had none."""
        items, place = np.unique(sources, return_inverse=True)
        touched = np.zeros(len(items), np.int64)
        np.maximum.at(touched, place, times)
        rows = self._rows(items)
        without = np.flatnonzero(rows < 0)
        fresh = min(len(without), self._max_rows - self._used)
        self._room(self._used + fresh)
        new = np.arange(self._used, self._used + fresh)
        if fresh < len(without):
            oldest = self._oldest(len(without) - fresh, rows[rows >= 0])
            self._row_of[self._item_of[oldest]] = -1
            self._weights[oldest] = 0.0
            self._totals[oldest] = 0.0
            new = np.concatenate([new, oldest])
        self._used += fresh
        rows[without] = new
        missing = int(items.max()) + 1 - len(self._row_of)
        if missing > 0:
            # Room for as many again, so that items that come one by one are not copied each time.
            spare = np.full(missing + len(self._row_of), -1, np.int64)
            self._row_of = np.concatenate([self._row_of, spare])
        self._row_of[items] = rows
        self._item_of[rows] = items
        self._touched[rows] = touched
        return rows[place]

    def _oldest(self, count: int, busy: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows, none of them busy, that were added to longest ago."""
        idle = np.flatnonzero(~np.isin(np.arange(self._used), busy, kind="table"))
        # Of rows as old as each other the first.
        age = self._touched[idle] * self._max_rows + idle
        return np.sort(idle[np.argpartition(age, count - 1)[:count]])

    def _rows(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the items' rows, -1 for none."""
        rows = np.full(len(items), -1, np.int64)
        known = items < len(self._row_of)
        rows[known] = self._row_of[items[known]]
        return rows

    def _room(self, rows: int) -> None:
        """Make room for so many rows, and for as many again while that is allowed."""
        have = len(self._totals)
        if rows > have:
            more = min(self._max_rows, max(rows, 2 * have, _ROWS_AT_FIRST)) - have
            self._targets = _extended(self._targets, more)
            self._weights = _extended(self._weights, more)
            self._totals = _extended(self._totals, more)
            self._item_of = _extended(self._item_of, more)
            self._touched = _extended(self._touched, more)


def _extended(array: NDArray[Any], rows: int) -> NDArray[Any]:
    return np.concatenate([array, np.zeros((rows, *array.shape[1:]), array.dtype)])
