"""The version as a SavedModel: sessions in, item ids and scores out, for TensorFlow Serving.

Three signatures, which differ in what they take; a session's interactions stand oldest first, and
`""` for an item id is padding, anywhere:

`serving_default`   `item_ids`: string `[n, any]`
`session`           `item_ids`, `kinds`: string, `ratings`: float32, `timestamps`: float64, all
                    `[n, any]`. A kind is `click`, `purchase` or `rating`, "" for the last; a rating
                    of NaN or beyond ±1,000 is none; timestamps are in seconds since anything
`query`             `sessions`: string `[n]`, each the ids of a session with newlines between them

All return `item_ids`, string `[n, k]`, best first and without the session's own, and `scores`,
float32 of the same shape, in [0, 1]; k is 100, or the number of items when there are fewer. Where
nothing is known of an interaction but its item, it counts as a rating without a value, at the time
of the one before. A session without a known item gets scores of 0; where fewer items are left than
k the list ends with "" and scores of 0.

A score is the probability that the item is among the user's next 10 events, as a positive one.
The scores are the towers' alone, with a calibration of their own: the version's is for towers and
rules together. What serving adds as it goes (items deleted or added since the training, seen items
beyond the session, rules) is not in them.

It needs nothing but TensorFlow to load: `tf.saved_model.load(path).signatures["query"]`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.events import KINDS
from models.retrieval.calibration import Calibration
from models.retrieval.features import GAP_BUCKETS
from models.training.framework import tf
from models.training.two_tower import QueryTower

LISTED = 100
"""Items in an answer."""
_NEVER = -1e30
_LARGEST_RATING = 1_000.0
"""As events have it. What lies beyond says that there is none: not every JSON writer knows NaN."""


class Variables(tf.Module):  # type: ignore[misc]
    """What a layer or a model has learnt, without the layers."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self._held = list(layer.variables)


class SessionRecommender(tf.Module):  # type: ignore[misc]
    """The query tower between two looks into the item table."""

    def __init__(
        self,
        query_tower: QueryTower,
        vectors: NDArray[np.float32],
        item_ids: Sequence[str],
        calibration: Calibration,
        candidates: int,
    ) -> None:
        """`vectors`: `[1 + ids, width]`, the unknown item's first; `candidates`: the blend's."""
        super().__init__()
        # Not the tower: Keras would have each of its layers traced, to be restored as one.
        self._query = query_tower.last
        self._learnt = Variables(query_tower)
        self._calibration = calibration
        self._candidates = candidates
        self._length = query_tower.length
        self._vectors = tf.Variable(vectors, trainable=False)
        self._ids = tf.constant(["", *item_ids])
        self._items = _table(self._ids[1:], first=1, default=0)
        self._kinds = _table(tf.constant(KINDS), first=0, default=KINDS.index("rating"))

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec([None, None], tf.string, "item_ids")]
    )
    def of_items(self, item_ids: Any) -> dict[str, Any]:
        """Return the lists for sessions of which only the items are known."""
        return self._recommend(
            item_ids,
            tf.fill(tf.shape(item_ids), ""),
            tf.fill(tf.shape(item_ids), math.nan),
            tf.zeros(tf.shape(item_ids), tf.float64),
        )

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec([None, None], tf.string, "item_ids"),
            tf.TensorSpec([None, None], tf.string, "kinds"),
            tf.TensorSpec([None, None], tf.float32, "ratings"),
            tf.TensorSpec([None, None], tf.float64, "timestamps"),
        ]
    )
    def of_sessions(
        self, item_ids: Any, kinds: Any, ratings: Any, timestamps: Any
    ) -> dict[str, Any]:
        """Return the lists for sessions as the query tower reads them."""
        return self._recommend(item_ids, kinds, ratings, timestamps)

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec([None], tf.string, "sessions")]
    )
    def of_strings(self, sessions: Any) -> dict[str, Any]:
        """Return the lists for sessions in one string each."""
        lists: dict[str, Any] = self.of_items(tf.strings.split(sessions, "\n").to_tensor(""))
        return lists

    def _recommend(
        self, item_ids: Any, kinds: Any, ratings: Any, timestamps: Any
    ) -> dict[str, Any]:
        met = self._items.lookup(item_ids)
        items, features, count = self._sessions(item_ids, met, kinds, ratings, timestamps)
        query = self._query(tf.gather(self._vectors, items), features, count)
        scores = tf.matmul(query, self._vectors, transpose_b=True)
        scores = _leave_out(scores, met)
        items_there = len(self._ids) - 1
        best, listed = tf.math.top_k(scores, k=min(max(LISTED, self._candidates), items_there))
        # As the blend has it with no share for rules: see `models.retrieval.blend`.
        normaliser = tf.reduce_logsumexp(best[:, : self._candidates], axis=1, keepdims=True)
        best, listed = best[:, :LISTED], listed[:, :LISTED]
        logits = self._calibration.slope * (best - normaliser) + self._calibration.intercept
        left = best > _NEVER
        return {
            "item_ids": tf.where(left, tf.gather(self._ids, listed), ""),
            "scores": tf.where(left & (count > 0)[:, None], tf.sigmoid(logits), 0.0),
        }

    def _sessions(
        self, item_ids: Any, met: Any, kinds: Any, ratings: Any, timestamps: Any
    ) -> tuple[Any, Any, Any]:
        """Return the query tower's input, of the newest known items: `items`, `features`, `count`.

        `met`: the items' numbers, 0 for one that is not known.
        """
        there = tf.where(item_ids != "")
        row = there[:, 0]
        times = tf.gather_nd(timestamps, there)
        # The gap to the interaction before, whether the model knows its item or not.
        is_first = tf.concat([[True], row[1:] != row[:-1]], 0)[: tf.shape(row)[0]]
        before = tf.concat([times[:1], times[:-1]], 0)
        gaps = tf.where(is_first, tf.zeros_like(times), times - before)
        items = tf.gather_nd(met, there)
        features = _features(
            self._kinds.lookup(tf.gather_nd(kinds, there)), tf.gather_nd(ratings, there), gaps
        )
        known = items > 0
        row, items, features = (tf.boolean_mask(x, known) for x in (row, items, features))
        # Right-aligned: counted from each session's newest known interaction.
        sessions = tf.shape(item_ids, tf.int64)[0]
        ends = tf.cumsum(tf.math.unsorted_segment_sum(tf.ones_like(row), row, sessions))
        back = tf.gather(ends, row) - tf.range(tf.shape(row, tf.int64)[0])
        newest = back <= self._length
        row, back, items, features = (
            tf.boolean_mask(x, newest) for x in (row, back, items, features)
        )
        place = tf.stack([row, self._length - back], axis=1)
        shape = tf.stack([sessions, tf.constant(self._length, tf.int64)])
        padded = tf.scatter_nd(place, items, shape)
        return (
            tf.reshape(padded, [-1, self._length]),
            tf.reshape(
                tf.scatter_nd(place, features, tf.concat([shape, [features.shape[1]]], 0)),
                [-1, self._length, features.shape[1]],
            ),
            tf.reduce_sum(tf.cast(padded > 0, tf.int32), axis=1),
        )


