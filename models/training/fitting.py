"""Fitting a model to histories: how long, how fast, and when to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from headrace.events import KINDS
from models.training.dataset import Histories
from models.training.evaluation import Evaluator
from models.training.framework import keras
from models.training.inputs import Inputs
from models.training.metrics import ranking_figures
from models.training.pace import Pace
from models.training.parameters import Parameters
from models.training.two_tower import CandidateTower, QueryTower, SessionModel

EpochDone = Callable[[int, int, dict[str, float]], None]
"""Called with the epoch, the number of epochs, and figures."""

_FINAL_RATE = 0.1
"""Of the learning rate: with what the final epochs begin."""


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
    model = SessionModel(
        CandidateTower(
            features,
            bias,
            parameters.width,
            parameters.id_dropout,
            normalised=parameters.temperature > 0,
            seed=parameters.seed,
        ),
        QueryTower(
            width=parameters.width,
            length=parameters.session_length,
            blocks=parameters.blocks,
            heads=parameters.heads,
            dropout=parameters.dropout,
            temperature=parameters.temperature,
            rating_column=column,
            rating_mean=float(ratings.mean()) if len(ratings) else 0.0,
            rating_stddev=float(ratings.std()) or 1.0 if len(ratings) else 1.0,
        ),
        items=items,
        negatives=parameters.negatives if items > parameters.full_softmax_items else 0,
        seed=parameters.seed,
    )
    model.pace = Pace()
    # Once for all fitting of this model: compiling anew takes XLA half a minute.
    model.compile(optimizer=keras.optimizers.Adam(model.pace), jit_compile=True)
    return model


def fit(
    model: SessionModel,
    inputs: Inputs,
    parameters: Parameters,
    evaluator: Evaluator | None,
    on_epoch: EpochDone,
) -> None:
    """Fit the model, and leave it as it was when the evaluator found the best NDCG@10.

    Stops after `patience` epochs without a better one; without an evaluator runs to the end.
    """
    watch = _Watch(evaluator, parameters.patience, parameters.epochs, on_epoch)
    _run(model, inputs, parameters, parameters.epochs, parameters.learning_rate, watch)
    watch.restore()


def fit_on(
    model: SessionModel, inputs: Inputs, parameters: Parameters, on_epoch: EpochDone
) -> None:
    """Go on with a fitted model for the final epochs, on data that holds newer events."""
    epochs = parameters.final_epochs
    if epochs:
        watch = _Watch(None, epochs, epochs, on_epoch)
        _run(model, inputs, parameters, epochs, _FINAL_RATE * parameters.learning_rate, watch)


def _run(
    model: SessionModel,
    inputs: Inputs,
    parameters: Parameters,
    epochs: int,
    rate: float,
    watch: _Watch,
) -> None:
    """`rate`: the learning rate at its highest."""
    # With little data an epoch goes through it more than once.
    least = math.ceil(parameters.min_steps / parameters.epochs)
    rng = np.random.default_rng(parameters.seed)
    batches, steps = inputs.epoch(rng, least)
    model.pace.restart(model.optimizer.iterations, epochs * steps, rate)
    for epoch in range(epochs):
        watch.tokens = steps * inputs.positions_a_step
        model.fit(batches, initial_epoch=epoch, epochs=epoch + 1, callbacks=[watch], verbose=0)
        if model.stop_training:
            break
        batches, steps = inputs.epoch(rng, least)


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
        self._began = 0.0
        self.tokens = 0
        """Interactions that an epoch goes through, the little padding counted too."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        seconds = time.perf_counter() - self._began
        figures = {
            "loss": float((logs or {})["mean_loss"]),
            "tokens_per_s": self.tokens / seconds,
        }
        if self._evaluator is not None:
            found = self._evaluator.towers(self.model)
            figures |= ranking_figures(found)
            if figures["ndcg_at_10"] > self._best:
                self._best, self._best_epoch = figures["ndcg_at_10"], epoch
                self._weights = self.model.get_weights()
            self.model.stop_training = epoch - self._best_epoch >= self._patience
        self._on_epoch(epoch + 1, self._epochs, figures)

    def restore(self) -> None:
        if self._weights is not None:
            self.model.set_weights(self._weights)
