"""What a model learns from and is chosen by: a log cut in time, or what is new since a version."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headrace.events import EventColumns
from headrace.log_sample import NewEvents
from models.retrieval.bought_together import BoughtTogether
from models.retrieval.rules import Rules
from models.training.bought_together import count_bought_together
from models.training.choices import NO_CHOICES, Choices
from models.training.dataset import Histories, before
from models.training.evaluation import SEEN_LIMIT, Evaluator, held_out, rules_of, spaced
from models.training.feedback import ChoicesSoFar
from models.training.incremental import Base, Counted, onward
from models.training.kinds import RETRIEVAL, Shape
from models.training.parameters import Parameters


@dataclass(frozen=True)
class Course:
    """What a model learns from, and what is chosen by."""

    known: Histories
    """What it is fitted to at first."""
    judged: Histories
    """The same, and the events to predict."""
    positions: NDArray[np.int64]
    """Of the events to predict, in `judged`."""
    split: int
    """The events of `judged` that rules know from the start; later ones they learn in time."""
    everything: Histories
    """What the final epochs and the rules of the version see."""
    items: int
    """With the unknown one."""
    known_choices: Choices = NO_CHOICES
    """From lists that were served, as far as `known` tells."""
    choices: Choices = NO_CHOICES
    """As far as `everything` tells."""
    unseen: bool = True
    """Items that a user has met are not recommended again."""
    seen_limit: int = SEEN_LIMIT
    """Of these, the newest ones that count."""
    counted: Counted | None = None
    """What was counted, and learnt, before; None where all begins anew."""

    def evaluator(self, at_most: int, parameters: Parameters) -> Evaluator:
        """Return the judge on at most so many of the events to predict, evenly spaced."""
        positions = spaced(self.positions, at_most)
        return Evaluator(
            self.judged,
            positions,
            self.items,
            parameters,
            unseen=self.unseen,
            seen_limit=self.seen_limit,
        )

    def rules(self, data: Histories, items: int) -> Rules:
        """Return the rules of these histories, and of all that was counted before.

        `items`: with the unknown one.
        """
        if self.counted is None:
            return rules_of(data, items)
        return self.counted.rules(data, items)

    def bought_together(self, columns: EventColumns, basket_s: float) -> BoughtTogether:
        """Return the baskets of these events, and of all that was counted before."""
        if self.counted is None:
            return count_bought_together(columns, basket_s)
        return self.counted.bought_together(columns, basket_s)


def course_by_time(
    columns: EventColumns,
    parameters: Parameters,
    shape: Shape = RETRIEVAL,
    split: int | None = None,
    choices: ChoicesSoFar | None = None,
) -> Course:
    """Return the course of a log whose newest events, from the `split`-th on, are held out.

    `choices`: what it tells of lists that were served.
    """
    if split is None:
        split = split_of(columns, parameters)
    everything = shape.histories(columns, parameters)
    return Course(
        known=shape.histories(before(columns, split), parameters),
        judged=everything,
        positions=held_out(everything, split),
        split=split,
        everything=everything,
        items=len(columns.item_ids) + 1,
        known_choices=choices(split) if choices else NO_CHOICES,
        choices=choices(len(columns)) if choices else NO_CHOICES,
        seen_limit=shape.seen_limit,
    )


def course_onward(
    base: Base,
    new: NewEvents,
    parameters: Parameters,
    shape: Shape = RETRIEVAL,
    seen: int | None = None,
    choices: ChoicesSoFar | None = None,
) -> tuple[Course, EventColumns]:
    """Return the course of going on from a version, and the columns with the version's codes.

    Held out are the newest of all events read, as far as they are new. `seen`: the events that
    towers are fitted to, the oldest ones; None for all.
    """
    new, counted = onward(base, new, lambda columns: shape.histories(columns, parameters))
    columns = new.columns
    seen = len(columns) if seen is None else seen
    split = split_of(columns, parameters)
    course = course_by_time(before(columns, seen), parameters, shape, split, choices)
    positions = course.positions[new.is_new[course.everything.event[course.positions]]]
    return replace(course, positions=positions, counted=counted), columns


def split_of(columns: EventColumns, parameters: Parameters) -> int:
    """Return how many events come before the hold-out."""
    return int(len(columns) * parameters.train_split_ratio)
