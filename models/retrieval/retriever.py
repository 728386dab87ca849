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
from headrace.versions import Manifest
from models.retrieval.artifact import CANDIDATE_TOWER, INDEX, QUERY_TOWER, Artifact
from models.retrieval.features import (
    INTERACTION_FEATURES,
    SLOTS,
    interaction_features,
    item_features,
    kind_codes,
)
from models.retrieval.index import ExactIndex, ItemIndex, ScannIndex
from models.retrieval.tower import CandidateTower, QueryTower
from models.retrieval.vectors import ItemVectors

_SIMILAR_BY_SCORE = 10
"""Times k items with the largest dot products, among which the nearest by cosine are looked for."""


@dataclass(frozen=True)
class Recommendations:
    """Items, best first; for `Retriever.score`, in the order asked for."""

    item_ids: list[str]
    scores: list[float]
    """In [0, 1]."""
    cold: list[bool]
    """Whether the item came after the training and is known by its features alone."""


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
        self._index = index or _load_index(artifact)
        self._lock = RLock()

    def __contains__(self, item_id: str) -> bool:
        """Return whether the item may be recommended."""
        return self._items.candidate(item_id) is not None

    def recommend(
        self, session: Session, k: int, *, exclude: Collection[str] = ()
    ) -> Recommendations | None:
        """Return the k best items for the session, without those in `exclude`.

        Interactions with items that are not known are passed over. Returns None when that leaves
        none: the model cannot say.
        """
        with self._lock:
            query = self._query(session)
            if query is None:
                return None
            positions, scores = self._index.search(query, k, self._items.positions(exclude))
            return self._recommendations(positions, scores)

    def score(self, session: Session, candidate_ids: Sequence[str]) -> Recommendations | None:
        """Return the score of each of these items, 0 for one that is not known.

        Returns None when the session holds no known item.
        """
        with self._lock:
            query = self._query(session)
            if query is None:
                return None
            found = [self._items.candidate(item_id) for item_id in candidate_ids]
            positions = np.array([0 if at is None else at for at in found], np.int64)
            scores = self._calibration(self._items.vectors[positions] @ query)
            return Recommendations(
                list(candidate_ids),
                [0.0 if at is None else s for at, s in zip(found, scores.tolist(), strict=True)],
                [at is not None and self._items.is_cold(at) for at in found],
            )

    def similar(self, item_id: str, k: int) -> Recommendations | None:
        """Return the k items whose vectors, biases apart, have the largest cosine with this one's.

        Returns None for an item that is not known. A score is the cosine, 0 for a negative one.
        """
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
                [self._items.is_cold(at) for at in positions[best].tolist()],
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
            restored = self._items.restore([item.item_id for item in items])
            if len(restored):
                self._index.upsert(restored, self._items.vectors[restored])

    def remove_items(self, item_ids: Collection[str]) -> None:
        """Make items no candidates any more; sessions that hold them still count them."""
        with self._lock:
            self._index.remove(self._items.withdraw(item_ids))

    def _query(self, session: Session) -> NDArray[np.float32] | None:
        """Return the query vector of the newest interactions with known items, None for none."""
        known = [
            (position, row)
            for row, item_id in enumerate(session.item_ids)
            if (position := self._items.position(item_id)) is not None
        ]
        if not known:
            return None
        positions, rows = np.array(known[-self._query_tower.session_length :]).T
        times = np.array(session.timestamps, np.float64)
        gaps = np.diff(times, prepend=times[0])[rows]
        features = interaction_features(
            gaps,
            kind_codes([session.kinds[row] for row in rows]),
            # NumPy reads None as NaN.
            np.array([session.ratings[row] for row in rows], np.float32),
        )
        return self._query_tower(self._items.vectors[positions], features)

    def _recommendations(
        self, positions: NDArray[np.int64], scores: NDArray[np.float32]
    ) -> Recommendations:
        return Recommendations(
            self._items.ids(positions),
            self._calibration(scores).tolist(),
            [self._items.is_cold(position) for position in positions.tolist()],
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
