"""The product's lists, asked of a version as a server asks it, one session at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.events import KINDS
from headrace.sessions import Session
from headrace.settings import SessionSettings
from headrace.transitions import Transition
from models.retrieval.retriever import Retriever
from models.training.quality.model import Lists, Live
from models.training.quality.queries import Queries

SESSION_LIMIT = SessionSettings().limit
_POPULAR = 1e-9
"""The score of the first popular item for a session that says nothing, the others below it."""


class Served:
    """Asks one version, which is loaded from its artefact."""

    def __init__(self, retriever: Retriever, item_ids: Sequence[str], *, seen_stay: bool) -> None:
        """`item_ids`: of the codes in queries."""
        self._retriever = retriever
        self._item_ids = item_ids
        self._codes = {item_id: code for code, item_id in enumerate(item_ids)}
        self._seen_stay = seen_stay

    def lists(self, queries: Queries, k: int, live: Live | None = None) -> Lists:
        """Return the k best items for each session; popular ones where the version cannot say.

        With `live`, the version's rules learn each query's target after it was answered.
        """
        items = np.full((len(queries), k), -1, np.int32)
        scores = np.zeros((len(queries), k), np.float32)
        for row in range(len(queries)):
            met = queries.item[queries.start[row] : queries.end[row]]
            exclude = [] if self._seen_stay else self._ids(met.tolist())
            ids, found = self._list(session_of(queries, row, self._item_ids), k, exclude)
            items[row, : len(ids)] = [self._codes.get(item_id, -1) for item_id in ids]
            scores[row, : len(ids)] = found
            if live is not None:
                self._learn(int(queries.target[row]), live.previous[row].tolist(), row)
        return Lists(items, scores)

    def _list(
        self, session: Session, k: int, exclude: Sequence[str]
    ) -> tuple[Sequence[str], Sequence[float]]:
        found = self._retriever.recommend(session, k, exclude=exclude)
        if found is not None:
            return found.item_ids, found.scores
        left_out = set(exclude)
        popular = [item_id for item_id in self._retriever.popular if item_id not in left_out][:k]
        return popular, [_POPULAR / (1 + place) for place in range(len(popular))]

    def _learn(self, target: int, previous: Sequence[int], offset: int) -> None:
        before = tuple(self._ids([code for code in previous if code >= 0]))
        transition = Transition("clicks", "", 0, offset, self._item_ids[target], before)
        self._retriever.learn([transition])

    def _ids(self, codes: Sequence[int]) -> list[str]:
        return [self._item_ids[code] for code in codes]


def session_of(queries: Queries, row: int, item_ids: Sequence[str]) -> Session:
    """Return a query's session as the session dictionary holds it.

    Of an item's events the newest alone stands there, and of all the newest `SESSION_LIMIT`.
    """
    start, end = int(queries.start[row]), int(queries.end[row])
    codes = queries.item[start:end]
    # Of each item, its last place, then in the order of places.
    last = np.unique(codes[::-1], return_index=True)[1]
    places = start + np.sort(len(codes) - 1 - last)[-SESSION_LIMIT:]
    ratings = queries.rating[places].tolist()
    return Session(
        item_ids=tuple(item_ids[code] for code in queries.item[places].tolist()),
        timestamps=tuple(queries.timestamp[places].tolist()),
        kinds=tuple(KINDS[kind] for kind in queries.kind[places].tolist()),
        ratings=tuple(None if np.isnan(rating) else rating for rating in ratings),
    )
