"""The two-tower model: a candidate tower over items, a query tower over sessions of item vectors.

The query tower is SASRec's transformer (Kang & McAuley, 2018) with pre-normalisation. It reads the
candidate tower's own vectors, so it holds no embedding table and understands items that came after
the training. A vector's last coordinate is the item's bias, against which a query has a constant 1;
so a score is a dot product and any index of dot products can serve.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.retrieval.features import BUCKETS
from models.training.framework import keras, tf

_EMBEDDING_STDDEV = 0.02
_RATING_BOUND = 3.0
"""Standard deviations from the mean to which a rating is cut."""


class CandidateTower(keras.Model):  # type: ignore[misc]
    """An item's vector: its id's embedding plus the mean of its features' (LightFM, Kula 2015).

    Id 0 is that of every cold item: it is learnt from the items whose id is dropped.
    """

    def __init__(
        self,
        features: NDArray[np.int32],
        bias: NDArray[np.float32],
        width: int,
        id_dropout: float,
        chance: Any,
        normalised: bool = False,
    ) -> None:
        """`features`: `[items, SLOTS]` buckets, 0 for none; `bias`: `[items]` to begin with.

        `chance`: a `tf.random.Generator`; `normalised`: vectors, biases apart, have length 1.
        """
        super().__init__(name="candidate_tower")
        self._normalised = normalised
        self._features = tf.constant(features)
        # Gathering features that nobody has would cost more than all the rest.
        self._known_by_features = bool(features.any())
        self._has_features = tf.constant(features.any(axis=1))
        item, slot = np.nonzero(features)
        self._pairs = item.astype(np.int32), features[item, slot]
        self._shares = np.float32(1) / np.bincount(item, minlength=1)[item, None].astype(np.float32)
        self._id_dropout = id_dropout
        self._chance = chance
        normal = keras.initializers.RandomNormal(stddev=_EMBEDDING_STDDEV)
        self.ids = self.add_weight(name="ids", shape=(len(features), width), initializer=normal)
        self.ids.assign(tf.concat([self.ids[:, :-1], bias[:, None]], axis=1))
        self.buckets = self.add_weight(
            name="buckets",
            shape=(BUCKETS, width),
            initializer="zeros",
            trainable=self._known_by_features,
        )

    def call(self, items: Any, training: bool = False) -> Any:
        """Return `[n, width]` vectors of `[n]` items."""
        ids = self._drop_ids(items, training)
        vectors = tf.gather(self.ids, ids)
        if self._known_by_features:
            vectors += self.content(tf.gather(self._features, items))
        return self._finished(vectors)

    def catalogue(self, training: bool = False) -> Any:
        """Return `[items, width]` vectors of all items, sooner than `call` for it skips padding."""
        items = len(self._features)
        if not self._known_by_features:
            return self._finished(_with_dense_gradient(self.ids))
        item, bucket = self._pairs
        content = tf.gather(_with_dense_gradient(self.buckets), bucket) * self._shares
        content = tf.math.unsorted_segment_sum(content, item, items)
        ids = self._drop_ids(tf.range(items), training)
        return self._finished(tf.gather(_with_dense_gradient(self.ids), ids) + content)

    def content(self, features: Any) -> Any:
        """Return `[n, width]`: the mean embedding of `[n, SLOTS]` features, zeros for none."""
        there = tf.cast(features > 0, tf.float32)
        total = tf.einsum("nsw,ns->nw", tf.gather(self.buckets, features), there)
        return tf.math.divide_no_nan(total, tf.reduce_sum(there, axis=1, keepdims=True))

    def cold(self, features: Any) -> Any:
        """Return `[n, width]` vectors of items known by their features alone."""
        return self._finished(self.ids[0] + self.content(features))

    def _finished(self, vectors: Any) -> Any:
        if not self._normalised:
            return vectors
        return tf.concat([tf.math.l2_normalize(vectors[:, :-1], 1), vectors[:, -1:]], axis=1)

    def _drop_ids(self, items: Any, training: bool) -> Any:
        if not (training and self._id_dropout):
            return items
        dropped = self._chance.uniform(tf.shape(items)) < self._id_dropout
        return tf.where(dropped & tf.gather(self._has_features, items), 0, items)


class Dropout(keras.layers.Layer):  # type: ignore[misc]
    """Dropout (Srivastava et al., 2014) whose chances come from a generator that is given."""

    def __init__(self, rate: float, chance: Any) -> None:
        super().__init__()
        self._rate = rate
        self._chance = chance

    def call(self, x: Any, training: bool = False) -> Any:
        """Return x, when training with a share of its values 0 and the others larger."""
        if not (training and self._rate):
            return x
        kept = self._chance.uniform(tf.shape(x)) >= self._rate
        return tf.where(kept, x / (1 - self._rate), 0.0)


def _with_dense_gradient(variable: Any) -> Any:
    """Return the variable's value; where most rows are read, Adam is slower on sparse gradients."""
    return variable * 1.0


