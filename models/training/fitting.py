"""Fitting a model to histories: how long, how fast, and when to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.events import KINDS
from models.training.checkpoint import NO_CHECKPOINT, Checkpoint, arrays
from models.training.cluster import ALONE, Cluster
from models.training.dataset import Histories
from models.training.evaluation import Evaluator
from models.training.framework import keras, tf
from models.training.inputs import Inputs
from models.training.metrics import ranking_figures
from models.training.pace import Pace
from models.training.parameters import Parameters
from models.training.restoring import build_towers, put_towers_state, towers_state
from models.training.session_model import SessionModel
from models.training.two_tower import CandidateTower, QueryTower

EpochDone = Callable[[int, int, dict[str, float]], None]
"""Called with the epoch, the number of epochs, and figures."""

_FINAL_RATE = 0.1
"""Of the learning rate: with what the final epochs begin."""


def build_model(
    data: Histories,
    features: NDArray[np.int32],
    parameters: Parameters,
    cluster: Cluster = ALONE,
) -> SessionModel:
    """Return an untrained model. `features`: `[items, SLOTS]`, the unknown item's first."""
    with cluster.scope():
        model = _built(data, features, parameters)
        if cluster.replicas > 1:
            # No variable can be made while replicas run.
            build_towers(model)
        # Once for all fitting of this model: compiling anew takes XLA half a minute. What replicas
        # add up cannot be compiled without GPUs; each compiles its own part.
        is_alone = cluster.replicas == 1
        model.compile(optimizer=keras.optimizers.Adam(model.pace), jit_compile=is_alone)
    return model


def _built(data: Histories, features: NDArray[np.int32], parameters: Parameters) -> SessionModel:
    items = len(features)
    counts = np.bincount(data.item, minlength=items) + 1.0
    counts[0] = 1.0
    bias = np.log(counts / counts.mean()).astype(np.float32)
    column = len(KINDS) + 1
    ratings = data.features[data.features[:, column - 1] > 0, column]
    chance = tf.random.Generator.from_seed(parameters.seed)
    model = SessionModel(
        CandidateTower(
            features,
            bias,
            parameters.width,
            parameters.id_dropout,
            chance,
            normalised=parameters.temperature > 0,
        ),
        QueryTower(
            width=parameters.width,
            length=parameters.session_length,
            blocks=parameters.blocks,
            heads=parameters.heads,
            dropout=parameters.dropout,
            chance=chance,
            temperature=parameters.temperature,
            rating_column=column,
            rating_mean=float(ratings.mean()) if len(ratings) else 0.0,
            rating_stddev=float(ratings.std()) or 1.0 if len(ratings) else 1.0,
        ),
        items=items,
        negatives=parameters.negatives if items > parameters.full_softmax_items else 0,
        chance=chance,
        feedback_weight=parameters.feedback_weight,
    )
    model.pace = Pace()
    return model


def fit(
    model: SessionModel,
    inputs: Inputs,
    parameters: Parameters,
    evaluator: Evaluator | None,
    on_epoch: EpochDone,
    checkpoint: Checkpoint = NO_CHECKPOINT,
    cluster: Cluster = ALONE,
) -> None:
    """Fit the model, and leave it as it was when the evaluator found the best NDCG@10.

    Stops after `patience` epochs without a better one; without an evaluator runs to the end. What
    the checkpoint holds is gone on from. In a cluster the chief evaluates and keeps checkpoints.
    """
    watch = _Watch(evaluator, parameters.patience, parameters.epochs, on_epoch, cluster)
    stage = _Stage(_FIT, parameters.epochs, parameters.learning_rate)
    _run(model, inputs, parameters, stage, watch, checkpoint, cluster)
    watch.restore(model)


def fit_on(
    model: SessionModel,
    inputs: Inputs,
    parameters: Parameters,
    on_epoch: EpochDone,
    checkpoint: Checkpoint = NO_CHECKPOINT,
    cluster: Cluster = ALONE,
) -> None:
    """Go on with a fitted model for the final epochs, on data that holds newer events."""
    epochs = parameters.final_epochs
    if epochs:
        watch = _Watch(None, epochs, epochs, on_epoch, cluster)
        stage = _Stage(_FIT_ON, epochs, _FINAL_RATE * parameters.learning_rate)
        _run(model, inputs, parameters, stage, watch, checkpoint, cluster)


_FIT, _FIT_ON = 0, 1


@dataclass(frozen=True)
class _Stage:
    number: int
    epochs: int
    rate: float
    """The learning rate at its highest."""