def _table(keys: Any, first: int, default: int) -> Any:
    """Return a table from each key to its place, counted from `first`."""
    values = tf.range(first, first + len(keys), dtype=tf.int32)
    return tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(keys, values), default_value=default
    )


def _features(kinds: Any, ratings: Any, gaps: Any) -> Any:
    """Return what `models.retrieval.features.interaction_features` returns, as TensorFlow's ops."""
    # False for NaN, too.
    rated = tf.abs(ratings) <= _LARGEST_RATING
    rating = tf.where(rated, ratings, tf.zeros_like(ratings))
    steps = tf.math.log1p(tf.maximum(gaps, 0.0)) * (1.0 / math.log(4.0))
    bucket = tf.minimum(tf.cast(steps, tf.int32), GAP_BUCKETS - 1)
    return tf.concat(
        [
            tf.one_hot(kinds, len(KINDS)),
            tf.cast(rated, tf.float32)[:, None],
            rating[:, None],
            tf.one_hot(bucket, GAP_BUCKETS),
        ],
        axis=1,
    )


def _leave_out(scores: Any, met: Any) -> Any:
    """Return the scores with those of the items met, and of item 0, too low to be listed."""
    sessions = tf.shape(met)[0]
    row = tf.tile(tf.range(sessions)[:, None], [1, tf.shape(met)[1]])
    pairs = tf.reshape(tf.stack([row, met], axis=2), [-1, 2])
    unknown = tf.stack([tf.range(sessions), tf.zeros([sessions], tf.int32)], axis=1)
    pairs = tf.concat([pairs, unknown], axis=0)
    return tf.tensor_scatter_nd_update(scores, pairs, tf.fill(tf.shape(pairs)[:1], _NEVER))


def save_model(module: SessionRecommender, folder: Path) -> None:
    """Write the SavedModel into this folder."""
    signatures = {
        "serving_default": module.of_items,
        "session": module.of_sessions,
        "query": module.of_strings,
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)
