"""Lists of candidates as they would have been served, for a second stage to learn from."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from headrace.events import EventColumns
from headrace.transitions import Transition
from models.retrieval.ranker import CANDIDATES, FEATURES, ItemFigures
from models.retrieval.recommendations import ListRequest
from models.retrieval.retriever import Retriever
from models.retrieval.rules import STEPS
from models.training.dataset import positives
from models.training.evaluation import K, held_out, spaced
from models.training.kinds import RETRIEVAL
from models.training.parameters import Parameters
from models.training.quality.queries import histories
from models.training.quality.served import session_of


@dataclass(frozen=True)
class Examples:
    """q lists of candidates, best first; shorter ones are padded."""

    features: NDArray[np.float32]
    """`[q, CANDIDATES, FEATURES]`"""
    there: NDArray[np.bool_]
    """`[q, CANDIDATES]`: whether a candidate stands there."""
    wanted: NDArray[np.int64]
    """`[q]`: the place of the item that came next; -1 where retrieval did not find it."""
    came_true: NDArray[np.bool_]
    """`[q, CANDIDATES]`: whether the candidate was among the user's next 10 events, positive."""
    users: NDArray[np.int32]
    """`[q]`: whose the lists are."""
    timestamps: NDArray[np.float64]
    """`[q]`: Unix seconds of what came next."""

    def after(self, moment: float) -> Examples:
        """Return the lists before what came after a moment, in Unix seconds."""
        kept = self.timestamps > moment
        return Examples(*(getattr(self, each.name)[kept] for each in fields(self)))


class Lists:
    """Asks a retriever for lists, in time, its rules learning as they do when serving."""

    def __init__(
        self,
        columns: EventColumns,
        parameters: Parameters,
        retriever: Retriever,
        figures: ItemFigures,
    ) -> None:
        """`figures`: of the items, the same for whatever ranks the lists."""
        self._columns = columns
        self._retriever = retriever
        self._figures = figures
        self._repeats = parameters.repeats
        self._data = histories(columns)
        self._judged = RETRIEVAL.histories(columns, parameters)
        self._positive = positives(columns, parameters)[self._data.event]
        self._row_of = np.empty(len(columns), np.int64)
        self._row_of[self._data.event] = np.arange(len(columns))

    def between(self, begin: int, end: int, at_most: int) -> Examples:
        """Return the lists before events from `begin` to `end`, evenly spaced; in order."""
        # An item that its user has met is asked for where it may be recommended.
        wanted = self._judged
        if self._repeats:
            wanted = replace(wanted, is_new=wanted.is_target)
        positions = held_out(wanted, begin)
        positions = positions[wanted.event[positions] < end]
        positions = positions[self._data.first[positions] < positions]
        rows = spaced(positions, at_most)
        queries = self._data.queries(rows)
        q = len(rows)
        examples = Examples(
            np.zeros((q, CANDIDATES, FEATURES), np.float32),
            np.zeros((q, CANDIDATES), np.bool_),
            np.full(q, -1),
            np.zeros((q, CANDIDATES), np.bool_),
            self._data.log.user[rows],
            self._data.log.timestamp[rows],
        )
        learnt = begin
        item_ids = self._columns.item_ids
        for number, row in enumerate(rows.tolist()):
            event = int(self._data.event[row])
            self._learn(learnt, event)
            learnt = event
            session = session_of(queries, number, item_ids)
            met = [item_ids[at] for at in queries.item[queries.start[number] : row].tolist()]
            met = [] if self._repeats else met
            [found] = self._retriever.candidates_many([ListRequest(session, CANDIDATES, met)])
            if found is None or not found.items.item_ids:
                continue
            n = len(found.items.item_ids)
            place = {item_id: at for at, item_id in enumerate(found.items.item_ids)}
            examples.features[number, :n] = self._figures.features(found)
            examples.there[number, :n] = True
            examples.wanted[number] = place.get(item_ids[queries.target[number]], -1)
            for item_id in self._coming(row):
                if item_id in place:
                    examples.came_true[number, place[item_id]] = True
        self._learn(learnt, end)
        return examples

    def _coming(self, row: int) -> list[str]:
        rows = np.arange(row, min(row + K, len(self._data)))
        rows = rows[(self._data.first[rows] == self._data.first[row]) & self._positive[rows]]
        return [self._columns.item_ids[at] for at in self._data.log.item[rows].tolist()]

    def _learn(self, begin: int, end: int) -> None:
        """Let the rules learn the events from `begin` to `end`."""
        transitions = []
        for row in self._row_of[begin:end].tolist():
            since = max(int(self._data.first[row]), row - STEPS)
            previous = self._data.log.item[since:row][::-1].tolist()
            names = tuple(self._columns.item_ids[at] for at in previous)
            item_id = self._columns.item_ids[int(self._data.log.item[row])]
            transitions.append(Transition("clicks", "", 0, row, item_id, names))
        self._retriever.learn(transitions)
