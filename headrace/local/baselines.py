"""Baselines that learn event by event: popularity, sequential rules, item-kNN.

What any model of a stream must beat. All three count, none is trained: each event is first
predicted, then learned. They serve the demo and the stream protocol of `headrace bench quality`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.errors import HeadraceError

MISS = np.iinfo(np.int64).max
"""The rank of an item that cannot be recommended: past the end of any list."""
STEPS = 10
"""How far back rules reach, and how many of a session's last items score."""
REACH = 200
"""As many interactions as a session holds by default."""
MAX_ITEMS = 20_000
"""The pairs of items are counted in a square matrix: 3.2 GB at this size."""
_TOLD_EVERY = 1_000

Advance = Callable[[int], None]
"""Told how many more events are done."""


class Baseline(Protocol):
    """Learns one event at a time, and scores every item for a session."""

    items: int
    """How many items it tells apart: their codes are below this."""

    def scores(self, session: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return `[items]` scores for a user's items, oldest first; 0 for what it cannot say."""

    def learn(self, session: NDArray[np.int32], item: int) -> None:
        """Learn that the item came after this session of the same user."""


class Popularity:
    """Counts each item's events."""

    def __init__(self, items: int) -> None:
        self.items = items
        self._counts = np.zeros(items)

    def scores(self, session: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return the counts, whatever the session."""
        return self._counts

    def learn(self, session: NDArray[np.int32], item: int) -> None:
        """Count the item."""
        self._counts[item] += 1


class SequentialRules:
    """Rules from one item to another that follows within `STEPS`, each weighing 1 / distance.

    SR of Ludewig & Jannach (2018), "Evaluation of session-based recommendation algorithms", kept up
    to date by the event; not the last item alone scores but the last `STEPS`, each weighing
    1 / (how many events ago), which on a stream of ratings finds half as many again.
    """

    def __init__(self, items: int) -> None:
        self.items = items
        self._weights = _square(items)

    def scores(self, session: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return the sums of the weights of the rules from the session's last items."""
        last, weights = _weighted(session)
        return np.asarray(weights @ self._weights[last])

    def learn(self, session: NDArray[np.int32], item: int) -> None:
        """Strengthen the rules from the session's last items to this one."""
        last, weights = _weighted(session)
        # `add.at`, for an item may stand in the session twice.
        np.add.at(self._weights[:, item], last, weights)


class ItemKnn:
    """The items that share users with the session's last `STEPS` items, the newest weighing most.

    The cosine of two items is the number of users who met both, the second at most `REACH` events
    after the first, over the root of the product of the numbers of users who met each (Sarwar et
    al., 2001). An item of the session weighs 1 / (how many events ago).
    """

    def __init__(self, items: int) -> None:
        self.items = items
        self._both = _square(items)
        self._users = np.zeros(items)

    def scores(self, session: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return the weighted sums of cosines with the session's last items."""
        last, weights = _weighted(session)
        norms = np.maximum(np.sqrt(self._users), 1.0)
        return np.asarray((weights / norms[last]) @ self._both[last] / norms)

    def learn(self, session: NDArray[np.int32], item: int) -> None:
        """Count the user for this item and for its pairs with what the user has met before."""
        if (session == item).any():
            return
        # Plain indexing counts an item that stands in the session twice once.
        before = session[-REACH:]
        self._both[item, before] += 1
        self._both[before, item] += 1
        self._users[item] += 1


def _weighted(session: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the last items, newest first, and the weight of each."""
    last = session[: -STEPS - 1 : -1]
    return last, 1.0 / np.arange(1, len(last) + 1)


class Sessions:
    """Users' items, oldest first, growing by the event; those so far of the log of n events."""

    def __init__(self, user: NDArray[np.int32], item: NDArray[np.int32]) -> None:
        order = np.argsort(user, kind="stable")
        self._sorted = item[order]
        sizes = np.bincount(user) if len(user) else np.zeros(0, np.int64)
        self._begins = np.cumsum(sizes) - sizes
        self._sizes = np.zeros(len(sizes), np.int64)

    def of(self, user: int) -> NDArray[np.int32]:
        """Return what the user has met so far."""
        begin = self._begins[user]
        return self._sorted[begin : begin + self._sizes[user]]

    def grow(self, user: int) -> None:
        """Let the user's next event have happened."""
        self._sizes[user] += 1


def stream_ranks(
    user: NDArray[np.int32],
    item: NDArray[np.int32],
    first: int,
    baseline: Baseline,
    advance: Advance = lambda _: None,
) -> NDArray[np.int64]:
    """Return the rank that the baseline gave the item of each event from `first` on, from 1 up.

    `user`, `item`: `[n]` codes, in time order. Test, then learn: ranked are the items that had an
    event before and that the user has not met; equal scores count against the baseline. An item
    that is not among them has the rank `MISS`.
    """
    known = np.zeros(baseline.items, np.bool_)
    sessions = Sessions(user, item)
    ranks = np.full(max(len(item) - first, 0), MISS)
    for position, (who, what) in enumerate(zip(user.tolist(), item.tolist(), strict=True)):
        session = sessions.of(who)
        if position >= first:
            ranks[position - first] = _rank(baseline.scores(session), what, known, session)
        baseline.learn(session, what)
        sessions.grow(who)
        known[what] = True
        if position % _TOLD_EVERY == _TOLD_EVERY - 1:
            advance(_TOLD_EVERY)
    return ranks


def _rank(
    scores: NDArray[np.float64],
    item: int,
    known: NDArray[np.bool_],
    session: NDArray[np.int32],
) -> int:
    ahead = scores >= scores[item]
    ahead &= known
    ahead[session] = False
    # The item itself is among those as good as it, unless it may not be recommended.
    return int(np.count_nonzero(ahead)) if ahead[item] else MISS


def _square(items: int) -> NDArray[np.float64]:
    if items > MAX_ITEMS:
        raise HeadraceError(
            f"The baselines count pairs of items in a matrix of at most {MAX_ITEMS:,} items, and "
            f"there are {items:,}; take a part of the data with fewer items."
        )
    return np.zeros((items, items))
