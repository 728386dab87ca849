"""Weights out of a model, and into a new one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.retrieval.calibration import Calibration
from models.retrieval.features import INTERACTION_FEATURES
from models.training.framework import tf
from models.training.session_model import SessionModel
from models.training.weights import Weights


def weights_of(model: SessionModel, items: int, towers_calibration: Calibration) -> Weights:
    """Return the weights of a fitted model; `items`: with the unknown one."""
    return Weights(
        ids=model.candidate_tower.ids.numpy()[:items],
        buckets=model.candidate_tower.buckets.numpy(),
        query=tuple(variable.numpy() for variable in model.query_tower.trainable_variables),
        rating=np.array(model.query_tower.rating, np.float64),
        towers_calibration=towers_calibration,
    )


def put_weights(model: SessionModel, weights: Weights) -> None:
    """Begin a new model with these weights; items that they do not know keep their own.

    Raises `ValueError` when the model is of another shape.
    """
    model.query_tower.rating = tuple(weights.rating.tolist())
    build_towers(model)
    ids = model.candidate_tower.ids
    ids.assign(tf.concat([weights.ids, ids[len(weights.ids) :]], axis=0))
    model.candidate_tower.buckets.assign(weights.buckets)
    for variable, value in zip(model.query_tower.trainable_variables, weights.query, strict=True):
        variable.assign(value)


def towers_state(model: SessionModel) -> list[NDArray[np.float32]]:
    """Return the values of all variables of both towers."""
    return [variable.numpy() for variable in _of_towers(model)]


def put_towers_state(model: SessionModel, values: Sequence[NDArray[np.float32]]) -> None:
    """Give the towers' variables these values. Raises `ValueError` for those of another shape."""
    for variable, value in zip(_of_towers(model), values, strict=True):
        variable.assign(value)


def copy_of(model: SessionModel, new: SessionModel) -> SessionModel:
    """Give a new model the weights of one that several processes share, and return it.

    To save what they share takes all of them.
    """
    new.query_tower.rating = model.query_tower.rating
    build_towers(new)
    put_towers_state(new, towers_state(model))
    return new


def _of_towers(model: SessionModel) -> list[Any]:
    # Not the model's own: among those are its metrics', which processes of a cluster read together.
    return [*model.candidate_tower.variables, *model.query_tower.variables]


def build_towers(model: SessionModel) -> None:
    """Make the query tower's variables, which Keras does when it first runs."""
    tower, width = model.query_tower, model.candidate_tower.ids.shape[1]
    vectors = tf.zeros([1, tower.length, width])
    tower.last(vectors, tf.zeros([1, tower.length, INTERACTION_FEATURES]), tf.constant([1]))
