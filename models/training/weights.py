"""The weights of a model as a version keeps them, so that a training can go on from there.

`training.npz` in the version's folder; serving does not read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import ArtifactInvalid
from models.retrieval.calibration import Calibration
from models.retrieval.features import INTERACTION_FEATURES
from models.training.arrays import read_arrays, write_arrays
from models.training.framework import tf
from models.training.two_tower import SessionModel

WEIGHTS = "training.npz"
_QUERY = "query_{:03d}"


@dataclass(frozen=True)
class Weights:
    """What was learnt, and what the query tower takes ratings for."""

    ids: NDArray[np.float32]
    """`[1 + items, width]`: row 0 is that of every cold item, the others follow `items.json`."""
    buckets: NDArray[np.float32]
    """`[BUCKETS, width]`: of the items' features."""
    query: tuple[NDArray[np.float32], ...]
    """The query tower's, in the order of its variables."""
    rating: NDArray[np.float64]
    """`[2]`: mean and standard deviation of the ratings that it was fitted to first."""
    towers_calibration: Calibration
    """Of the scores that the towers alone give."""


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


def build_towers(model: SessionModel) -> None:
    """Make the query tower's variables, which Keras does when it first runs."""
    tower, width = model.query_tower, model.candidate_tower.ids.shape[1]
    vectors = tf.zeros([1, tower.length, width])
    tower.last(vectors, tf.zeros([1, tower.length, INTERACTION_FEATURES]), tf.constant([1]))


def save_weights(weights: Weights, folder: Path) -> None:
    """Write them into a version's folder."""
    query = {_QUERY.format(number): each for number, each in enumerate(weights.query)}
    calibration = weights.towers_calibration
    arrays: dict[str, NDArray[Any]] = {
        "ids": weights.ids,
        "buckets": weights.buckets,
        "rating": weights.rating,
        "towers_calibration": np.array([calibration.slope, calibration.intercept]),
    }
    write_arrays(folder / WEIGHTS, arrays | query)


def load_weights(folder: Path) -> Weights | None:
    """Return the weights in a version's folder, None when it has none; nothing is unpickled.

    Raises `ArtifactInvalid` for a file that does not hold them.
    """
    path = folder / WEIGHTS
    if not path.is_file():
        return None
    try:
        found = read_arrays(path)
        slope, intercept = found["towers_calibration"].tolist()
        return Weights(
            ids=found["ids"],
            buckets=found["buckets"],
            query=tuple(found[name] for name in sorted(found) if name.startswith("query_")),
            rating=found["rating"],
            towers_calibration=Calibration(slope=slope, intercept=intercept),
        )
    except (KeyError, OSError, ValueError) as exc:
        raise ArtifactInvalid(
            f"Version {folder.name}: {WEIGHTS} cannot be used: {exc}; train in full."
        ) from exc
