"""Answers from one model version: recommendations, scores of given items, similar items."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from headrace.catalog import Item
from headrace.sessions import Session
from headrace.transitions import Transition
from headrace.versions import Manifest
from models.retrieval.artifact import Artifact
from models.retrieval.candidates import Candidates, candidate_features
from models.retrieval.diversity import diverse_order
from models.retrieval.encoder import SessionEncoder
from models.retrieval.features import item_features
from models.retrieval.filters import Filter
from models.retrieval.index import ItemIndex
from models.retrieval.limits import NO_LIMITS, Limits
from models.retrieval.loading import load_index, load_towers
from models.retrieval.places import UNKNOWN
from models.retrieval.recommendations import ListRequest, Recommendations
from models.retrieval.ruled import LiveRules
from models.retrieval.session_search import Best, SessionSearch
from models.retrieval.vectors import ItemVectors, directions

_SIMILAR_BY_SCORE = 10
"""Times k items with the largest dot products, among which the nearest by cosine are looked for."""
EXPLAINED = 10
"""Interactions, the newest ones, whose part in a score is looked at."""
_TRANSITIONS_AT_ONCE = 128
"""Requests wait while transitions are learnt: two milliseconds or so for so many."""


class Retriever:
    """A loaded version, level with the catalogue as `add_items` and `remove_items` make it.

    Reading never writes, and any thread may call any method; one runs at a time.
    """

    def __init__(self, artifact: Artifact, index: ItemIndex | None = None) -> None:
        """Load the towers and the index; `index` replaces the version's own.

        Raises `ArtifactInvalid` for towers that do not fit the item vectors or this program.
        """
        self.manifest: Manifest = artifact.manifest
        self.popular: Sequence[str] = artifact.popular
        self._calibration = artifact.calibration
        self._bought_together = artifact.bought_together
        query_tower, self._candidate_tower = load_towers(artifact)
        self._items = ItemVectors(artifact.item_ids, artifact.item_vectors)
        self._popular = self._items.positions(self.popular)
        self._index = index or load_index(artifact)
        self._of_items = artifact.manifest.kind == "items"
        self._search = SessionSearch(
            SessionEncoder(query_tower, of_items=self._of_items),
            self._items,
            self._index,
            LiveRules(artifact.rules),
            artifact.blend,
        )
        self.has_rules = artifact.blend.rules > 0
        """Whether rules have a share in the scores, so that `learn` matters."""
        self._lock = RLock()

    def __contains__(self, item_id: str) -> bool:
        """Return whether the item may be recommended."""
        return self._items.candidate(item_id) is not None

    def holding(self, item_ids: Sequence[str], asked: Filter) -> NDArray[np.bool_]:
        """Return of each of these whether it may be recommended and the filter holds of it."""
        with self._lock:
            return self._items.holding(item_ids, asked)

    def has(self, asked: Filter) -> bool:
        """Return whether there is an item to recommend of which the filter holds."""
        with self._lock:
            return self._items.has(asked)

    def popular_items(
        self,
        k: int,
        *,
        first: Sequence[str] = (),
        exclude: Collection[str] = (),
        limits: Limits = NO_LIMITS,
    ) -> list[str]:
        """Return k items without a session: those of `first`, then popular ones, then any.

        None of `exclude`, and none that the limits leave out.
        """
        with self._lock:
            order = np.concatenate([self._items.positions(first), self._popular])
            return self._items.ids(self._items.first_of(order, k, limits, exclude))

    def recommend(
        self,
        session: Session,
        k: int,
        *,
        exclude: Collection[str] = (),
        limits: Limits = NO_LIMITS,
    ) -> Recommendations | None:
        """Return the k best items for the session: `recommend_many` for one."""
        return self.recommend_many([ListRequest(session, k, exclude, limits)])[0]

    def recommend_many(self, asked: Sequence[ListRequest]) -> list[Recommendations | None]:
        """Return for each request its best items, in one go; none depends on another.

        Interactions with items that are not known are passed over. None when that leaves none: the
        model cannot say.
        """
        with self._lock:
            found = self._search.best(asked)
            return [self._recommendations(each) if each else None for each in found]

    def candidates_many(self, asked: Sequence[ListRequest]) -> list[Candidates | None]:
        """Return what `recommend_many` returns, with what a second stage reads of each item."""
        with self._lock:
            found = self._search.best(asked)
            return [self._candidates(each) if each else None for each in found]

    def _candidates(self, best: Best) -> Candidates:
        return Candidates(
            self._recommendations(best), candidate_features(best, self._items.vectors)
        )

    def score(
        self, session: Session, candidate_ids: Sequence[str], *, exclude: Collection[str] = ()
    ) -> Recommendations | None:
        """Return the score of each of these items, 0 for one that is not known.

        The scores are those of `recommend` with the same `exclude`. Returns None when the session
        holds no known item.
        """
        with self._lock:
            positions = self._items.looked_up(candidate_ids)
            there = (positions >= 0) & self._items.are_candidates(positions)
            positions = np.where(there, positions, 0)
            logs = self._search.scores(session, positions, exclude=exclude)
            if logs is None:
                return None
            scores = np.where(there, self._calibration(logs), 0.0)
            cold = there & self._items.are_cold(positions)
            return Recommendations(list(candidate_ids), scores.tolist(), cold.tolist())

    def explain(
        self,
        session: Session,
        item_ids: Sequence[str],
        *,
        exclude: Collection[str] = (),
        newest: int = EXPLAINED,
    ) -> list[dict[str, float]]:
        """Return for each of these items by how much each interaction moved its score.

        By the ids of the `newest` interactions with known items, the item's score less what it
        would be had the interaction not been: towers and rules are asked again without each of
        them, so this takes `newest` times as long as `score`.
        """
        scored = self.score(session, item_ids, exclude=exclude)
        if scored is None:
            return [{} for _ in item_ids]
        effects: list[dict[str, float]] = [{} for _ in item_ids]
        known = np.flatnonzero(self._items.looked_up(session.item_ids) != UNKNOWN).tolist()
        for row in known[-newest:]:
            without = self.score(session.without(row), item_ids, exclude=exclude)
            others = without.scores if without else [0.0] * len(item_ids)
            for effect, score, other in zip(effects, scored.scores, others, strict=True):
                effect[session.item_ids[row]] = score - other
        return effects

    def diversify(self, found: Recommendations, k: int, diversity: float) -> Recommendations:
        """Return k of the items, best first, by maximal marginal relevance (`diversity`).

        An item that is not known is like no other.
        """
        with self._lock:
            positions = self._items.looked_up(found.item_ids)
            known = (positions >= 0)[:, None]
            pointing = np.where(known, directions(self._items.vectors[positions]), np.float32(0.0))
        return found.at(diverse_order(pointing, k, diversity).tolist())

    def similar(self, item_id: str, k: int) -> Recommendations | None:
        """Return the k items most like this one; None for an item that is not known.

        A version of the kind `items` says what comes next in a session that is at this item, and a
        score is a probability. One of another kind says which vectors, biases apart, have the
        largest cosine with this one's; that is the score, 0 for a negative one.
        """
        if self._of_items:
            session = Session((item_id,), (0.0,), ("click",), (None,))
            return self.recommend(session, k, exclude=[item_id])
        with self._lock:
            position = self._items.position(item_id)
            if position is None:
                return None
            query = self._items.vectors[position].copy()
            query[-1] = 0.0
            wanted = _SIMILAR_BY_SCORE * k
            positions, _ = self._index.search(query, wanted, np.array([position], np.int64))
            [of_this] = directions(query[None])
            cosines = directions(self._items.vectors[positions]) @ of_this
            best = np.argsort(-cosines, kind="stable")[:k]
            return Recommendations(
                self._items.ids(positions[best]),
                np.clip(cosines[best], 0.0, 1.0).tolist(),
                self._items.are_cold(positions[best]).tolist(),
            )

    def bought_together(self, item_id: str, k: int) -> Recommendations | None:
        """Return the k items that most of this one's baskets hold, too, and the shares that do.

        Returns None for an item that is not known, an empty list when nothing is known of it.
        """
        with self._lock:
            position = self._items.position(item_id)
            if position is None:
                return None
            positions, shares = self._bought_together.of(position)
            kept = np.flatnonzero(self._items.are_candidates(positions))[:k]
            return Recommendations(
                self._items.ids(positions[kept]), shares[kept].tolist(), [False] * len(kept)
            )

    def add_items(self, items: Sequence[Item]) -> None:
        """Make items of the catalogue candidates.

        One that the version was trained on keeps its vector; a cold one gets it from its features.
        """
        if not items:
            return
        with self._lock:
            trained = self._items.are_trained([item.item_id for item in items]).tolist()
            cold = [item for item, known in zip(items, trained, strict=True) if not known]
            if cold:
                vectors = self._candidate_tower(item_features(cold))
                self._items.put([item.item_id for item in cold], vectors)
            restored = self._items.take(items)
            if len(restored):
                self._index.upsert(restored, self._items.vectors[restored])

    def settle(self) -> None:
        """Do now what the next filters would have to wait for, after many items were added."""
        with self._lock:
            self._items.settle()

    def remove_items(self, item_ids: Collection[str]) -> None:
        """Make items no candidates any more; sessions that hold them still count them."""
        with self._lock:
            self._index.remove(self._items.withdraw(item_ids))

    def learn(self, transitions: Sequence[Transition]) -> None:
        """Add what came after the training to the rules, in the order given.

        A transition to an item that is not known is passed over; one that is not known among the
        items before keeps its place, but no rule leads from it.
        """
        for first in range(0, len(transitions), _TRANSITIONS_AT_ONCE):
            with self._lock:
                self._search.learn(transitions[first : first + _TRANSITIONS_AT_ONCE])

    def _recommendations(self, best: Best) -> Recommendations:
        return Recommendations(
            self._items.ids(best.positions),
            self._calibration(best.scores).tolist(),
            self._items.are_cold(best.positions).tolist(),
        )
