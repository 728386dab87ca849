"""Answers from one model version: recommendations, scores of given items, similar items."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from threading import RLock

import numpy as np
from numpy.typing import NDArray

from headrace.catalog import Item
from headrace.errors import ArtifactInvalid
from headrace.sessions import Session
from headrace.transitions import Transition
from headrace.versions import Manifest
from models.retrieval.artifact import CANDIDATE_TOWER, INDEX, QUERY_TOWER, Artifact
from models.retrieval.blend import blended_scores, log_normaliser
from models.retrieval.diversity import diverse_order
from models.retrieval.features import (
    INTERACTION_FEATURES,
    SLOTS,
    interaction_features,
    item_features,
    kind_codes,
)
from models.retrieval.filters import Filter
from models.retrieval.index import ExactIndex, ItemIndex, ScannIndex
from models.retrieval.limited import nearest_allowed
from models.retrieval.limits import NO_LIMITS, Limits
from models.retrieval.rules import NOT_RULED, STEPS, LiveRules, Ruled
from models.retrieval.tower import CandidateTower, QueryTower
from models.retrieval.vectors import ItemVectors

_SIMILAR_BY_SCORE = 10
"""Times k items with the largest dot products, among which the nearest by cosine are looked for."""
EXPLAINED = 10
"""Interactions, the newest ones, whose part in a score is looked at."""
_TRANSITIONS_AT_ONCE = 128
"""Requests wait while transitions are learnt: two milliseconds or so for so many."""


@dataclass(frozen=True)
class Recommendations:
    """Items, best first; for `Retriever.score`, in the order asked for."""

    item_ids: list[str]
    scores: list[float]
    """In [0, 1]."""
    cold: list[bool]
    """Whether the item came after the training and is known by its features alone."""

    def at(self, places: Sequence[int]) -> Recommendations:
        """Return the items at these places, in their order."""
        return Recommendations(
            [self.item_ids[place] for place in places],
            [self.scores[place] for place in places],
            [self.cold[place] for place in places],
        )


CANDIDATE_FEATURES = 8
"""Of a candidate, for a second stage: log score; the towers' and the rules' log probability; place;
cosine with the newest item, and with the nearest of the newest ones; whether the session holds it;
how long the session is."""
_NEWEST = 5
"""Items of a session that a candidate's nearness is looked at from."""
_LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Candidates:
    """What retrieval found, for a second stage to reorder."""

    items: Recommendations
    features: NDArray[np.float32]
    """`[n, CANDIDATE_FEATURES]`"""


