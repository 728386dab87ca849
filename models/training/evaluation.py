"""How good the recommendations are on events that come after those trained on.

The protocol is prequential: before each held-out event the user's session is all that came before
it, those held-out events included that have happened by then; ten items are recommended that the
user has not met; a hit is the coming item among them. A user without a session gets the most
popular items, as when serving.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.training.dataset import Histories, sessions_before
from models.training.framework import tf, tfrs
from models.training.parameters import Parameters
from models.training.two_tower import SessionModel

K = 10
"""Length of the lists measured, and number of coming events that the calibration looks at."""

_ROWS = 256
"""Sessions in one call of the query tower."""
_SCORES_AT_ONCE = 1 << 23
"""Bounds the matrix of scores (32 MiB): fewer sessions at once when there are more items."""
_SEEN_LIMIT = 5_000
"""Newest items met by a user that are left out of the lists."""
_NEVER = np.float32(-1e30)
"""Score of an item that is not to be recommended; finite, for TFRS subtracts scores."""


@dataclass(frozen=True)
class Evaluation:
    """What the lists of n held-out events came to."""

    events: int
    hr: float
    """Share of events whose item was in the list of 10."""
    ndcg: float
    """Mean of 1 / log2(1 + rank) of the coming item, 0 when it is not in the list."""
    popularity_hr: float
    """HR@10 of the most popular items that the user has not met, on the same events."""
    scores: NDArray[np.float32]
    """`[p]`: the score of each item listed for an event whose user had a session."""
    came_true: NDArray[np.bool_]
    """`[p]`: whether that item was among the user's next 10 events, as a positive one."""


class UnseenTopK(tfrs.layers.factorized_top_k.TopK):  # type: ignore[misc]
    """TFRS's exact top k of all items but those that each user has met."""

    def __init__(self, vectors: Any) -> None:
        """`vectors`: `[items, width]`; an item's id is its row."""
        super().__init__(k=K)
        self._vectors = vectors
        self._seen = tf.zeros([0, 2], tf.int64)

    def leave_out(self, seen: NDArray[np.int64]) -> None:
        """Set what the next queries leave out: `[p, 2]` pairs of a query's row and an item."""
        self._seen = tf.constant(seen, tf.int64)

    def call(self, queries: Any, k: int | None = None) -> tuple[Any, Any]:
        """Return `[n, k]` scores and item ids, best first, of `[n, width]` queries."""
        scores = tf.matmul(queries, self._vectors, transpose_b=True)
        never = tf.fill(tf.shape(self._seen)[:1], _NEVER)
        scores = tf.tensor_scatter_nd_update(scores, self._seen, never)
        best: tuple[Any, Any] = tf.math.top_k(scores, k=min(k or K, int(scores.shape[1])))
        return best

    def index(self, candidates: Any, identifiers: Any = None) -> UnseenTopK:
        """Index `[items, width]` vectors, the ids being their rows."""
        self._vectors = candidates
        return self

    def is_exact(self) -> bool:
        """Return True: all scores are computed."""
        return True