def _run(
    model: SessionModel,
    inputs: Inputs,
    parameters: Parameters,
    stage: _Stage,
    watch: _Watch,
    checkpoint: Checkpoint,
    cluster: Cluster,
) -> None:
    cluster.check_batch(parameters.batch_size)
    # With little data an epoch goes through it more than once.
    least = math.ceil(parameters.min_steps / parameters.epochs)
    done = _resume(model, watch, checkpoint, cluster)
    for epoch in range(done, stage.epochs):
        if watch.stops:
            break
        # An epoch's chances are its own, whether the ones before ran in this process or not.
        seed = [parameters.seed, stage.number, epoch]
        batches, steps = inputs.epoch(np.random.default_rng(seed), least)
        model.chance.reset_from_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        if epoch == 0:
            begun = int(model.optimizer.iterations.numpy())
            model.pace.restart(begun, stage.epochs * steps, stage.rate)
        watch.tokens = steps * inputs.positions_a_step
        model.fit(
            cluster.share_out(batches),
            steps_per_epoch=steps,
            initial_epoch=epoch,
            epochs=epoch + 1,
            callbacks=[watch],
            verbose=0,
        )
        if cluster.is_chief:
            checkpoint.save({**_state(model), **watch.state(), "done": np.array(epoch + 1)})


def _state(model: SessionModel) -> dict[str, NDArray[Any]]:
    """Return all that the next epoch depends on."""
    state = {f"model_{n:03d}": value for n, value in enumerate(towers_state(model))}
    held = [*model.optimizer.variables, *model.pace.variables]
    return state | {f"optimizer_{n:03d}": held.numpy() for n, held in enumerate(held)}


def _resume(model: SessionModel, watch: _Watch, checkpoint: Checkpoint, cluster: Cluster) -> int:
    """Put the model where the chief's checkpoint has it; return how many epochs are done."""
    state = checkpoint.load() if cluster.is_chief else None
    done = int(cluster.from_chief(np.array(0 if state is None else state["done"], np.int64)))
    if not done:
        return 0
    with cluster.scope():
        build_towers(model)
        model.optimizer.build(model.trainable_variables)
    if state is not None:
        put_towers_state(model, arrays(state, "model_"))
        held = [*model.optimizer.variables, *model.pace.variables]
        for variable, value in zip(held, arrays(state, "optimizer_"), strict=True):
            variable.assign(value)
        watch.put(state)
    put_towers_state(model, [cluster.from_chief(value) for value in towers_state(model)])
    for variable in (*model.optimizer.variables, *model.pace.variables):
        variable.assign(cluster.from_chief(variable.numpy()))
    watch.stops = bool(cluster.from_chief(np.array(watch.stops, np.int64)))
    return done


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports each epoch, keeps the best weights, and stops when they get no better."""

    def __init__(
        self,
        evaluator: Evaluator | None,
        patience: int,
        epochs: int,
        on_epoch: EpochDone,
        cluster: Cluster,
    ) -> None:
        super().__init__()
        self._evaluator = evaluator
        self._patience = patience
        self._epochs = epochs
        self._on_epoch = on_epoch
        self._cluster = cluster
        self._best = -1.0
        self._best_epoch = 0
        self._weights: list[NDArray[np.float32]] | None = None
        self._began = 0.0
        self.stops = False
        self.tokens = 0
        """Interactions that an epoch goes through, the little padding counted too."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        seconds = time.perf_counter() - self._began
        figures = {
            "loss": float(self.model.mean_loss.result()),
            "tokens_per_s": self.tokens / seconds,
        }
        if self._evaluator is not None and self._cluster.is_chief:
            found = self._evaluator.towers(self.model)
            figures |= ranking_figures(found)
            if figures["ndcg_at_10"] > self._best:
                self._best, self._best_epoch = figures["ndcg_at_10"], epoch
                self._weights = towers_state(self.model)
            self.stops = epoch - self._best_epoch >= self._patience
        self.stops = bool(self._cluster.from_chief(np.array(self.stops, np.int64)))
        self._on_epoch(epoch + 1, self._epochs, figures)

    def restore(self, model: SessionModel) -> None:
        if self._evaluator is None:
            return
        weights = towers_state(model) if self._weights is None else self._weights
        put_towers_state(model, [self._cluster.from_chief(value) for value in weights])

    def state(self) -> dict[str, NDArray[Any]]:
        best = {f"best_{n:03d}": value for n, value in enumerate(self._weights or ())}
        watched = np.array([self._best, self._best_epoch, self.stops], np.float64)
        return {"watched": watched, **best}

    def put(self, state: Mapping[str, NDArray[Any]]) -> None:
        best, epoch, stops = state["watched"].tolist()
        self._best, self._best_epoch, self.stops = best, int(epoch), bool(stops)
        self._weights = arrays(state, "best_") or None
