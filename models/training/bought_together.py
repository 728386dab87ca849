"""Counts which items are bought together.

A basket is what a user buys within `basket_s` of the basket's first purchase; the next purchase
after that begins the next one. Two items are bought together once for each basket that holds both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.events import KINDS, EventColumns
from models.retrieval.bought_together import BoughtTogether

KEPT = 50
"""Items kept of each item, those with the most baskets in common."""
_MOST_IN_BASKET = 100
"""Different items; who buys more within one basket's time is no customer, and says nothing of which
item goes with which."""
_PAIRS_AT_ONCE = 1 << 23
"""Pairs counted in one piece (some 200 MiB), or those of one item when they are more."""


def count_bought_together(
    columns: EventColumns,
    basket_s: float,
    pairs_at_once: int = _PAIRS_AT_ONCE,
    kept: int = KEPT,
) -> BoughtTogether:
    """Count the purchases of a log, in memory bounded by the log's length.

    `basket_s`: seconds; `pairs_at_once` bounds the memory; `kept`: others of an item, the heaviest.
    Ratings and clicks do not count.
    """
    items = len(columns.item_ids)
    lines = _lines(columns, basket_s)
    pieces = [
        _heaviest(*_pairs(lines, first, end), items, kept)
        for first, end in _pieces(lines, items, pairs_at_once)
    ]
    if not pieces:
        return BoughtTogether.nothing(items)
    of, other, count = (np.concatenate(column) for column in zip(*pieces, strict=True))
    offsets = np.zeros(items + 1, np.int64)
    np.cumsum(np.bincount(of, minlength=items), out=offsets[1:])
    baskets = np.bincount(lines.item, minlength=items).astype(np.int32)
    return BoughtTogether(offsets, other.astype(np.int32), count.astype(np.int32), baskets)


def bought_since(
    base: BoughtTogether, before: BoughtTogether, after: BoughtTogether
) -> BoughtTogether:
    """Return the counts with those of new purchases added to them.

    `before` and `after` were counted with every other item kept, on the same purchases without and
    with the new ones: their difference is what the new ones say.
    """
    items = len(after.baskets)
    baskets = np.zeros(items, np.int64)
    keys, counts = [], []
    for counted, sign in ((base, 1), (after, 1), (before, -1)):
        of = np.repeat(np.arange(len(counted.baskets), dtype=np.int64), np.diff(counted.offsets))
        keys.append(of * items + counted.items)
        counts.append(sign * counted.counts.astype(np.int64))
        baskets[: len(counted.baskets)] += sign * counted.baskets.astype(np.int64)
    pairs, place = np.unique(np.concatenate(keys), return_inverse=True)
    count = np.bincount(place, np.concatenate(counts), len(pairs)).astype(np.int64)
    of, other = np.divmod(pairs[count > 0], items)
    of, other, count = _kept(of, other, count[count > 0], KEPT)
    baskets = np.maximum(baskets, 0)
    np.maximum.at(baskets, of, count)
    offsets = np.zeros(items + 1, np.int64)
    np.cumsum(np.bincount(of, minlength=items), out=offsets[1:])
    return BoughtTogether(
        offsets, other.astype(np.int32), count.astype(np.int32), baskets.astype(np.int32)
    )


@dataclass(frozen=True)
class _Lines:
    """m lines of baskets, a basket's lines in a row; an item stands once in a basket."""

    item: NDArray[np.int32]
    start: NDArray[np.int64]
    """The first line of this line's basket."""
    size: NDArray[np.int64]
    """Lines of this line's basket."""


def _lines(columns: EventColumns, basket_s: float) -> _Lines:
    bought = np.flatnonzero(columns.kind == KINDS.index("purchase"))
    # The log is in the order of time, and a stable sort keeps it so for each user.
    rows = bought[np.argsort(columns.user[bought], kind="stable")]
    basket = np.cumsum(_begins(columns.user[rows], columns.timestamp[rows], basket_s)) - 1
    keys = np.unique(basket * len(columns.item_ids) + columns.item[rows])
    basket, item = np.divmod(keys, max(len(columns.item_ids), 1))
    sizes = np.bincount(basket)
    kept = sizes[basket] <= _MOST_IN_BASKET
    basket, item = basket[kept], item[kept]
    start = np.flatnonzero(np.diff(basket, prepend=-1))
    size = np.diff(start, append=len(basket))
    return _Lines(item.astype(np.int32), np.repeat(start, size), np.repeat(size, size))


def _begins(
    user: NDArray[np.int32], timestamp: NDArray[np.float64], basket_s: float
) -> NDArray[np.bool_]:
    """Return which purchases, sorted by (user, time), begin a basket.

    From each purchase there is one step, to the first that its basket would not hold; those wanted
    are reached from the users' first ones. Steps are doubled, so that log2(n) rounds reach all.
    """
    n = len(user)
    step = np.append(_first_after(user, timestamp, basket_s), n)
    begins = np.append(np.diff(user, prepend=-1) != 0, False)
    while True:
        # A step out of a user's purchases leads to another's first one, or to n, past them all.
        known = int(begins.sum())
        begins[step[begins]] = True
        begins[n] = False
        if int(begins.sum()) == known:
            return begins[:n]
        step = step[step]


def _first_after(
    user: NDArray[np.int32], timestamp: NDArray[np.float64], basket_s: float
) -> NDArray[np.int64]:
    """Return of each purchase, sorted by (user, time), the first row more than `basket_s` later.

    That may be the next user's first row.
    """
    n = len(user)
    is_end = np.repeat([False, True], n)
    times = np.concatenate([timestamp, timestamp + basket_s])
    # Purchases and the ends of their baskets in one order; a purchase just at an end is before it.
    order = np.lexsort((is_end, times, np.tile(user, 2)))
    purchases_before = np.cumsum(~is_end[order])
    ends = np.flatnonzero(is_end[order])
    after = np.empty(n, np.int64)
    after[order[ends] - n] = purchases_before[ends]
    return after


def _pieces(lines: _Lines, items: int, pairs_at_once: int) -> Iterator[tuple[int, int]]:
    """Cut the items into ranges that make about so many pairs each."""
    pairs = np.cumsum(np.bincount(lines.item, weights=lines.size - 1, minlength=items))
    first = 0
    while first < items and pairs[-1] > (done := pairs[first - 1] if first else 0):
        end = int(np.searchsorted(pairs, done + pairs_at_once, side="right"))
        end = min(max(end, first + 1), items)
        yield first, end
        first = end


def _pairs(lines: _Lines, first: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the items from `first` to `end`, and the others in each of their baskets."""
    at = np.flatnonzero((lines.item >= first) & (lines.item < end))
    size = lines.size[at]
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    of = np.repeat(lines.item[at], size).astype(np.int64)
    other = lines.item[np.repeat(lines.start[at], size) + within].astype(np.int64)
    different = of != other
    return of[different], other[different]


def _heaviest(
    of: NDArray[np.int64], other: NDArray[np.int64], items: int, limit: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the `limit` heaviest others of each item, heaviest first, and their counts."""
    keys, count = np.unique(of * items + other, return_counts=True)
    of, other = np.divmod(keys, items)
    return _kept(of, other, count, limit)


def _kept(
    of: NDArray[np.int64], other: NDArray[np.int64], count: NDArray[np.int64], limit: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    order = np.lexsort((other, -count, of))
    of, other, count = of[order], other[order], count[order]
    begins = np.flatnonzero(np.diff(of, prepend=-1))
    rank = np.arange(len(of)) - np.repeat(begins, np.diff(begins, append=len(of)))
    kept = rank < limit
    return of[kept], other[kept], count[kept]
