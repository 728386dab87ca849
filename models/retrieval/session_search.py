"""The best items for sessions: what the towers find and the rules lead to, as one list."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import accumulate, chain

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from headrace.sessions import Session
from headrace.transitions import Transition
from models.retrieval.attributes import Mask
from models.retrieval.blend import Blend, blended_scores, log_normaliser
from models.retrieval.encoder import SessionEncoder
from models.retrieval.index import Found, ItemIndex
from models.retrieval.limited import nearest_allowed
from models.retrieval.places import UNKNOWN
from models.retrieval.recommendations import ListRequest
from models.retrieval.ruled import NOT_RULED, LiveRules, Ruled
from models.retrieval.rules import STEPS
from models.retrieval.vectors import ItemVectors


class Best(Struct, frozen=True):
    """The n best items for a session, best first."""

    held: NDArray[np.int64]
    """Where the session's known items stand, the oldest first."""
    positions: NDArray[np.int64]
    scores: NDArray[np.float64]
    """Blended, logarithms."""
    towers: NDArray[np.float64]
    """Logarithms of the towers' probabilities."""
    rules: NDArray[np.float64]
    """The rules' probabilities."""


class SessionSearch:
    """Finds the items whose mixed probability (`blend`) is the highest. One thread at a time."""

    def __init__(
        self,
        encode: SessionEncoder,
        items: ItemVectors,
        index: ItemIndex,
        rules: LiveRules,
        blend: Blend,
    ) -> None:
        """The items and the index may change between calls."""
        self._encode = encode
        self._items = items
        self._index = index
        self._rules = rules
        self._blend = blend

    def best(self, asked: Sequence[ListRequest]) -> list[Best | None]:
        """Return the best items of each request, None where the session holds no known item."""
        if not asked:
            return []
        sizes = [len(each.session.item_ids) for each in asked]
        ids = list(chain.from_iterable([each.session.item_ids for each in asked]))
        place, ends = self._items.looked_up(ids), list(accumulate(sizes))
        places = [place[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        held = [each[each >= 0] for each in places]
        rows = [row for row, each in enumerate(held) if len(each)]
        if len(rows) < len(asked):
            # Those of which the model can say something, by themselves.
            some = iter(self.best([asked[row] for row in rows]))
            return [next(some) if len(each) else None for each in held]
        met = [
            # Mostly it is the session itself.
            of_session
            if each.exclude is each.session.item_ids
            else self._items.positions(each.exclude)
            for each, of_session in zip(asked, held, strict=True)
        ]
        sessions = [each.session for each in asked]
        queries = self._encode(sessions, places, self._items.vectors)
        # The same for all, whoever else is asked for.
        k = self._blend.candidates
        found = self._index.search_many(queries, k, met)
        ruled = self._ruled(held)
        return [
            self._mixed(*each) for each in zip(asked, queries, held, met, found, ruled, strict=True)
        ]

    def scores(
        self, session: Session, positions: NDArray[np.int64], *, exclude: Collection[str]
    ) -> NDArray[np.float64] | None:
        """Return the blended score of each of these positions, as `best` would give it.

        None where the session holds no known item.
        """
        places = self._items.looked_up(session.item_ids)
        held = places[places >= 0]
        if not len(held):
            return None
        [query] = self._encode([session], [places], self._items.vectors)
        [ruled] = self._ruled([held])
        excluded = self._items.positions(exclude)
        [(_, nearest)] = self._index.search_many(query[None], self._blend.candidates, [excluded])
        dots = self._items.vectors[positions] @ query
        return self._blended(positions, dots, ruled.of(positions), log_normaliser(nearest))

    def learn(self, transitions: Sequence[Transition]) -> None:
        """Add these to the rules, in the order given: see `Retriever.learn`."""
        items = self._items.looked_up([each.item_id for each in transitions])
        steps = [each.previous[:STEPS] for each in transitions]
        sizes = [len(each) for each in steps]
        row = np.arange(len(steps)).repeat(sizes)
        column = np.arange(len(row)) - (np.cumsum(sizes) - sizes)[row]
        previous = np.full((len(steps), STEPS), UNKNOWN, np.int64)
        previous[row, column] = self._items.looked_up(list(chain.from_iterable(steps)))
        known = items != UNKNOWN
        self._rules.add(previous[known], items[known])

    def _mixed(
        self,
        asked: ListRequest,
        query: NDArray[np.float32],
        held: NDArray[np.int64],
        met: NDArray[np.int64],
        found: Found,
        ruled: Ruled,
    ) -> Best:
        """Return the best items for one session, of what the index has found and rules lead to.

        `held`: where the session's known items stand, oldest first; `met`: where those stand that
        are excluded.
        """
        blend, k = self._blend, asked.k
        normaliser = log_normaliser(found[1])
        if k > blend.candidates:
            found = self._index.search(query, k, met)
        positions, dots = found
        allowed: Mask | None = None
        wanted = self._items.are_candidates(ruled.positions)
        if asked.limits:
            allowed = self._items.allowed(asked.limits)
            allowed[met] = False
            wanted &= allowed[ruled.positions]
            positions, dots = nearest_allowed(
                self._index, self._items.vectors, query, k, allowed, found, met
            )
        least = float(dots[-1]) - normaliser if len(dots) else -math.inf
        probabilities = np.zeros(len(positions))
        if len(ruled.positions):
            at, there = ruled.found(positions)
            probabilities[there] = ruled.probabilities[at[there]]
            wanted[at[there]] = False
            at, there = ruled.found(met)
            wanted[at[there]] = False
            # What rules lead to and the towers do not.
            more = ruled.positions[wanted]
            positions = np.concatenate([positions, more])
            dots = np.concatenate([dots, self._items.vectors[more] @ query])
            probabilities = np.concatenate([probabilities, ruled.probabilities[wanted]])
        scores = self._blended(positions, dots, probabilities, normaliser)
        best = _first(scores, k)
        if blend.rules and self._items.has_cold and (scores[best[-1:]] < least).any():
            # No cold item was scored below what the towers give it, and there may be better ones
            # behind those that were found.
            more = self._cold_besides(np.concatenate([positions, met]), allowed)
            of_more = self._items.vectors[more] @ query
            none = np.zeros(len(more))
            positions = np.concatenate([positions, more])
            dots, probabilities = np.concatenate([dots, of_more]), np.append(probabilities, none)
            scores = np.append(scores, self._blended(more, of_more, none, normaliser))
            best = _first(scores, k)
        towers = dots[best].astype(np.float64) - normaliser
        return Best(held, positions[best], scores[best], towers, probabilities[best])

    def _blended(
        self,
        positions: NDArray[np.int64],
        dots: NDArray[np.float32],
        probabilities: NDArray[np.float64],
        normaliser: float,
    ) -> NDArray[np.float64]:
        cold = self._items.are_cold(positions)
        return blended_scores(dots, probabilities, normaliser, self._blend.rules, cold)

    def _cold_besides(
        self, positions: NDArray[np.int64], allowed: Mask | None
    ) -> NDArray[np.int64]:
        """Return where the cold items stand that are allowed and not among these."""
        cold = self._items.cold_candidates()
        if allowed is not None:
            cold = cold[allowed[cold]]
        return cold[~np.isin(cold, positions)]

    def _ruled(self, held: Sequence[NDArray[np.int64]]) -> list[Ruled]:
        """Return what rules lead to from the known items of sessions, the oldest first."""
        blend = self._blend
        if not blend.rules:
            return [NOT_RULED] * len(held)
        recent = [each[: -blend.last - 1 : -1] for each in held]
        return self._rules.candidates(recent, blend.decay, blend.smoothing)


def _first(scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Return where the k highest scores stand, best first; of equal ones the first comes first."""
    if k >= len(scores):
        return np.argsort(-scores, kind="stable")
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    among = np.flatnonzero(scores >= least)
    return among[np.argsort(-scores[among], kind="stable")[:k]]
