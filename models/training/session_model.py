"""Both towers, and what they are fitted to: the next items, and what users chose from lists."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.training.choice_loss import choice_loss
from models.training.framework import keras, tf, tfrs
from models.training.two_tower import CandidateTower, QueryTower

_CHOICES = ("acted", "passed")
"""What a batch may hold beside the rest, for `choice_loss`."""


class CatalogueRetrieval(tfrs.tasks.Retrieval):  # type: ignore[misc]
    """TFRS's retrieval task with one set of candidates for all queries, instead of the batch's own.

    In-batch candidates are drawn by popularity, and neighbouring positions of a session share
    theirs; against the whole catalogue, or a uniform sample of it, the softmax is the one wanted.
    """

    def call(
        self,
        query_embeddings: Any,
        candidate_embeddings: Any,
        target_embeddings: Any,
        sample_weight: Any,
        sampled_share: float,
    ) -> Any:
        """Return the mean cross-entropy.

        `query_embeddings`: `[n, width]`; `candidate_embeddings`: `[m, width]`;
        `target_embeddings`: `[n, future, width]`; `sample_weight`: `[n, future]`.
        `sampled_share`: m over the number of items. At 1 the candidates are all of them. Below,
        they are negatives, whose logits get the logQ correction (Yi et al., 2019); that a target
        is among them now and then is let be.
        """
        logits = tf.matmul(query_embeddings, candidate_embeddings, transpose_b=True)
        positive = tf.einsum("nw,nfw->nf", query_embeddings, target_embeddings)
        total = tf.reduce_logsumexp(logits, axis=1)[:, None]
        if sampled_share < 1:
            total -= float(np.log(sampled_share))
            total = tf.reduce_logsumexp(tf.stack([total + tf.zeros_like(positive), positive]), 0)
        loss = tf.reduce_sum(sample_weight * (total - positive))
        return tf.math.divide_no_nan(loss, tf.reduce_sum(sample_weight))


class SessionModel(tfrs.Model):  # type: ignore[misc]
    """Both towers and their task."""

    def __init__(
        self,
        candidate_tower: CandidateTower,
        query_tower: QueryTower,
        items: int,
        negatives: int,
        chance: Any,
        feedback_weight: float = 0.0,
    ) -> None:
        """`items`: with the unknown one; `negatives`: 0 for the whole catalogue.

        `feedback_weight`: in the loss, of the choices that batches hold.

        `chance`: the `tf.random.Generator` that the towers were given, too.
        """
        super().__init__()
        self.candidate_tower = candidate_tower
        self.query_tower = query_tower
        self.task = CatalogueRetrieval()
        self.items = items
        self._negatives = negatives
        self._feedback_weight = feedback_weight
        self.chance = chance
        # TFRS reports the last batch's loss alone; Keras resets this at each epoch.
        self.mean_loss = keras.metrics.Mean("mean_loss")

    def compute_loss(self, inputs: Any, training: bool = False) -> Any:
        """Return the loss of one batch of `Inputs.epoch`."""
        loss = self._loss(inputs, training)
        self.mean_loss.update_state(loss)
        return loss

    def train_step(self, inputs: Any) -> dict[str, Any]:
        """Make one step; of several replicas each adds the gradient of its part of the batch."""
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync == 1:
            step: dict[str, Any] = super().train_step(inputs)
            return step
        loss, gradients = self._gradients(inputs)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        # What replicas add up to is the batch's loss; the mean is over all of them.
        self.mean_loss.update_state(loss * context.num_replicas_in_sync)
        return {"loss": loss}

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def _gradients(self, inputs: Any) -> tuple[Any, list[Any]]:
        # Compiled apart: XLA sums nothing up over processes without GPUs.
        with tf.GradientTape() as tape:
            loss = self._loss(inputs, training=True)
        return loss, tape.gradient(loss, self.trainable_variables)

    def _loss(self, inputs: Any, training: bool) -> Any:
        candidates, session, targets, *choices = self._vectors(inputs, training)
        queries = self.query_tower(
            session, inputs["features"], inputs["segment"], training=training
        )
        queries = tf.reshape(queries, [-1, queries.shape[-1]])
        loss = self.task(
            queries,
            candidates,
            _by_position(targets),
            _by_position(inputs["weights"]),
            sampled_share=(self._negatives or self.items) / self.items,
        )
        loss *= inputs.get("share", 1.0)
        if choices:
            of_choices = choice_loss(
                queries,
                *map(_by_position, choices),
                *(_by_position(inputs[name] > 0) for name in _CHOICES),
            )
            loss += self._feedback_weight * of_choices * inputs.get("choices_share", 1.0)
        return loss

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def queries(self, session: Any, features: Any, length: Any) -> Any:
        """Return `[b, width]` query vectors of `[b, length, width]` sessions of item vectors."""
        return self.query_tower.last(session, features, length)

    def _vectors(self, inputs: Any, training: bool) -> list[Any]:
        """Return the vectors of the candidates, the sessions' items, the targets, and choices."""
        names = ["items", "targets", *(name for name in _CHOICES if name in inputs)]
        if not self._negatives:
            table = self.candidate_tower.catalogue(training)
            return [table[1:], *(tf.gather(table, inputs[name]) for name in names)]
        drawn = self.chance.uniform([self._negatives], 1, self.items, tf.int32)
        parts = [drawn, *(inputs[name] for name in names)]
        flat = tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)
        vectors = tf.split(
            self.candidate_tower(flat, training=training),
            [int(np.prod(part.shape)) for part in parts],
        )
        return [
            tf.reshape(vector, [*part.shape, vector.shape[-1]])
            for vector, part in zip(vectors, parts, strict=True)
        ]


def _by_position(x: Any) -> Any:
    """Return `[b, length, ...]` as `[b * length, ...]`."""
    return tf.reshape(x, [-1, *x.shape[2:]])
