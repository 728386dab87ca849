"""A map of a version's items: their vectors in two dimensions, to see what the model has learnt.

Principal components (Hotelling, 1933): of all planes the one on which the vectors differ most. It
is made when the version is written, and the same vectors give the same map.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.versions import Check
from models.retrieval.artifact import ITEMS, MAP, POPULAR, decode_file, read_part, read_points

EXPLAINED = "map_explained"
"""Among a version's metrics: the share of the vectors' variance that its map shows."""


@dataclass(frozen=True)
class ItemMap:
    """Where items lie."""

    item_ids: list[str]
    """The most popular of late first."""
    points: NDArray[np.float32]
    """`[items, 2]`."""
    explained: float
    """From 0 to 1."""


def plane(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Return `[items, 2]`, and the share of the variance of `[items, width]` that it shows."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    variances, axes = np.linalg.eigh(centred.T @ centred)
    # Ascending. Where vectors are narrower than two there is nothing on the other axis.
    axes = np.pad(axes[:, :-3:-1], ((0, 0), (0, max(0, 2 - axes.shape[1]))))
    # Either direction of an axis would do; this one is always the same.
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(2)]
    points = centred @ np.where(largest < 0, -axes, axes)
    total = float(variances.sum())
    shown = float(np.square(points).sum()) / total if total > 0 else 1.0
    return points.astype(np.float32), min(1.0, shown)


def read_map(folder: Path, check: Check = lambda *_: None) -> ItemMap | None:
    """Return the map of the version in this folder; None: it has none.

    Raises `ArtifactInvalid` for files that are not those that its manifest lists.
    """
    manifest = read_part(folder, (ITEMS, MAP, POPULAR), check)
    if manifest is None:
        return None
    item_ids = decode_file(folder, ITEMS, list[str])
    points = read_points(folder, len(item_ids))
    position = {item_id: at for at, item_id in enumerate(item_ids)}
    popular = [position[each] for each in decode_file(folder, POPULAR, list[str])]
    order = list(dict.fromkeys((*popular, *range(len(item_ids)))))
    explained = manifest.metrics.get(EXPLAINED, 0.0)
    return ItemMap([item_ids[at] for at in order], points[order], explained)