class Evaluator:
    """Evaluates models on the same held-out events."""

    def __init__(
        self,
        data: Histories,
        positions: NDArray[np.int64],
        popularity: NDArray[np.float32],
        parameters: Parameters,
    ) -> None:
        """`positions`: of the events to predict; `popularity`: `[items]`, the larger the better."""
        self._data = data
        self._positions = positions
        self._popularity = popularity
        self._length = parameters.session_length

    def __len__(self) -> int:
        return len(self._positions)

    def __call__(self, model: SessionModel) -> Evaluation:
        """Measure the model. All figures are 0 when there are no events to predict."""
        vectors = item_vectors(model)
        # One coordinate more is popularity: a query of that alone lists the most popular items.
        extended = np.column_stack([vectors, self._popularity])
        popular = np.zeros(extended.shape[1], np.float32)
        popular[-1] = 1.0
        top = UnseenTopK(tf.constant(extended))
        metric, baseline = (
            tfrs.metrics.FactorizedTopK(top, ks=[K], name=name) for name in ("model", "popularity")
        )
        parts = []
        for positions in self._pieces(len(extended)):
            queries = self._queries(model, vectors, positions)
            none_yet = self._data.first[positions] == positions
            queries[none_yet] = popular
            wanted = self._data.item[positions]
            top.leave_out(self._seen(positions))
            metric.update_state(queries, extended[wanted], true_candidate_ids=wanted)
            baseline.update_state(
                np.tile(popular, (len(positions), 1)), extended[wanted], true_candidate_ids=wanted
            )
            scores, listed = (part.numpy() for part in top(tf.constant(queries)))
            true = self._came_true(positions, listed)
            # A user who has met nearly all items gets a shorter list than its ten places.
            scored = ~none_yet[:, None] & (scores > _NEVER)
            parts.append((_gain(listed, wanted), scores[scored], true[scored]))
        gains, scores, true = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Evaluation(
            events=len(self._positions),
            hr=float(metric.result()[0]),
            ndcg=float(gains.mean()) if len(gains) else 0.0,
            popularity_hr=float(baseline.result()[0]),
            scores=scores,
            came_true=true,
        )

    def _pieces(self, items: int) -> list[NDArray[np.int64]]:
        rows = min(4096, max(1, _SCORES_AT_ONCE // items))
        return np.array_split(self._positions, range(rows, len(self._positions), rows))

    def _queries(
        self, model: SessionModel, vectors: NDArray[np.float32], positions: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return `[n, width + 1]`: the sessions' query vectors, blind to popularity."""
        queries = np.zeros((len(positions), vectors.shape[1] + 1), np.float32)
        for at in range(0, len(positions), _ROWS):
            # A full batch each time, so that one compiled graph serves them all.
            batch = np.resize(positions[at : at + _ROWS], _ROWS)
            session = sessions_before(self._data, batch, self._length)
            found = model.queries(vectors[session["items"]], session["features"], session["length"])
            rows = queries[at : at + _ROWS]
            rows[:, :-1] = found.numpy()[: len(rows)]
        return queries

    def _seen(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return pairs of a row and an item not to list: those met before, and the unknown one."""
        met = np.minimum(positions - self._data.first[positions], _SEEN_LIMIT)
        rows = np.repeat(np.arange(len(positions)), met)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(met) - met, met)
        seen = np.column_stack([rows, self._data.item[positions[rows] - 1 - within]])
        unknown = np.column_stack([np.arange(len(positions)), np.zeros_like(positions)])
        return np.concatenate([seen, unknown])

    def _came_true(
        self, positions: NDArray[np.int64], listed: NDArray[np.int32]
    ) -> NDArray[np.bool_]:
        coming = positions[:, None] + np.arange(K)
        at = np.minimum(coming, len(self._data) - 1)
        same_user = self._data.first[at] == self._data.first[positions][:, None]
        good = (coming < len(self._data)) & same_user & self._data.is_positive[at]
        item = np.where(good, self._data.item[at], -1)
        return np.asarray((listed[:, :, None] == item[:, None, :]).any(axis=2))


def held_out(data: Histories, split: int, at_most: int) -> NDArray[np.int64]:
    """Return the positions of events to predict from the `split`-th of the log on.

    Those are targets whose item is new to their user; at most so many, evenly spaced in time.
    """
    positions = np.flatnonzero(data.is_target & data.is_new & (data.event >= split))
    positions = positions[np.argsort(data.event[positions])]
    spaced = np.linspace(0, len(positions) - 1, min(at_most, len(positions)))
    return positions[spaced.astype(np.int64)]


def item_vectors(model: SessionModel) -> NDArray[np.float32]:
    """Return `[items, width]`, the unknown item's first."""
    parts = [
        model.candidate_tower(tf.range(at, min(at + 65_536, model.items))).numpy()
        for at in range(0, model.items, 65_536)
    ]
    return np.concatenate(parts)


def _gain(listed: NDArray[np.int32], wanted: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return NDCG@10 of each list (Järvelin & Kekäläinen, 2002) with one relevant item."""
    hits = listed == wanted[:, None]
    return np.asarray((hits / np.log2(np.arange(2, listed.shape[1] + 2))).sum(axis=1))
