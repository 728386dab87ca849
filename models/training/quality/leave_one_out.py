"""Leave-one-out: each user's last item is the test, the one before it validation.

As in SASRec (Kang & McAuley, 2018), but with all items ranked; what the user has met is not
recommended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.errors import NothingToTest
from headrace.events import EventColumns
from models.training.metrics import ranking_figures
from models.training.quality.baselines import (
    MODEL_CELLS,
    Popularity,
    SequentialRules,
    best_rules,
    evaluate,
)
from models.training.quality.lists import evaluate_lists
from models.training.quality.model import Build, Lesson
from models.training.quality.queries import Queries, histories, select
from models.training.quality.result import Result
from models.training.quality.watch import Watch

_LEAST = 3
"""Events of a user without whom there is nothing to learn from; users with fewer only train."""


@dataclass(frozen=True)
class Split:
    """What is trained on, chosen on and, once, tested on."""

    train: EventColumns
    validation: Queries
    """Sessions of what is trained on; the targets are the users' last but one items."""
    test: Queries
    """Sessions of all but the last item; the targets are the last."""


def split(log: EventColumns) -> Split:
    """Split a log. Raises `NothingToTest` when every user has too few events."""
    data = histories(log)
    last = np.flatnonzero(np.diff(data.log.user, append=-1))
    lengths = last + 1 - data.first[last]
    last = last[lengths >= _LEAST]
    if not len(last):
        raise NothingToTest(
            f"the longest history has {lengths.max(initial=0)} events; a user needs {_LEAST}, of "
            "which the last is the test and the one before it validation."
        )
    kept = np.ones(len(log), np.bool_)
    kept[data.event[np.concatenate([last, last - 1])]] = False
    return Split(select(log, kept), data.queries(last - 1), data.queries(last))


def run(log: EventColumns, build: Build | None, seeds: Sequence[int], watch: Watch) -> Result:
    """Run the protocol; `build` None leaves out the model's rows.

    1. Split; 2. count the baselines; 3. train a model of each seed, choosing on validation;
    4. only then read the test. Raises `NothingToTest`, before all else.
    """
    parts = split(log)
    items = len(log.item_ids)
    test = len(parts.test)
    result = Result("leave_one_out", counts={"events": len(log), "items": items, "queries": test})
    with watch.step("popularity", test) as advance:
        popularity = Popularity(parts.train, items)
        found = evaluate(popularity, parts.test, items, seen_stay=False, advance=advance)
        result.baselines["popularity"] = ranking_figures(found)
    with watch.step("sequential rules", test) as advance:
        options = best_rules(parts.train, parts.validation, items, seen_stay=False)
        rules = SequentialRules(parts.train, items, **options)
        found = evaluate(rules, parts.test, items, seen_stay=False, advance=advance)
        result.baselines["sequential_rules"] = ranking_figures(found)
    if build is None:
        return result
    for seed in seeds:
        model = build(seed)
        with watch.training(result.begin(seed)) as tell:
            lesson = Lesson(parts.train, None, parts.validation, items, seen_stay=False)
            model.fit(lesson, tell)
        with watch.step("towers alone", test) as advance:
            found = evaluate(
                model.towers, parts.test, items, seen_stay=False, advance=advance, cells=MODEL_CELLS
            )
            towers = ranking_figures(found)
        with watch.step("product", test) as advance:
            product = ranking_figures(evaluate_lists(model, parts.test, advance))
        result.end(model, towers, product)
    return result