@dataclass(frozen=True)
class _Best:
    """The n best items, best first."""

    positions: NDArray[np.int64]
    scores: NDArray[np.float64]
    """Blended, logarithms."""
    towers: NDArray[np.float64]
    """Logarithms of the towers' probabilities."""
    rules: NDArray[np.float64]
    """The rules' probabilities."""


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
        self._query_tower, self._candidate_tower = _load_towers(artifact)
        self._items = ItemVectors(artifact.item_ids, artifact.item_vectors)
        self._popular = self._items.positions(self.popular)
        self._index = index or _load_index(artifact)
        self._rules = LiveRules(artifact.rules)
        self._blend = artifact.blend
        # Item-to-item towers were told of an item alone, not of what was done to it.
        self._of_items = artifact.manifest.kind == "items"
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

    @property
    def has_rules(self) -> bool:
        """Whether rules have a share in the scores, so that `learn` matters."""
        return self._blend.rules > 0

    def recommend(
        self,
        session: Session,
        k: int,
        *,
        exclude: Collection[str] = (),
        limits: Limits = NO_LIMITS,
    ) -> Recommendations | None:
        """Return the k best items for the session, without those in `exclude`, within the limits.

        A score is relative to the items that are not in `exclude`, which are those that the user
        has met; limits change none. Interactions with items that are not known are passed over.
        Returns None when that leaves none: the model cannot say.
        """
        with self._lock:
            places = self._items.looked_up(session.item_ids)
            query = self._query(session, places)
            if query is None:
                return None
            met = self._met(session, places, exclude)
            best = self._best(query, self._ruled(places), k, met, limits)
            return self._recommendations(best.positions, best.scores)

    def candidates(
        self,
        session: Session,
        k: int,
        *,
        exclude: Collection[str] = (),
        limits: Limits = NO_LIMITS,
    ) -> Candidates | None:
        """Return what `recommend` returns, with what a second stage reads of each item."""
        with self._lock:
            places = self._items.looked_up(session.item_ids)
            query = self._query(session, places)
            if query is None:
                return None
            met = self._met(session, places, exclude)
            best = self._best(query, self._ruled(places), k, met, limits)
            items = self._recommendations(best.positions, best.scores)
            return Candidates(items, self._features(places[places >= 0], best))

    def _met(
        self, session: Session, places: NDArray[np.int64], exclude: Collection[str]
    ) -> NDArray[np.int64]:
        """Return where the excluded items stand: mostly they are the session itself."""
        same = exclude is session.item_ids
        return places[places >= 0] if same else self._items.positions(exclude)

    def _features(self, held: NDArray[np.int64], best: _Best) -> NDArray[np.float32]:
        """`held`: where the session's items stand, the oldest first."""
        directions = self._directions(best.positions)
        cosines = directions @ self._directions(held[::-1][:_NEWEST]).T
        n = len(best.positions)
        return np.column_stack(
            [
                best.scores,
                best.towers,
                np.log(best.rules + _LEAST_PROBABILITY),
                np.log1p(np.arange(n)),
                cosines[:, 0],
                cosines.max(axis=1),
                np.isin(best.positions, held),
                np.full(n, np.log1p(len(held))),
            ]
        ).astype(np.float32)

    def _directions(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return `[n, width - 1]`: the items' vectors, biases apart, at length 1."""
        vectors = self._items.vectors[positions, :-1]
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(norms, np.finfo(np.float32).tiny))

    def score(
        self, session: Session, candidate_ids: Sequence[str], *, exclude: Collection[str] = ()
    ) -> Recommendations | None:
        """Return the score of each of these items, 0 for one that is not known.

        The scores are those of `recommend` with the same `exclude`. Returns None when the session
        holds no known item.
        """
        with self._lock:
            places = self._items.looked_up(session.item_ids)
            query = self._query(session, places)
            if query is None:
                return None
            positions = self._items.looked_up(candidate_ids)
            there = (positions >= 0) & self._items.are_candidates(positions)
            positions = np.where(there, positions, 0)
            excluded = self._items.positions(exclude)
            _, best = self._index.search(query, self._blend.candidates, excluded)
            logs = blended_scores(
                self._items.vectors[positions] @ query,
                self._ruled(places).of(positions),
                log_normaliser(best),
                self._blend.rules,
                self._items.are_cold(positions),
            )
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
        known = [
            row for row, at in enumerate(session.item_ids) if self._items.position(at) is not None
        ]
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
            directions = np.where(
                positions[:, None] >= 0, self._items.vectors[positions, :-1], np.float32(0.0)
            )
        norms = np.linalg.norm(directions, axis=1, keepdims=True)
        directions /= np.maximum(norms, np.finfo(np.float32).tiny)
        return found.at(diverse_order(directions, k, diversity).tolist())

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
            directions = self._items.vectors[positions, :-1]
            norms = np.linalg.norm(directions, axis=1) * np.linalg.norm(query)
            cosines = directions @ query[:-1] / np.maximum(norms, np.finfo(np.float32).tiny)
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
            cold = [item for item in items if not self._items.is_trained(item.item_id)]
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
                self._learn(transitions[first : first + _TRANSITIONS_AT_ONCE])

    def _learn(self, transitions: Sequence[Transition]) -> None:
        rows = [
            (position, before.previous)
            for before in transitions
            if (position := self._items.position(before.item_id)) is not None
        ]
        previous = np.full((len(rows), STEPS), -1, np.int64)
        for row, (_, item_ids) in zip(previous, rows, strict=True):
            found = [self._items.position(item_id) for item_id in item_ids[:STEPS]]
            row[: len(found)] = [-1 if at is None else at for at in found]
        self._rules.add(previous, np.array([position for position, _ in rows], np.int64))

    def _query(self, session: Session, places: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Return the query vector of the newest interactions with known items, None for none.

        `places`: where the session's items stand, -1 for an unknown one.
        """
        rows = np.flatnonzero(places >= 0)[-self._query_tower.session_length :]
        if not len(rows):
            return None
        times = np.array(session.timestamps, np.float64)
        gaps = np.zeros(len(times))
        np.subtract(times[1:], times[:-1], out=gaps[1:])
        features = interaction_features(
            gaps[rows],
            kind_codes(session.kinds)[rows],
            # NumPy reads None as NaN.
            np.array(session.ratings, np.float32)[rows],
        )
        if self._of_items:
            features = np.zeros_like(features)
        return self._query_tower(self._items.vectors[places[rows]], features)

    def _best(
        self,
        query: NDArray[np.float32],
        ruled: Ruled,
        k: int,
        met: NDArray[np.int64],
        limits: Limits,
    ) -> _Best:
        """Return the k best items by blended score."""
        blend = self._blend
        positions, dots = self._index.search(query, max(blend.candidates, k), met)
        normaliser = log_normaliser(dots[: blend.candidates])
        wanted = self._items.are_candidates(ruled.positions)
        if limits:
            allowed = self._items.allowed(limits)
            allowed[met] = False
            wanted &= allowed[ruled.positions]
            positions, dots = nearest_allowed(
                self._index, self._items.vectors, query, k, allowed, (positions, dots), met
            )
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
        scores = blended_scores(
            dots, probabilities, normaliser, blend.rules, self._items.are_cold(positions)
        )
        best = np.argsort(-scores, kind="stable")[:k]
        towers = dots[best].astype(np.float64) - normaliser
        return _Best(positions[best], scores[best], towers, probabilities[best])

    def _ruled(self, places: NDArray[np.int64]) -> Ruled:
        """Return the items that rules lead to from a session's items, the oldest first."""
        blend = self._blend
        if not blend.rules:
            return NOT_RULED
        recent = places[places >= 0][: -blend.last - 1 : -1]
        return self._rules.candidates(recent, blend.decay, blend.smoothing)

    def _recommendations(
        self, positions: NDArray[np.int64], scores: NDArray[np.float64]
    ) -> Recommendations:
        return Recommendations(
            self._items.ids(positions),
            self._calibration(scores).tolist(),
            self._items.are_cold(positions).tolist(),
        )


def _load_towers(artifact: Artifact) -> tuple[QueryTower, CandidateTower]:
    try:
        query_tower = QueryTower(artifact.query_tower)
        candidate_tower = CandidateTower(artifact.candidate_tower)
    except (KeyError, RuntimeError, ValueError) as exc:
        raise ArtifactInvalid(f"Version {artifact.manifest.version}: a tower: {exc}") from exc
    width = artifact.item_vectors.shape[1]
    for name, has, needs in (
        (QUERY_TOWER, query_tower.width, width),
        (QUERY_TOWER, query_tower.features, INTERACTION_FEATURES),
        (CANDIDATE_TOWER, candidate_tower.slots, SLOTS),
    ):
        if has != needs:
            raise ArtifactInvalid(
                f"Version {artifact.manifest.version}: {name} takes {has} values where this "
                f"program gives {needs}; train again."
            )
    return query_tower, candidate_tower


def _load_index(artifact: Artifact) -> ItemIndex:
    if not artifact.has_index:
        return ExactIndex(artifact.item_vectors)
    try:
        return ScannIndex.load(artifact.folder / INDEX, len(artifact.item_ids))
    except (OSError, RuntimeError, ValueError) as exc:
        raise ArtifactInvalid(f"Version {artifact.manifest.version}: {INDEX}/: {exc}") from exc
