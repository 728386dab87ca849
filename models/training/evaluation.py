"""How good the recommendations are on events that come after those trained on.

The protocol is prequential: before each event to predict, the user's session is all that came
before it, and rules have been counted up to there. All items are ranked, without sampling; equal
scores count against the model. A user without a session gets the most popular items, as when
serving.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.retrieval.blend import Blend
from models.retrieval.ruled import LiveRules
from models.retrieval.rules import STEPS, Rules, count_rules
from models.training.dataset import Histories, sessions_before
from models.training.framework import tf
from models.training.metrics import Ranks, ranks
from models.training.parameters import Parameters
from models.training.session_model import SessionModel

K = 10
"""Length of the lists, and number of coming events that the calibration looks at."""

_ROWS = 256
"""Sessions in one call of the query tower, and events ranked at once at the most."""
_SCORES_AT_ONCE = 1 << 23
"""Bounds the matrix of scores (32 MiB): fewer events at once when there are more items."""
SEEN_LIMIT = 5_000
"""Newest items met by a user that are left out of the lists."""


@dataclass(frozen=True)
class Lists:
    """What was recommended before n events: the scores of the listed items, and what came true."""

    scores: NDArray[np.float32]
    """`[p]`: the blended log score of each item listed for an event whose user had a session."""
    came_true: NDArray[np.bool_]
    """`[p]`: whether that item was among the user's next 10 events, as a positive one."""


@dataclass(frozen=True)
class _Chunk:
    positions: NDArray[np.int64]
    wanted: NDArray[np.int32]
    scores: NDArray[np.float32]
    """`[events, items]`: dot products, -inf for what is not to be recommended."""


