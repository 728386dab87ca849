"""What a training learns from lists that users were served, and what its manifest says of that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.events import EventColumns
from headrace.served_lists import ServedLists
from headrace.versions import FeedbackData, ListsSpan
from models.training.choices import NO_CHOICES, Choices, choices_of
from models.training.dataset import before
from models.training.parameters import Parameters

ChoicesSoFar = Callable[[int], Choices]
"""Of the first so many events of a log, the choices that they tell of."""


@dataclass(frozen=True)
class Feedback:
    """Lists that users were served, beside the events that a training reads."""

    lists: ServedLists
    span: ListsSpan
    choices: Choices
    """What all of the events tell of."""

    @classmethod
    def of(
        cls, lists: ServedLists, span: ListsSpan, columns: EventColumns, parameters: Parameters
    ) -> Feedback:
        """Join lists with the events that are read."""
        return cls(lists, span, choices_of(lists, columns, parameters))

    @property
    def data(self) -> FeedbackData:
        """What a manifest says of it."""
        return FeedbackData(
            **msgspec.structs.asdict(self.span),
            lists=len(self.lists),
            choices=len(self.choices),
            open_from=dict(self.lists.open_from),
        )

    @property
    def note(self) -> str | None:
        """In words, that there is nothing to learn from; None where there is something."""
        if len(self.choices):
            return None
        if not len(self.lists):
            return (
                "Without feedback: the topic holds no list that was served to a user. Do servers "
                "log them (HEADRACE_IMPRESSIONS_LOG)?"
            )
        return (
            f"Without feedback: {len(self.lists):,} served lists were read, and after none of them "
            "did its user act on one item within HEADRACE_TRAINING_FEEDBACK_WINDOW_S and pass over "
            "another."
        )

    def fingerprint(self, events: str) -> str:
        """Return the fingerprint of the events, of which this is given, and the choices."""
        return hashlib.sha256(f"{events} {self.choices.fingerprint()}".encode()).hexdigest()

    def so_far(
        self, columns: EventColumns, rows: NDArray[np.int64], parameters: Parameters
    ) -> ChoicesSoFar:
        """Return the choices by how many of a log's rows are known: later events tell nothing.

        `rows`: which rows of the columns are the log that is learnt from.
        """

        def so_far(events: int) -> Choices:
            if not events:
                return NO_CHOICES
            known = before(columns, int(rows[events - 1]) + 1)
            return choices_of(self.lists, known, parameters).of_rows(rows[:events])

        return so_far
