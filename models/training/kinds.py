"""What is particular to each kind of model that is fitted to users' histories.

`retrieval`: from all that a user did before to what comes next. `items`: from one item to the next
ones of the same session, so the query tower reads a session of one item of which nothing else is
known, and what is asked for is the next item, whatever the user met before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.errors import HeadraceError
from headrace.events import EventColumns
from headrace.log_sample import NewEvents
from headrace.training_kinds import Kind
from models.training.dataset import Histories, histories
from models.training.evaluation import SEEN_LIMIT
from models.training.parameters import Parameters


@dataclass(frozen=True)
class Shape:
    """What a kind makes of events and parameters before it is fitted to them."""

    rows: Callable[[EventColumns, Parameters], tuple[EventColumns, NDArray[np.int64]]]
    """The columns to learn from, and which rows of the log they are."""
    parameters: Callable[[Parameters], Parameters]
    histories: Callable[[EventColumns, Parameters], Histories]
    seen_limit: int
    """Newest items met by a user that are not asked for again."""

    def new_events(
        self, new: NewEvents, parameters: Parameters
    ) -> tuple[NewEvents, NDArray[np.int64]]:
        """Return new events and their sample in this shape, and which rows of the log they are."""
        columns, rows = self.rows(new.columns, parameters)
        return NewEvents(columns, new.is_new[rows]), rows


def shape_of(kind: Kind) -> Shape:
    """Return the shape of a kind. Raises `HeadraceError` for one that has none."""
    if kind not in _SHAPES:
        raise HeadraceError(f"The kind {kind} is not trained on users' histories.")
    return _SHAPES[kind]


def sessions_apart(
    columns: EventColumns, parameters: Parameters
) -> tuple[EventColumns, NDArray[np.int64]]:
    """Return the columns with a user for each session, and which rows of the log they are.

    A session ends where the user's next event is more than `session_gap_s` later. An event with the
    item of the one before it in its session says nothing new, and is left out.
    """
    order = np.argsort(columns.user, kind="stable")
    user, item, time = columns.user[order], columns.item[order], columns.timestamp[order]
    begins = np.diff(user, prepend=-1) != 0
    begins |= np.diff(time, prepend=0.0) > parameters.session_gap_s
    again = ~begins & (np.diff(item, prepend=-1) == 0)
    session = np.empty(len(columns), np.int32)
    session[order] = np.cumsum(begins) - 1
    rows = np.sort(order[~again])
    names = tuple(columns.user_ids[code] for code in user[begins].tolist())
    apart = replace(
        columns,
        user=session[rows],
        item=columns.item[rows],
        timestamp=columns.timestamp[rows],
        kind=columns.kind[rows],
        rating=columns.rating[rows],
        user_ids=names,
    )
    return apart, rows


def _pairs(parameters: Parameters) -> Parameters:
    """Return the parameters of towers that read one item: as many positions a step as before."""
    return msgspec.structs.replace(
        parameters,
        session_length=1,
        context=0.0,
        repeats=True,
        batch_size=parameters.batch_size * parameters.session_length,
    )


def _item_histories(columns: EventColumns, parameters: Parameters) -> Histories:
    found = histories(columns, parameters)
    return replace(
        found,
        features=np.zeros_like(found.features),
        # A session's first item follows no other.
        is_new=np.arange(len(found)) > found.first,
    )


def _all_rows(
    columns: EventColumns, parameters: Parameters
) -> tuple[EventColumns, NDArray[np.int64]]:
    return columns, np.arange(len(columns))


RETRIEVAL = Shape(_all_rows, lambda parameters: parameters, histories, SEEN_LIMIT)
ITEMS = Shape(sessions_apart, _pairs, _item_histories, 1)
_SHAPES: dict[Kind, Shape] = {"retrieval": RETRIEVAL, "items": ITEMS}