class Evaluator:
    """Ranks the items that came next, by different models, on the same events."""

    def __init__(
        self,
        data: Histories,
        positions: NDArray[np.int64],
        items: int,
        parameters: Parameters,
        *,
        unseen: bool = True,
        seen_limit: int = SEEN_LIMIT,
    ) -> None:
        """`positions`: of the events to predict, in time; `items`: with the unknown one.

        `unseen`: items that a user has met, the newest `seen_limit`, are not recommended again.
        """
        self._data = data
        self._positions = positions
        self._items = items
        self._length = parameters.session_length
        self._seen_limit = seen_limit if unseen else 0

    def __len__(self) -> int:
        return len(self._positions)

    def towers(self, model: SessionModel) -> Ranks:
        """Return `[n]`: the ranks that the towers alone give the items that came, from 1."""
        return _joined(ranks(chunk.scores, chunk.wanted) for chunk in self._chunks(model))

    def popularity(self, counts: NDArray[np.float32]) -> Ranks:
        """Return `[n]`: the ranks by popularity; `counts`: `[items]`."""
        found = []
        for positions in self._pieces():
            scores = np.tile(counts, (len(positions), 1))
            self._mask(scores, positions)
            found.append(ranks(scores, self._data.item[positions]))
        return _joined(found)

    def blended(
        self, model: SessionModel, rules: RulesSoFar, blends: Sequence[Blend]
    ) -> list[Ranks]:
        """Return for each blend, `[n]`, the ranks of towers and rules together.

        The blends differ in their share alone.
        """
        found: list[list[Ranks]] = [[] for _ in blends]
        for chunk, mixtures in self._mixtures(model, rules, blends):
            for of_blend, scores in zip(found, mixtures, strict=True):
                of_blend.append(ranks(scores, chunk.wanted))
        return [_joined(of_blend) for of_blend in found]

    def lists(self, model: SessionModel, rules: RulesSoFar, blends: Sequence[Blend]) -> list[Lists]:
        """Return for each blend what is listed for users with a session, and what came true.

        The blends differ in their share alone.
        """
        found: list[list[Lists]] = [[] for _ in blends]
        for chunk, mixtures in self._mixtures(model, rules, blends):
            for of_blend, scores in zip(found, mixtures, strict=True):
                of_blend.append(self._listed(chunk, scores))
        return [_all_lists(of_blend) for of_blend in found]

    def _mixtures(
        self, model: SessionModel, rules: RulesSoFar, blends: Sequence[Blend]
    ) -> Iterator[tuple[_Chunk, Iterator[NDArray[np.float32]]]]:
        """Yield each chunk with its mixtures, one for each blend, made as they are asked for."""
        for chunk in self._chunks(model):
            towers = _probabilities(chunk.scores, blends[0])
            follows = self._rules(chunk, rules, blends[0])
            yield chunk, (_mixed(chunk, towers, follows, blend) for blend in blends)

    def _listed(self, chunk: _Chunk, scores: NDArray[np.float32]) -> Lists:
        """`scores`: `[events, items]` probabilities."""
        k = min(K, self._items - 1)
        listed = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        found = np.take_along_axis(scores, listed, axis=1)
        # A user who has met nearly all items gets a shorter list than its ten places.
        known = (self._data.first[chunk.positions] < chunk.positions)[:, None] & (found > 0)
        true = self._came_true(chunk.positions, listed)
        return Lists(np.log(found[known]).astype(np.float32), true[known])

    def _chunks(self, model: SessionModel) -> Iterator[_Chunk]:
        vectors = item_vectors(model)
        for positions in self._pieces():
            queries = session_queries(model, vectors, self._data, positions, self._length)
            scores = tf.matmul(queries, vectors, transpose_b=True).numpy()
            self._mask(scores, positions)
            yield _Chunk(positions, self._data.item[positions], scores)

    def _pieces(self) -> list[NDArray[np.int64]]:
        rows = min(_ROWS, max(1, _SCORES_AT_ONCE // self._items))
        return [self._positions[at : at + rows] for at in range(0, len(self._positions), rows)]

    def _mask(self, scores: NDArray[np.float32], positions: NDArray[np.int64]) -> None:
        """Put the unknown item, and the items met where they are not wanted, out of the running."""
        scores[:, 0] = -np.inf
        met = np.minimum(positions - self._data.first[positions], self._seen_limit)
        rows = np.repeat(np.arange(len(positions)), met)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(met) - met, met)
        scores[rows, self._data.item[positions[rows] - 1 - within]] = -np.inf

    def _rules(self, chunk: _Chunk, rules: RulesSoFar, blend: Blend) -> NDArray[np.float32]:
        """Return `[events, items]`: how probable rules alone find each item."""
        rules.count_until(self._data.event[chunk.positions].min())
        found = np.zeros(chunk.scores.shape, np.float32)
        recent = []
        for position in chunk.positions.tolist():
            begin = max(int(self._data.first[position]), position - blend.last)
            recent.append(self._data.item[begin:position][::-1].astype(np.int64) - 1)
        ruled = rules.live.candidates(recent, blend.decay, blend.smoothing)
        for row, (positions, probabilities) in zip(found, ruled, strict=True):
            row[positions + 1] = probabilities
        return found

    def _came_true(
        self, positions: NDArray[np.int64], listed: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        coming = positions[:, None] + np.arange(K)
        at = np.minimum(coming, len(self._data) - 1)
        same_user = self._data.first[at] == self._data.first[positions][:, None]
        good = (coming < len(self._data)) & same_user & self._data.is_positive[at]
        item = np.where(good, self._data.item[at], -1)
        return np.asarray((listed[:, :, None] == item[:, None, :]).any(axis=2))


class RulesSoFar:
    """Rules counted on the first events of a log, and brought up to date as it goes on."""

    def __init__(self, data: Histories, base: Rules, counted: int) -> None:
        """`base` was counted on the first `counted` events of the log."""
        self.live = LiveRules(base)
        self._data = data
        self._counted = counted
        self._position_of = np.empty(len(data), np.int64)
        self._position_of[data.event] = np.arange(len(data))

    def count_until(self, event: int) -> None:
        """Count the events before this one of the log."""
        if event <= self._counted:
            return
        position = self._position_of[self._counted : event]
        before = position[:, None] - np.arange(1, STEPS + 1)
        same_user = before >= self._data.first[position][:, None]
        previous = np.where(same_user, self._data.item[np.maximum(before, 0)] - 1, -1)
        self.live.add(previous.astype(np.int64), self._data.item[position].astype(np.int64) - 1)
        self._counted = event


def held_out(data: Histories, split: int) -> NDArray[np.int64]:
    """Return the positions of events to predict from the `split`-th of the log on, in time.

    Those are targets whose item is new to their user.
    """
    positions = np.flatnonzero(data.is_target & data.is_new & (data.event >= split))
    return positions[np.argsort(data.event[positions])]


def spaced(positions: NDArray[np.int64], at_most: int) -> NDArray[np.int64]:
    """Return at most so many of the positions, evenly spaced."""
    chosen = np.linspace(0, len(positions) - 1, min(at_most, len(positions)))
    return positions[chosen.astype(np.int64)]


def rules_of(data: Histories, items: int) -> Rules:
    """Return the rules counted on these histories; `items`: with the unknown one."""
    return count_rules(data.item - 1, data.first, items - 1)


def item_vectors(model: SessionModel) -> NDArray[np.float32]:
    """Return `[items, width]`, the unknown item's first."""
    parts = [
        model.candidate_tower(tf.range(at, min(at + 65_536, model.items))).numpy()
        for at in range(0, model.items, 65_536)
    ]
    return np.concatenate(parts)


def session_queries(
    model: SessionModel,
    vectors: NDArray[np.float32],
    data: Histories,
    positions: NDArray[np.int64],
    length: int,
) -> NDArray[np.float32]:
    """Return `[n, width]`: the query vectors of the sessions that ended before these positions."""
    queries = np.zeros((len(positions), vectors.shape[1]), np.float32)
    for at in range(0, len(positions), _ROWS):
        # A full batch each time, so that one compiled graph serves them all.
        batch = np.resize(positions[at : at + _ROWS], _ROWS)
        session = sessions_before(data, batch, length)
        found = model.queries(vectors[session["items"]], session["features"], session["length"])
        queries[at : at + _ROWS] = found.numpy()[: len(queries) - at]
    return queries


def _joined(parts: Iterable[Ranks]) -> Ranks:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _all_lists(parts: list[Lists]) -> Lists:
    return Lists(
        np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)]),
        np.concatenate([np.zeros(0, np.bool_), *(part.came_true for part in parts)]),
    )


def _probabilities(scores: NDArray[np.float32], blend: Blend) -> NDArray[np.float32]:
    """Return `[events, items]`: the softmax, normalised over the best `candidates` of each row."""
    best = scores
    if scores.shape[1] > blend.candidates:
        best = -np.partition(-scores, blend.candidates - 1, axis=1)[:, : blend.candidates]
    highest = best.max(axis=1, keepdims=True)
    total = np.exp(best - highest).sum(axis=1, keepdims=True)
    return np.asarray(np.exp(scores - highest) / total)


def _mixed(
    chunk: _Chunk, towers: NDArray[np.float32], follows: NDArray[np.float32], blend: Blend
) -> NDArray[np.float32]:
    """Return `[events, items]`: `models.retrieval.blend`'s mixture, of which logs are no use."""
    scores = (1 - blend.rules) * towers + blend.rules * follows
    scores[chunk.scores == -np.inf] = -np.inf
    return np.asarray(scores)
