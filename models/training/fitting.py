"""Fitting a model to histories: how long, how fast, and when to stop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from headrace.events import KINDS
from models.retrieval.features import INTERACTION_FEATURES
from models.training.dataset import Batch, Histories, batches_in_epoch, training_batches
from models.training.evaluation import Evaluator
from models.training.framework import keras, tf
from models.training.parameters import Parameters
from models.training.two_tower import CandidateTower, QueryTower, SessionModel

EpochDone = Callable[[int, int, dict[str, float]], None]
"""Called with the epoch, the number of epochs, and figures."""

_FINAL_RATE = 0.1
"""Of the learning rate: what the cosine ends at, and the final epochs run with."""


def build_model(
    data: Histories, features: NDArray[np.int32], parameters: Parameters
) -> SessionModel:
    """Return an untrained model. `features`: `[items, SLOTS]`, the unknown item's first."""
    items = len(features)
    counts = np.bincount(data.item, minlength=items) + 1.0
    counts[0] = 1.0
    bias = np.log(counts / counts.mean()).astype(np.float32)
    column = len(KINDS) + 1
    ratings = data.features[data.features[:, column - 1] > 0, column]
    return SessionModel(
        CandidateTower(features, bias, parameters.width, parameters.id_dropout, parameters.seed),
        QueryTower(
            width=parameters.width,
            length=parameters.session_length,
            blocks=parameters.blocks,
            dropout=parameters.dropout,
            rating_column=column,
            rating_mean=float(ratings.mean()) if len(ratings) else 0.0,
            rating_stddev=float(ratings.std()) or 1.0 if len(ratings) else 1.0,
        ),
        items=items,
        negatives=parameters.negatives if items > parameters.full_softmax_items else 0,
        seed=parameters.seed,
    )


def fit(
    model: SessionModel,
    data: Histories,
    parameters: Parameters,
    evaluator: Evaluator | None,
    on_epoch: EpochDone,
) -> None:
    """Fit the model, and leave it as it was when the evaluator found the best NDCG@10.

    Stops after `patience` epochs without a better one; without an evaluator runs to the end.
    """
    epochs = parameters.epochs

    def rate(epoch: int) -> float:
        falling = 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        return parameters.learning_rate * (_FINAL_RATE + (1 - _FINAL_RATE) * falling)

    model.compile(optimizer=keras.optimizers.Adam(), jit_compile=True)
    watch = _Watch(evaluator, parameters.patience, epochs, on_epoch)
    _run(model, data, parameters, epochs, rate, watch)
    watch.restore()


def fit_on(
    model: SessionModel, data: Histories, parameters: Parameters, on_epoch: EpochDone
) -> None:
    """Go on with a fitted model for the final epochs, on data that holds newer events."""
    epochs = parameters.final_epochs
    if not epochs:
        return
    rate = _FINAL_RATE * parameters.learning_rate
    watch = _Watch(None, epochs, epochs, on_epoch)
    _run(model, data, parameters, epochs, lambda _: rate, watch)


def _run(
    model: SessionModel,
    data: Histories,
    parameters: Parameters,
    epochs: int,
    rate: Callable[[int], float],
    watch: _Watch,
) -> None:
    # With little data an epoch goes through it more than once.
    least = math.ceil(parameters.min_steps / parameters.epochs)
    steps = max(batches_in_epoch(data, parameters), least)
    rng = np.random.default_rng(parameters.seed)
    shape = (None, parameters.session_length)
    future = (*shape, parameters.future)
    # An epoch's batches and no more: TensorFlow takes seconds to let go of a generator that could
    # still give some, while the machine is busy.
    batches = tf.data.Dataset.from_generator(
        lambda: itertools.islice(_endless(data, parameters, rng), steps),
        output_signature={
            "items": tf.TensorSpec(shape, tf.int32),
            "features": tf.TensorSpec((*shape, INTERACTION_FEATURES), tf.float32),
            "length": tf.TensorSpec(shape[:1], tf.int32),
            "targets": tf.TensorSpec(future, tf.int32),
            "weights": tf.TensorSpec(future, tf.float32),
        },
    )
    batches = batches.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2)
    callbacks = [keras.callbacks.LearningRateScheduler(rate), watch]
    for epoch in range(epochs):
        model.fit(batches, initial_epoch=epoch, epochs=epoch + 1, callbacks=callbacks, verbose=0)
        if model.stop_training:
            break


def _endless(data: Histories, parameters: Parameters, rng: np.random.Generator) -> Iterator[Batch]:
    while True:
        yield from training_batches(data, parameters, rng)


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports each epoch, keeps the best weights, and stops when they get no better."""

    def __init__(
        self, evaluator: Evaluator | None, patience: int, epochs: int, on_epoch: EpochDone
    ) -> None:
        super().__init__()
        self._evaluator = evaluator
        self._patience = patience
        self._epochs = epochs
        self._on_epoch = on_epoch
        self._best = -1.0
        self._best_epoch = 0
        self._weights: list[NDArray[np.float32]] | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        figures = {"loss": float((logs or {})["mean_loss"])}
        if self._evaluator is not None:
            evaluation = self._evaluator(self.model)
            figures |= {"hr_at_10": evaluation.hr, "ndcg_at_10": evaluation.ndcg}
            if evaluation.ndcg > self._best:
                self._best, self._best_epoch = evaluation.ndcg, epoch
                self._weights = self.model.get_weights()
            self.model.stop_training = epoch - self._best_epoch >= self._patience
        self._on_epoch(epoch + 1, self._epochs, figures)

    def restore(self) -> None:
        if self._weights is not None:
            self.model.set_weights(self._weights)
