"""Period by period: trained up to period t, tested on the next clicks of the sessions of t + 1.

The protocol of ADER (Mi et al., RecSys 2020). Each click of a test session is to be predicted from
those before it; an item that was never trained on is dropped from test sessions, and a session of
one item with it. All items up to the largest id trained on are ranked, those of the session too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from headrace.errors import NothingToTest
from headrace.events import EventColumns
from models.training.metrics import ranking_figures
from models.training.quality.baselines import (
    MODEL_CELLS,
    Popularity,
    Scorer,
    SequentialRules,
    best_rules,
    evaluate,
)
from models.training.quality.data import Periods
from models.training.quality.lists import evaluate_lists
from models.training.quality.model import Build, Lesson, Model
from models.training.quality.queries import Queries, histories, join, select
from models.training.quality.result import Figures, Result, mean_of
from models.training.quality.watch import Watch

VALIDATION_SHARE = 0.1
"""Of a training period's sessions."""
SEED = 7
"""Of the draw of those sessions: the same for every model's seed."""


@dataclass(frozen=True)
class Period:
    """One step: train on this period, having trained on those before, and test on the next."""

    number: int
    items: int
    """To rank: those with codes below this."""
    past: EventColumns
    """All sessions of the periods before."""
    train: EventColumns
    """This period's sessions but those of validation."""
    validation: Queries
    held_back: EventColumns
    """The sessions of validation."""
    log: EventColumns
    """All up to this period, validation too: what the baselines count."""
    test: Queries


def periods(data: Periods, rng: np.random.Generator) -> Iterator[Period]:
    """Yield every period but the last, in order; `rng` draws the sessions of validation."""
    for number, (log, following) in enumerate(zip(data.logs, data.logs[1:], strict=False)):
        so_far = join(data.logs[: number + 1])
        items = int(so_far.item.max()) + 1
        past = join(data.logs[:number]) if number else select(so_far, np.zeros(len(so_far), bool))
        held_out = rng.random(len(log.user_ids)) < VALIDATION_SHARE
        train, held_back = (select(log, of[log.user]) for of in (~held_out, held_out))
        learned = _met(items, past, train)
        yield Period(
            number=number,
            items=items,
            past=past,
            train=train,
            validation=prefixes(held_back, learned),
            held_back=held_back,
            log=so_far,
            test=prefixes(following, _met(items, so_far)),
        )


def prefixes(log: EventColumns, known: NDArray[np.bool_]) -> Queries:
    """Return a query for every click but the first of every session.

    `known`: `[items]`; other items are dropped from the sessions.
    """
    inside = np.zeros(len(log), np.bool_)
    codes = np.minimum(log.item, len(known) - 1)
    inside = (log.item < len(known)) & known[codes]
    data = histories(select(log, inside))
    return data.queries(np.flatnonzero(np.arange(len(data)) > data.first))


def run(
    data: Periods,
    build: Build | None,
    seeds: Sequence[int],
    watch: Watch,
    *,
    skip: int = 0,
) -> Result:
    """Run the protocol; `build` None leaves out the model's rows.

    `skip`: periods after the first that are not tested; the first training has them at once.
    Figures are means over the periods whose test has a query. A period's test is read when the
    model has learned all periods up to it, and nothing is chosen after that. Raises `NothingToTest`
    before anything is trained.
    """
    steps = len(data.logs) - 1 - skip
    if steps < 1:
        raise NothingToTest(
            f"without the first {skip:,} tests of {len(data.logs) - 1:,} none is left."
        )
    queries: list[int] = []
    popularity: list[Figures] = []
    rules: list[Figures] = []
    result = Result("periods")
    with watch.step("popularity and sequential rules", steps) as advance:
        for period in _tested(data, skip):
            queries.append(len(period.test))
            popularity.append(_counted(_popularity, period))
            rules.append(_counted(_rules, period))
            result.counts["items"] = period.items
            advance(1)
    if not any(queries):
        raise NothingToTest(
            "no session after period 0 has two items that were trained on before; take periods "
            "that share their items, with sessions of two items or more."
        )
    result.counts |= {"events": sum(map(len, data.logs)), "queries": sum(queries)}
    result.notes = _left_out(queries, skip)
    result.baselines = {"popularity": mean_of(popularity), "sequential_rules": mean_of(rules)}
    result.parts = {"popularity": popularity, "sequential_rules": rules}
    if build is None:
        return result
    for seed in seeds:
        model, points = build(seed), result.begin(seed)
        towers: list[Figures] = []
        product: list[Figures] = []
        for number, period in enumerate(_tested(data, skip)):
            with watch.training(points) as tell:
                model.fit(lesson(period, number), tell)
            towers.append(_by_towers(model, period, watch))
            product.append(_as_served(model, period, watch))
        result.end(model, mean_of(towers), mean_of(product))
        result.parts.setdefault("towers", towers)
        result.parts.setdefault("product", product)
    return result


def _tested(data: Periods, skip: int) -> Iterator[Period]:
    return islice(periods(data, np.random.default_rng(SEED)), skip, None)


def lesson(period: Period, number: int) -> Lesson:
    """Return what the model learns of a period; `number`: of trainings before it."""
    return Lesson(
        log=period.train,
        past=period.past if period.number else None,
        validation=period.validation,
        items=period.items,
        seen_stay=True,
        number=number,
        held_back=period.held_back,
    )


def _left_out(queries: Sequence[int], skip: int) -> list[str]:
    """Return a note of the periods without a query; `queries`: of each period that is tested."""
    tested = enumerate(queries, start=1 + skip)
    empty = ", ".join(str(number) for number, count in tested if not count)
    if not empty:
        return []
    return [
        f"The means leave out period {empty}: no session there has two items that were trained on "
        "before."
    ]


def _counted(make: Callable[[Period], Scorer], period: Period) -> Figures:
    """Return what a baseline comes to; nothing where there is no query."""
    if not len(period.test):
        return {}
    return ranking_figures(evaluate(make(period), period.test, period.items, seen_stay=True))


def _by_towers(model: Model, period: Period, watch: Watch) -> Figures:
    """Return what the towers alone come to; nothing where there is no query."""
    if not len(period.test):
        return {}
    with watch.step("towers alone", len(period.test)) as advance:
        found = evaluate(
            model.towers,
            period.test,
            period.items,
            seen_stay=True,
            advance=advance,
            cells=MODEL_CELLS,
        )
    return ranking_figures(found)


def _as_served(model: Model, period: Period, watch: Watch) -> Figures:
    """Return what the product's lists come to; nothing where there is no query."""
    if not len(period.test):
        return {}
    with watch.step("product", len(period.test)) as advance:
        return ranking_figures(evaluate_lists(model, period.test, advance))


def _popularity(period: Period) -> Popularity:
    return Popularity(period.log, period.items)


def _rules(period: Period) -> SequentialRules:
    """Return the rules of all sessions so far, the options chosen without those of validation."""
    learned = join((period.past, period.train)) if period.number else period.train
    options = best_rules(learned, period.validation, period.items, seen_stay=True)
    return SequentialRules(period.log, period.items, **options)


def _met(items: int, *logs: EventColumns) -> NDArray[np.bool_]:
    met = np.zeros(items, np.bool_)
    for log in logs:
        met[log.item] = True
    return met
