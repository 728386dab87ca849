"""Answers from one model version: recommendations, scores of given items, similar items."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from threading import RLock

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from headrace.catalog import Item
from headrace.errors import ArtifactInvalid
from headrace.sessions import Session
from headrace.transitions import Transition
from headrace.versions import Manifest
from models.retrieval.artifact import CANDIDATE_TOWER, INDEX, QUERY_TOWER, Artifact
from models.retrieval.attributes import Mask
from models.retrieval.blend import blended_scores, log_normaliser
from models.retrieval.diversity import diverse_order
from models.retrieval.encoder import SessionEncoder
from models.retrieval.features import INTERACTION_FEATURES, SLOTS, item_features
from models.retrieval.filters import Filter
from models.retrieval.index import ExactIndex, Found, ItemIndex, ScannIndex
from models.retrieval.limited import nearest_allowed
from models.retrieval.limits import NO_LIMITS, Limits
from models.retrieval.places import UNKNOWN
from models.retrieval.ruled import NOT_RULED, LiveRules, Ruled
from models.retrieval.rules import STEPS
from models.retrieval.tower import CandidateTower, QueryTower
from models.retrieval.vectors import ItemVectors

_SIMILAR_BY_SCORE = 10
"""Times k items with the largest dot products, among which the nearest by cosine are looked for."""
EXPLAINED = 10
"""Interactions, the newest ones, whose part in a score is looked at."""
_TRANSITIONS_AT_ONCE = 128
"""Requests wait while transitions are learnt: two milliseconds or so for so many."""


class Recommendations(Struct, frozen=True):
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


class _Best(Struct, frozen=True):
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


class ListRequest(Struct, frozen=True):
    """What a list is wanted for: the k best items for the session."""

    session: Session
    k: int
    exclude: Collection[str] = ()
    """Items that the user has met. A score is relative to all others."""
    limits: Limits = NO_LIMITS
    """They change no score."""


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
        query_tower, self._candidate_tower = _load_towers(artifact)
        self._items = ItemVectors(artifact.item_ids, artifact.item_vectors)
        self._popular = self._items.positions(self.popular)
        self._index = index or _load_index(artifact)
        self._rules = LiveRules(artifact.rules)
        self._blend = artifact.blend
        self._of_items = artifact.manifest.kind == "items"
        self._encode = SessionEncoder(query_tower, of_items=self._of_items)
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
        """Return the k best items for the session: `recommend_many` for one."""
        return self.recommend_many([ListRequest(session, k, exclude, limits)])[0]

    def recommend_many(self, asked: Sequence[ListRequest]) -> list[Recommendations | None]:
        """Return for each request its best items, in one go; none depends on another.

        Interactions with items that are not known are passed over. None when that leaves none: the
        model cannot say.
        """
        with self._lock:
            found = self._best(asked)
            return [self._recommendations(each) if each else None for each in found]

    def candidates_many(self, asked: Sequence[ListRequest]) -> list[Candidates | None]:
        """Return what `recommend_many` returns, with what a second stage reads of each item."""
        with self._lock:
            found = self._best(asked)
            return [self._candidates(each) if each else None for each in found]

    def _candidates(self, best: _Best) -> Candidates:
        return Candidates(self._recommendations(best), self._features(best))

    def _features(self, best: _Best) -> NDArray[np.float32]:
        held = best.held
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
            if not (places >= 0).any():
                return None
            [query] = self._encode([session], [places], self._items.vectors)
            positions = self._items.looked_up(candidate_ids)
            there = (positions >= 0) & self._items.are_candidates(positions)
            positions = np.where(there, positions, 0)
            excluded = self._items.positions(exclude)
            [ruled] = self._ruled([places[places >= 0]])
            of_one = self._index.search_many(query[None], self._blend.candidates, [excluded])
            best = of_one[0][1]
            logs = blended_scores(
                self._items.vectors[positions] @ query,
                ruled.of(positions),
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
                self._learn(transitions[first : first + _TRANSITIONS_AT_ONCE])

    def _learn(self, transitions: Sequence[Transition]) -> None:
        items = self._items.looked_up([each.item_id for each in transitions])
        steps = [each.previous[:STEPS] for each in transitions]
        sizes = [len(each) for each in steps]
        row = np.arange(len(steps)).repeat(sizes)
        column = np.arange(len(row)) - (np.cumsum(sizes) - sizes)[row]
        previous = np.full((len(steps), STEPS), UNKNOWN, np.int64)
        previous[row, column] = self._items.looked_up(list(chain.from_iterable(steps)))
        known = items != UNKNOWN
        self._rules.add(previous[known], items[known])

    def _best(self, asked: Sequence[ListRequest]) -> list[_Best | None]:
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
            some = iter(self._best([asked[row] for row in rows]))
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

    def _mixed(
        self,
        asked: ListRequest,
        query: NDArray[np.float32],
        held: NDArray[np.int64],
        met: NDArray[np.int64],
        found: Found,
        ruled: Ruled,
    ) -> _Best:
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
        return _Best(held, positions[best], scores[best], towers, probabilities[best])

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

    def _recommendations(self, best: _Best) -> Recommendations:
        return Recommendations(
            self._items.ids(best.positions),
            self._calibration(best.scores).tolist(),
            self._items.are_cold(best.positions).tolist(),
        )


def _first(scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Return where the k highest scores stand, best first; of equal ones the first comes first."""
    if k >= len(scores):
        return np.argsort(-scores, kind="stable")
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    among = np.flatnonzero(scores >= least)
    return among[np.argsort(-scores[among], kind="stable")[:k]]


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
