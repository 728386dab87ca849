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
from models.training.arrays import read_arrays, write_arrays

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
