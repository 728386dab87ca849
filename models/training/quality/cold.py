"""Cold items: a tenth of the movies is held out of training, then put in the catalogue.

A version is trained on the first 80 % of the ratings, without those of the movies held out; then
these are added to it as a server adds items, from their titles, genres and years alone. Of the last
20 % each rating of such a movie is asked for: where does it stand among the held-out movies that
its user has not met? At random it is among ten with the probability ten over their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.events import EventColumns
from headrace.local.baselines import MISS
from models.retrieval.retriever import Retriever
from models.training.metrics import Ranks, hr
from models.training.quality.data import MovieLensColumns
from models.training.quality.model import Build, Lesson, Model
from models.training.quality.queries import Queries, histories, select
from models.training.quality.result import Result
from models.training.quality.served import session_of
from models.training.quality.watch import Watch

HELD_OUT_SHARE = 0.1
"""Of the movies."""
FIRST_SHARE = 0.8
"""Of the ratings, to train on."""
SEED = 7
"""Of the draw of the movies: the same for every model's seed."""
K = 10


class ColdModel(Model, Protocol):
    """A model whose version can be given items."""

    @property
    def retriever(self) -> Retriever:
        """The version of the last lesson, as a server has it."""


@dataclass(frozen=True)
class Split:
    """What is trained on and what is asked for."""

    train: EventColumns
    log: EventColumns
    """All ratings; codes from `items` on are the movies held out."""
    items: int
    """Movies that are not held out."""
    test: Queries
    """The ratings of held-out movies."""


def split(log: EventColumns, rng: np.random.Generator) -> Split:
    """Split the ratings; `rng` draws the movies that are held out."""
    count = len(log.item_ids)
    items = count - round(count * HELD_OUT_SHARE)
    order = rng.permutation(count)
    # The others keep their order among themselves, so their codes stay those of first ratings.
    order = np.concatenate([np.sort(order[:items]), np.sort(order[items:])])
    code = np.empty(count, np.int32)
    code[order] = np.arange(count, dtype=np.int32)
    log = replace(log, item=code[log.item], item_ids=tuple(log.item_ids[at] for at in order))
    first = int(len(log) * FIRST_SHARE)
    data = histories(log)
    later = (data.event >= first) & (data.log.item >= items)
    known = np.arange(len(data)) > data.first
    test = data.queries(np.flatnonzero(later & known))
    train = select(log, (np.arange(len(log)) < first) & (log.item < items))
    return Split(train, log, items, test)


def run(data: MovieLensColumns, build: Build | None, seeds: Sequence[int], watch: Watch) -> Result:
    """Run the protocol; `build` None leaves out the model's row.

    `hr_at_10_of_all` is HR@10 when every movie is ranked, those trained on too.
    `moved_by_cold_click` is the mean share of the ten recommended items that are others once the
    session's last interaction, with a held-out movie, is there than they were without it.
    """
    parts = split(data.log, np.random.default_rng(SEED))
    result = Result("cold", counts={"items": len(data.log.item_ids), "queries": len(parts.test)})
    left = [len(_candidates(parts, row)) for row in range(len(parts.test))]
    result.baselines["random"] = {
        "hr_at_10": _at_random(left),
        "hr_at_10_of_all": _at_random(_unmet(parts)),
        "moved_by_cold_click": 0.0,
    }
    of_id = {item.item_id: item for item in data.items}
    if build is None:
        return result
    for seed in seeds:
        model: ColdModel = build(seed)  # type: ignore[assignment]
        with watch.training(result.begin(seed)) as tell:
            lesson = Lesson(parts.train, None, None, parts.items, seen_stay=False)
            model.fit(lesson, tell)
        retriever = model.retriever
        retriever.add_items([of_id[item_id] for item_id in parts.log.item_ids[parts.items :]])
        with watch.step("product", len(parts.test)):
            figures = {
                "hr_at_10": hr(_ranks(retriever, parts), K),
                "hr_at_10_of_all": _listed(retriever, parts),
                "moved_by_cold_click": _moved(retriever, parts),
            }
        result.end(model, figures, figures)
    result.towers.clear()
    return result


def _at_random(counts: Sequence[int]) -> float:
    """Return HR@10 of a random order of so many movies each time."""
    return float(np.mean([min(1.0, K / count) for count in counts])) if counts else 0.0


def _candidates(parts: Split, row: int) -> NDArray[np.int32]:
    """Return the held-out movies that the query's user has not met."""
    met = parts.test.item[parts.test.start[row] : parts.test.end[row]]
    held_out = np.arange(parts.items, len(parts.log.item_ids), dtype=np.int32)
    return held_out[~np.isin(held_out, met)]


def _ranks(retriever: Retriever, parts: Split) -> Ranks:
    """Return the rank of each held-out movie among those that its user has not met."""
    found = np.full(len(parts.test), MISS, np.int64)
    for row in range(len(parts.test)):
        candidates = _candidates(parts, row)
        session = session_of(parts.test, row, parts.log.item_ids)
        scored = retriever.score(session, [parts.log.item_ids[code] for code in candidates])
        own = np.flatnonzero(candidates == parts.test.target[row])
        if scored is not None and len(own):
            scores = np.array(scored.scores)
            found[row] = np.count_nonzero(scores >= scores[own[0]])
    return found


def _unmet(parts: Split) -> list[int]:
    """Return of each query the number of movies that its user has not met."""
    test = parts.test
    met = (np.unique(test.item[a:b]) for a, b in zip(test.start, test.end, strict=True))
    return [len(parts.log.item_ids) - len(items) for items in met]


def _listed(retriever: Retriever, parts: Split) -> float:
    """Return how often the held-out movie is among ten of all that the user has not met."""
    hits = 0
    for row in range(len(parts.test)):
        session = session_of(parts.test, row, parts.log.item_ids)
        found = retriever.recommend(session, K, exclude=session.item_ids)
        hits += found is not None and parts.log.item_ids[parts.test.target[row]] in found.item_ids
    return hits / max(len(parts.test), 1)


def _moved(retriever: Retriever, parts: Split) -> float:
    """Return how much of a list a click on a held-out movie moves, of sessions that end so."""
    test = parts.test
    after = [
        row
        for row in range(len(test))
        if test.end[row] - test.start[row] > 1 and test.item[test.end[row] - 1] >= parts.items
    ]
    before = replace(test, end=test.end - 1)
    shares = []
    for row in after:
        sessions = [session_of(each, row, parts.log.item_ids) for each in (before, test)]
        met = sessions[1].item_ids
        lists = [retriever.recommend(session, K, exclude=met) for session in sessions]
        if lists[0] is not None and lists[1] is not None:
            shares.append(1 - len({*lists[0].item_ids} & {*lists[1].item_ids}) / K)
    return float(np.mean(shares)) if shares else 0.0
