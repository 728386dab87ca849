"""The version as a SavedModel: ids in, ids out, for TensorFlow Serving.

`serving_default` takes `item_ids`, string `[sessions, any]`: each session's items, oldest first, ""
for padding anywhere. It returns `item_ids`, string `[sessions, k]`, best first and without the
session's own, and `scores`, float32 of the same shape, in [0, 1]; k is 100, or the number of items
when there are fewer. A session without a known item gets scores of 0. Every interaction counts as a
rating without a value; kinds, ratings and times are for `models.retrieval` to consider.

It needs nothing but TensorFlow to load: `tf.saved_model.load(path).signatures["serving_default"]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.events import KINDS
from models.retrieval.calibration import Calibration
from models.retrieval.features import interaction_features
from models.training.evaluation import item_vectors
from models.training.framework import tf
from models.training.two_tower import SessionModel

LISTED = 100
"""Items in an answer."""
_NEVER = -1e30


class SessionRecommender(tf.Module):  # type: ignore[misc]
    """The query tower between two looks into the item table."""

    def __init__(
        self, model: SessionModel, item_ids: Sequence[str], calibration: Calibration, length: int
    ) -> None:
        """`item_ids`: of items 1, 2, … of the model; `length`: the query tower's."""
        super().__init__()
        self._query_tower = model.query_tower
        self._calibration = calibration
        self._length = length
        self._vectors = tf.Variable(item_vectors(model), trainable=False)
        self._ids = tf.constant(["", *item_ids])
        self._items = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                self._ids[1:], tf.range(1, len(item_ids) + 1, dtype=tf.int32)
            ),
            default_value=0,
        )
        neutral = interaction_features(
            np.zeros(1), np.array([KINDS.index("rating")], np.int8), np.full(1, np.nan, np.float32)
        )
        self._features = tf.constant(np.tile(neutral, (length, 1)))

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec([None, None], tf.string, "item_ids")]
    )
    def recommend(self, item_ids: Any) -> dict[str, Any]:
        """Return the lists, as the module's docstring says."""
        items, length = self._sessions(item_ids)
        sessions = tf.shape(items)[0]
        features = tf.tile(self._features[None], [sessions, 1, 1])
        vectors = tf.gather(self._vectors, items)
        query = self._query_tower.last(vectors, features, tf.minimum(length, self._length))
        scores = tf.matmul(query, self._vectors, transpose_b=True)
        met = self._items.lookup(item_ids)
        row = tf.tile(tf.range(sessions)[:, None], [1, tf.shape(met)[1]])
        # Unknown ids and padding are item 0, which is not to be listed either.
        pairs = tf.concat(
            [
                tf.reshape(tf.stack([row, met], axis=2), [-1, 2]),
                tf.stack([tf.range(sessions), tf.zeros_like(length)], axis=1),
            ],
            axis=0,
        )
        never = tf.fill(tf.shape(pairs)[:1], _NEVER)
        scores = tf.tensor_scatter_nd_update(scores, pairs, never)
        best, listed = tf.math.top_k(scores, k=min(LISTED, len(self._ids) - 1))
        probability = tf.sigmoid(self._calibration.slope * best + self._calibration.intercept)
        known = (length > 0)[:, None] & (best > _NEVER)
        return {
            "item_ids": tf.gather(self._ids, listed),
            "scores": tf.where(known, probability, 0.0),
        }

    def _sessions(self, item_ids: Any) -> tuple[Any, Any]:
        """Return the newest known items, `[sessions, length]`, left-padded, and how many."""
        items = tf.RaggedTensor.from_tensor(self._items.lookup(item_ids))
        items = tf.ragged.boolean_mask(items, items > 0)[:, -self._length :]
        count = tf.cast(items.row_lengths(), tf.int32)
        items = tf.reverse_sequence(items.to_tensor(shape=[None, self._length]), count, seq_axis=1)
        return tf.reverse(items, axis=[1]), count


def save_model(
    model: SessionModel, item_ids: Sequence[str], calibration: Calibration, folder: Path
) -> None:
    """Write the SavedModel into this folder."""
    module = SessionRecommender(model, item_ids, calibration, model.query_tower.length)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.recommend})
