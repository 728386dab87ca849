"""The stream: before each event ten recommendations, then learn from it.

The first 20 % of the events are there to start with. From then on each event of a user who had an
event before is a hit when its item is among ten that the user has not met, of all items that had an
event before. Then it is learned: by the rules at once, by the towers at the next retraining.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.errors import NothingToTest
from headrace.events import EventColumns
from headrace.local.baselines import (
    STEPS,
    Baseline,
    ItemKnn,
    Popularity,
    SequentialRules,
    stream_ranks,
)
from models.training.metrics import (
    Ranks,
    Reliability,
    hr,
    ndcg,
    ranks,
    ranks_in_lists,
    reliability,
)
from models.training.quality.lists import ONE_MORE, came_true
from models.training.quality.model import Build, Lesson, Live, Model
from models.training.quality.queries import Histories, Queries, histories, select
from models.training.quality.result import Figures, Result
from models.training.quality.watch import Watch

FIRST_SHARE = 0.2
"""Of the events, there to start with."""
RETRAIN_EVERY = 10_000
"""Events from one training to the next, as in the demo."""
K = 10
POSITIVE = 1.0
"""The threshold of a positive rating: any rating may be the event to be predicted."""


@dataclass(frozen=True)
class Block:
    """The events between two trainings, in time order; those of new users are left out."""

    start: int
    """Events of the stream before it."""
    items: int
    """Items that had an event before it: their codes are below this."""
    rows: NDArray[np.int64]
    """Of the events, in the users' histories."""
    queries: Queries
    allowed: NDArray[np.bool_]
    """`[n, items]`: whether the user has not met the item."""
    live: Live


def run(
    log: EventColumns,
    build: Build | None,
    seeds: Sequence[int],
    watch: Watch,
    *,
    every: int = RETRAIN_EVERY,
    at_most: int | None = None,
    skip: int = 0,
) -> Result:
    """Run the protocol, of `at_most` blocks; `build` None leaves out the model's rows.

    `skip`: blocks that are there to start with, too. Items' codes must be in the order of their
    first events. Raises `NothingToTest`.
    """
    first = int(len(log) * FIRST_SHARE) + skip * every
    if first >= len(log):
        raise NothingToTest(f"{len(log):,} events have no block after the first {skip:,}.")
    if at_most is not None:
        log = select(log, np.arange(len(log)) < first + at_most * every)
    asked = known_users(log.user)[first:]
    items = len(log.item_ids)
    result = Result("stream", counts={"events": len(log), "items": items, "queries": sum(asked)})
    baselines: dict[str, Baseline] = {
        "popularity": Popularity(items),
        "sequential_rules": SequentialRules(items),
        "item_knn": ItemKnn(items),
    }
    for name, baseline in baselines.items():
        with watch.step(name.replace("_", " "), len(log)) as advance:
            found = stream_ranks(log.user, log.item, first, baseline, advance)
            result.baselines[name] = _figures(found[asked])
            result.parts[name] = _parts(found, asked, every)
    if build is None:
        return result
    for seed in seeds:
        model, points = build(seed), result.begin(seed)
        parts = []
        for number, block in enumerate(blocks(log, first, every)):
            with watch.training(points) as tell:
                model.fit(_lesson(log, block, number), tell)
            with watch.step("towers alone and product"):
                parts.append(_answer(model, block, histories(log)))
        towers, product, probabilities, true = (np.concatenate(p) for p in zip(*parts, strict=True))
        found_reliability = reliability(probabilities, true)
        result.reliability.append(found_reliability)
        result.end(model, _figures(towers), _figures(product) | _calibration(found_reliability))
        result.parts.setdefault("towers", [_figures(part[0]) for part in parts])
        result.parts.setdefault("product", [_figures(part[1]) for part in parts])
    return result


def known_users(user: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return of each event whether its user had one before."""
    known = np.ones(len(user), np.bool_)
    known[np.unique(user, return_index=True)[1]] = False
    return known


def blocks(log: EventColumns, first: int, every: int) -> Iterator[Block]:
    """Yield the stream from its `first`-th event on, in blocks of `every` events."""
    data = histories(log)
    row_of = np.empty(len(data), np.int64)
    row_of[data.event] = np.arange(len(data))
    known = known_users(log.user)
    for start in range(first, len(log), every):
        events = start + np.flatnonzero(known[start : start + every])
        rows = row_of[events]
        queries = data.queries(rows)
        items = int(log.item[:start].max(initial=-1)) + 1
        yield Block(start, items, rows, queries, _unseen(queries, items), _live(data, rows))


def _lesson(log: EventColumns, block: Block, number: int) -> Lesson:
    """Return all events before the block, as a retraining reads them.

    It chooses by the newest of them, as it always does: at first by some of the first 20,000.
    """
    known = select(log, np.arange(len(log)) < block.start)
    return Lesson(known, None, None, block.items, seen_stay=False, number=number)


def _answer(
    model: Model, block: Block, data: Histories
) -> tuple[Ranks, Ranks, NDArray[np.float64], NDArray[np.bool_]]:
    """Return ranks by the towers and by the product, and its probabilities and their truth."""
    towers = ranks(model.towers(block.queries), block.queries.target, block.allowed)
    more = model.product(block.queries, K + ONE_MORE, block.live)
    product = ranks_in_lists(more.items, more.scores, block.queries.target)
    lists = more.first(K)
    listed = lists.items >= 0
    true = came_true(data, block.rows, lists.items, POSITIVE)
    return towers, product, lists.scores[listed].astype(np.float64), true[listed]


def _unseen(queries: Queries, items: int) -> NDArray[np.bool_]:
    lengths = queries.end - queries.start
    row = np.repeat(np.arange(len(queries)), lengths)
    within = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    item = queries.item[queries.start[row] + within]
    allowed = np.ones((len(queries), items), np.bool_)
    allowed[row[item < items], item[item < items]] = False
    return allowed


def _live(data: Histories, rows: NDArray[np.int64]) -> Live:
    place = rows[:, None] - 1 - np.arange(STEPS)
    there = place >= data.first[rows][:, None]
    item = data.log.item[np.maximum(place, 0)]
    return Live(np.where(there, item, -1).astype(np.int64))


def _figures(found: Ranks) -> Figures:
    return {"hr_at_10": hr(found, K), "ndcg_at_10": ndcg(found, K)}


def _parts(found: Ranks, asked: NDArray[np.bool_], every: int) -> list[Figures]:
    return [
        _figures(found[at : at + every][asked[at : at + every]])
        for at in range(0, len(found), every)
    ]


def _calibration(found: Reliability) -> Figures:
    return {
        "expected_calibration_error": found.expected_calibration_error,
        "brier_skill": found.brier_skill,
    }
