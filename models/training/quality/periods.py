"""Period by period: trained up to period t, tested on the next clicks of the sessions of t + 1.

The protocol of ADER (Mi et al., RecSys 2020). Each click of a test session is to be predicted from
those before it; an item that was never trained on is dropped from test sessions, and a session of
one item with it. All items up to the largest id trained on are ranked, those of the session too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headrace.events import EventColumns
from models.training.quality.data import Periods
from models.training.quality.queries import Queries, histories, join, select

VALIDATION_SHARE = 0.1
"""Of a training period's sessions."""


@dataclass(frozen=True)
class Period:
    """One step: train on this period, having trained on those before, and test on the next."""

    number: int
    items: int
    """To rank: those with codes below this."""
    past: EventColumns
    """All sessions of the periods before, for replay."""
    train: EventColumns
    """This period's sessions but those of validation."""
    validation: Queries
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
        train = select(log, ~held_out[log.user])
        learned = _met(items, past, train)
        yield Period(
            number=number,
            items=items,
            past=_of_items(past, items),
            train=_of_items(train, items),
            validation=prefixes(select(log, held_out[log.user]), learned),
            log=_of_items(so_far, items),
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


def _met(items: int, *logs: EventColumns) -> NDArray[np.bool_]:
    met = np.zeros(items, np.bool_)
    for log in logs:
        met[log.item] = True
    return met


def _of_items(log: EventColumns, items: int) -> EventColumns:
    return replace(log, item_ids=log.item_ids[:items])