class Block(keras.layers.Layer):  # type: ignore[misc]
    """Causal self-attention and a feed-forward layer, each normalised first and added.

    Attention sees how many interactions lie between two, not where in the session they stand (a
    bias by distance and head as in T5, Raffel et al. 2020): windows may be cut and packed anywhere.
    """

    def __init__(self, width: int, length: int, heads: int, dropout: Dropout) -> None:
        super().__init__()
        self._heads = heads
        self._scale = (width // heads) ** -0.5
        steps = np.arange(length)
        self._distance = np.maximum(steps[:, None] - steps, 0)
        self.query, self.key, self.value, self.out = (keras.layers.Dense(width) for _ in range(4))
        self.inner = keras.layers.Dense(2 * width, activation="gelu")
        self.outer = keras.layers.Dense(width)
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-6) for _ in range(2)]
        self.dropout = dropout
        self.by_distance = self.add_weight(
            name="by_distance", shape=(heads, length), initializer="zeros"
        )

    def call(self, x: Any, allowed: Any, training: bool = False, first: int = 0) -> Any:
        """Return `[b, length - first, width]`, of the positions from `first` on.

        `allowed`: bool `[b, 1, length, length]`, who sees whom.
        """
        hidden = self.norms[0](x)
        query = self._split(self.query(hidden[:, first:]))
        key, value = (self._split(layer(hidden)) for layer in (self.key, self.value))
        scores = tf.matmul(query, key, transpose_b=True) * self._scale
        scores += tf.gather(self.by_distance, self._distance[first:], axis=1)
        scores = tf.where(allowed[:, :, first:], scores, -1e9)
        weights = self.dropout(tf.nn.softmax(scores), training=training)
        attended = self.out(self._joined(tf.matmul(weights, value)))
        x = x[:, first:] + self.dropout(attended, training=training)
        forward = self.outer(self.inner(self.norms[1](x)))
        return x + self.dropout(forward, training=training)

    def _split(self, x: Any) -> Any:
        """`[b, length, width]` as `[b, heads, length, width / heads]`."""
        if self._heads == 1:
            return x[:, None]
        length, width = x.shape[1:]
        return tf.transpose(
            tf.reshape(x, [-1, length, self._heads, width // self._heads]), [0, 2, 1, 3]
        )

    def _joined(self, x: Any) -> Any:
        if self._heads == 1:
            return x[:, 0]
        _, heads, length, width = x.shape
        return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [-1, length, heads * width])


class QueryTower(keras.Model):  # type: ignore[misc]
    """Sessions of item vectors and features in, a query vector at every position out."""

    def __init__(
        self,
        width: int,
        length: int,
        blocks: int,
        heads: int,
        dropout: float,
        chance: Any,
        temperature: float,
        rating_column: int,
        rating_mean: float,
        rating_stddev: float,
    ) -> None:
        """`chance`: a `tf.random.Generator`.

        `temperature`: by which a query of length 1 is divided; 0 leaves queries as they are.
        """
        super().__init__(name="query_tower")
        steps = np.arange(length)
        self._causal = steps[:, None] >= steps
        self.length = length
        self._scale = width**0.5
        self._temperature = temperature
        self.rating = (rating_mean, rating_stddev)
        self._rating_column = rating_column
        self.side = keras.layers.Dense(width)
        self.dropout = Dropout(dropout, chance)
        self.blocks = [Block(width, length, heads, self.dropout) for _ in range(blocks)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)

    def call(
        self, vectors: Any, features: Any, segment: Any, training: bool = False, first: int = 0
    ) -> Any:
        """Return `[b, length - first, width]` query vectors, each of its segment up to there.

        They are those of the positions from `first` on; what the others alone need is not computed.

        `vectors`: `[b, length, width]`; `features`: `[b, length, INTERACTION_FEATURES]`;
        `segment`: `[b, length]` numbers the sessions that share a row, and what is padding.
        """
        same = segment[:, None, :, None] == segment[:, None, None, :]
        allowed = same & self._causal
        x = vectors[:, :, :-1] * self._scale
        x = tf.pad(x, [[0, 0], [0, 0], [0, 1]])
        x += self.side(self._standardised(features))
        x = self.dropout(x, training=training)
        for block in self.blocks[:-1]:
            x = block(x, allowed, training=training)
        x = self.blocks[-1](x, allowed, training=training, first=first)
        query = self.norm(x)[:, :, :-1]
        if self._temperature:
            query = tf.math.l2_normalize(query, 2) / self._temperature
        return tf.concat([query, tf.ones_like(query[:, :, :1])], axis=2)

    def last(self, vectors: Any, features: Any, length: Any) -> Any:
        """Return `[b, width]`: the query vectors of left-padded sessions.

        `length`: `[b]`, how many interactions there are.
        """
        segment = tf.cast(np.arange(self.length) >= self.length - length[:, None], tf.int32)
        return self(vectors, features, segment, first=self.length - 1)[:, -1]

    def _standardised(self, features: Any) -> Any:
        """Put ratings, whatever their scale, at mean 0 and deviation 1; none counts as the mean."""
        column, (mean, stddev) = self._rating_column, self.rating
        rated = features[:, :, column - 1 : column]
        rating = (features[:, :, column : column + 1] - mean) / stddev
        rating = tf.clip_by_value(rating, -_RATING_BOUND, _RATING_BOUND) * rated
        return tf.concat([features[:, :, :column], rating, features[:, :, column + 1 :]], axis=2)
