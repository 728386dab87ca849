"""Baselines that count a whole log at once, and the evaluation of whatever scores all items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.events import EventColumns
from models.retrieval.rules import count_rules
from models.training.metrics import Ranks, ndcg, ranks
from models.training.quality.queries import Queries, histories

Advance = Callable[[int], None]
"""Told how many more queries, events or steps are done."""

MODEL_CELLS = 1 << 23
"""Scores reckoned at once by a model (32 MiB): fewer queries when there are more items."""
_COUNTED_CELLS = 1 << 20
"""By what merely counts, which is three times as fast in a processor's cache."""
_LAST = 10
"""Items of the session from which rules are followed."""
_LEAST_TOTAL = 1e-9
"""In place of 0, of an item that nothing followed."""


class Scorer(Protocol):
    """Scores every item for each of some sessions."""

    def __call__(self, queries: Queries) -> NDArray[np.float32]:
        """Return `[n, items]`: the higher, the sooner the item is recommended."""


class Popularity:
    """The number of an item's events, whatever the session."""

    def __init__(self, log: EventColumns, items: int) -> None:
        """`items`: how many there are to rank; the log's own have lower codes."""
        self._counts = np.bincount(log.item, minlength=items).astype(np.float32)

    def __call__(self, queries: Queries) -> NDArray[np.float32]:
        """Return `[n, items]` counts."""
        return np.broadcast_to(self._counts, (len(queries), len(self._counts)))


class SequentialRules:
    """What came up to 10 places after the session's last 10 items.

    SR of Ludewig & Jannach (2018), but not the last item alone speaks: the score of b is the sum of
    r(b | a) / j over the last items a, j being how many places ago a stands. With `both_ways` what
    came before an item counts as what came after it.
    """

    def __init__(self, log: EventColumns, items: int, *, both_ways: bool = False) -> None:
        """`items`: how many there are to rank; the log's own have lower codes."""
        data = histories(log)
        self._items = items
        self._rules = [count_rules(data.log.item, data.first, items, per_item=items)]
        if both_ways:
            # Read from its end, a sequence has the pairs the other way round.
            last = data.first + np.bincount(data.first, minlength=len(data))[data.first] - 1
            reverse = count_rules(
                data.log.item[::-1], len(data) - 1 - last[::-1], items, per_item=items
            )
            self._rules.append(reverse)
        self._totals = np.sum([rules.totals for rules in self._rules], axis=0)

    def __call__(self, queries: Queries) -> NDArray[np.float32]:
        """Return `[n, items]` scores; 0 for an item without a rule, or an empty session."""
        place = queries.end[:, None] - 1 - np.arange(_LAST)
        query, back = np.nonzero(place >= queries.start[:, None])
        source = queries.item[place[query, back]]
        weight = 1.0 / ((1 + back) * np.maximum(self._totals[source], _LEAST_TOTAL))
        keys, values = [], []
        for rules in self._rules:
            lengths = np.diff(rules.starts)[source]
            entries = _ranges(rules.starts[source], lengths)
            keys.append(np.repeat(query * self._items, lengths) + rules.targets[entries])
            values.append(np.repeat(weight, lengths) * rules.weights[entries])
        size = len(queries) * self._items
        scores = np.bincount(np.concatenate(keys), np.concatenate(values), size)
        return scores.astype(np.float32).reshape(len(queries), self._items)


def evaluate(
    scorer: Scorer,
    queries: Queries,
    items: int,
    *,
    seen_stay: bool,
    advance: Advance = lambda _: None,
    cells: int = _COUNTED_CELLS,
) -> Ranks:
    """Return the rank of each query's target among all `items`.

    Unless `seen_stay`, the session's items are not recommended. `cells`: scores reckoned at once.
    """
    at_once = max(1, cells // items)
    parts = [np.zeros(0, np.int64)]
    for at in range(0, len(queries), at_once):
        some = queries[at : at + at_once]
        allowed = None if seen_stay else unseen(some, items)
        parts.append(ranks(scorer(some), some.target, allowed))
        advance(len(some))
    return np.concatenate(parts)


def unseen(queries: Queries, items: int) -> NDArray[np.bool_]:
    """Return `[n, items]`: whether the item is not in the session."""
    lengths = queries.end - queries.start
    allowed = np.ones((len(queries), items), np.bool_)
    allowed[
        np.repeat(np.arange(len(queries)), lengths), queries.item[_ranges(queries.start, lengths)]
    ] = False
    return allowed


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return start, start + 1, … of each range, one range after another."""
    before = np.cumsum(lengths) - lengths
    return np.asarray(np.arange(lengths.sum()) + np.repeat(starts - before, lengths))


def best_rules(
    train: EventColumns, validation: Queries, items: int, *, seen_stay: bool
) -> dict[str, bool]:
    """Return with which options `SequentialRules` has the best NDCG@10 on validation."""
    found = {}
    for both_ways in (False, True):
        rules = SequentialRules(train, items, both_ways=both_ways)
        found[both_ways] = ndcg(evaluate(rules, validation, items, seen_stay=seen_stay), 10)
    return {"both_ways": max(found, key=lambda option: found[option])}
