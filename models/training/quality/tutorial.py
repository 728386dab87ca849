"""TensorFlow Recommenders' retrieval tutorial: ratings at random, 80 % to train on, 20 % to test.

The tutorial's own steps: `tf.data`'s shuffle with seed 42, movies told apart by their titles, every
title ranked, those included that the user has met. The shuffle's order takes the place of time:
what a user rates next is drawn as what is asked for is. The order in which TensorFlow Datasets
stores the ratings is not that of the original file, which is what is shuffled here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headrace.events import EventColumns
from models.training.metrics import Ranks, hr, ranks_in_lists
from models.training.quality.baselines import (
    MODEL_CELLS,
    Popularity,
    SequentialRules,
    best_rules,
    evaluate,
)
from models.training.quality.data import MovieLensColumns
from models.training.quality.lists import ONE_MORE
from models.training.quality.model import Build, Lesson
from models.training.quality.queries import Queries, histories, reordered, select
from models.training.quality.result import Figures, Result
from models.training.quality.watch import Watch

TRAIN_SHARE = 0.8
SEED = 42
KS = (1, 5, 10, 50, 100)
VALIDATION_SHARE = 0.1
"""Of the part to train on: its last ratings, in the order of the shuffle."""


@dataclass(frozen=True)
class Split:
    """What is trained on, chosen on and, once, tested on."""

    train: EventColumns
    """`item` is a title; `item_ids` are the titles."""
    validation: Queries
    learned: EventColumns
    """Train and validation: what a last training may use, and what test sessions consist of."""
    test: Queries


def shuffled(size: int) -> NDArray[np.int64]:
    """Return the numbers below `size` as the tutorial shuffles them."""
    from models.training.framework import tf

    tf.random.set_seed(SEED)
    numbers = tf.data.Dataset.range(size)
    numbers = numbers.shuffle(size, seed=SEED, reshuffle_each_iteration=False)
    return np.fromiter(numbers.as_numpy_iterator(), np.int64, size)


def split(data: MovieLensColumns, order: NDArray[np.int64]) -> Split:
    """Split the ratings: `order` gives the rows of the file, those to train on first."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    train_size = int(len(order) * TRAIN_SHARE)
    fit_size = int(train_size * (1 - VALIDATION_SHARE))
    # The log stands in the order of time.
    log = reordered(by_title(data), np.argsort(place[data.row]))
    place = np.arange(len(log))
    train = select(log, place < fit_size)
    learned = select(log, place < train_size)
    held_out = select(log, (place >= fit_size) & (place < train_size))
    test = select(log, place >= train_size)
    return Split(train, questions(train, held_out), learned, questions(learned, test))


def by_title(data: MovieLensColumns) -> EventColumns:
    """Return the log with titles for items, coded in the order of their first ratings."""
    titles = tuple(dict.fromkeys(data.titles))
    codes = {title: code for code, title in enumerate(titles)}
    of_item = np.array([codes[title] for title in data.titles], np.int32)
    return replace(data.log, item=of_item[data.log.item], item_ids=titles)


def questions(learned: EventColumns, asked: EventColumns) -> Queries:
    """Return a query for each event asked: its session is all that is known of the user."""
    data = histories(learned)
    users = np.arange(len(learned.user_ids))
    start = np.searchsorted(data.log.user, users)
    end = np.searchsorted(data.log.user, users, side="right")
    return data.sessions(start[asked.user], end[asked.user], asked.item)


def run(data: MovieLensColumns, build: Build | None, seeds: Sequence[int], watch: Watch) -> Result:
    """Run the protocol; `build` None leaves out the model's rows."""
    with watch.step("shuffling"):
        parts = split(data, shuffled(len(data.log)))
    items, test = len(parts.train.item_ids), parts.test
    result = Result("tutorial")
    result.counts = {"events": len(data.log), "items": items, "queries": len(test)}
    with watch.step("popularity", len(test)) as advance:
        popularity = Popularity(parts.learned, items)
        found = evaluate(popularity, test, items, seen_stay=True, advance=advance)
        result.baselines["popularity"] = _figures(found)
    with watch.step("sequential rules", len(test)) as advance:
        options = best_rules(parts.train, parts.validation, items, seen_stay=True)
        rules = SequentialRules(parts.learned, items, **options)
        found = evaluate(rules, test, items, seen_stay=True, advance=advance)
        result.baselines["sequential_rules"] = _figures(found)
    if build is None:
        return result
    for seed in seeds:
        model = build(seed)
        with watch.training(result.begin(seed)) as tell:
            lesson = Lesson(parts.train, None, parts.validation, items, seen_stay=True)
            model.fit(lesson, tell)
        with watch.step("towers alone", len(test)) as advance:
            found = evaluate(
                model.towers, test, items, seen_stay=True, advance=advance, cells=MODEL_CELLS
            )
            towers = _figures(found)
        with watch.step("product"):
            lists = model.product(test, max(KS) + ONE_MORE)
            found = ranks_in_lists(lists.items, lists.scores, test.target)
        result.end(model, towers, _figures(found))
    return result


def _figures(found: Ranks) -> Figures:
    return {f"top_{k}": hr(found, k) for k in KS}
