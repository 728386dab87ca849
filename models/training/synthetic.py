"""Versions of any size that nobody trained: what benchmarks serve.

A folder as a training leaves one, which a server loads by its usual way: towers converted by
TensorFlow, item vectors, rules, an index tuned as an export tunes it. Only what they say is made
up. Items lie in clusters, and sessions stay in one, for without any structure no index would find
its way.

Run as a process, for TensorFlow is slow to start and does not give its memory back:
`python -m models.training.synthetic FOLDER ITEMS`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.events import KINDS
from headrace.training_settings import TrainingSettings
from headrace.versions import Manifest, TrainingData, partial_folder
from models.retrieval import artifact as layout
from models.retrieval.blend import Blend
from models.retrieval.bought_together import BoughtTogether
from models.retrieval.calibration import Calibration
from models.retrieval.features import INTERACTION_FEATURES, SLOTS, interaction_features
from models.retrieval.rules import Rules
from models.retrieval.tower import QueryTower
from models.training.export import (
    convert_candidate_tower,
    convert_query_tower,
    fresh_folder,
    package_versions,
    publish,
    write_index,
)
from models.training.framework import keras, tf
from models.training.session_model import SessionModel
from models.training.two_tower import CandidateTower
from models.training.two_tower import QueryTower as TrainedTower

CLUSTER = 100
"""Items that lie together, and follow one another."""
_WITHIN = 0.5
"""Deviation of an item's vector from its cluster's, whose own is 1."""
_RULES = 20
"""Items that rules lead to from each item."""
_DAMPED = 0.3
"""Of what a tower's blocks add to an item's vector: a trained one points where the next items lie,
an untrained one anywhere."""
_SESSIONS = 300
"""On which the index is tuned."""
_POPULAR = 200
_BLEND = Blend(rules=0.3, last=10, decay=0.85, smoothing=10.0, candidates=200)
_CALIBRATION = Calibration(slope=1.0, intercept=0.0)
_PACKAGES = ("tensorflow", "numpy", "scann")


def item_name(number: int) -> str:
    """Return the id of an item."""
    return f"item-{number:07}"


def write_version(
    folder: Path, items: int, parameters: TrainingSettings, *, created_at: float, seed: int = 0
) -> None:
    """Write a version of so many items, a multiple of `CLUSTER`.

    `folder`: `<artifacts>/<model_id>/<version>`. From `parameters.scann_from_items` items on it has
    an index. Raises `FileExistsError` when there is a version of this name.
    """
    rng = np.random.default_rng(seed)
    partial = fresh_folder(partial_folder(folder))
    model = _untrained(parameters, seed)
    vectors = _vectors(rng, items, parameters.width)
    tower = convert_query_tower(model, parameters.session_length, parameters.width)

    (partial / layout.QUERY_TOWER).write_bytes(tower)
    (partial / layout.CANDIDATE_TOWER).write_bytes(convert_candidate_tower(model))
    np.save(partial / layout.ITEM_VECTORS, vectors, allow_pickle=False)
    for name, array in zip(layout.RULES, _rules(rng, items).arrays(), strict=True):
        np.save(partial / name, array, allow_pickle=False)
    item_ids = list(map(item_name, range(items)))
    for name, value in (
        (layout.ITEMS, item_ids),
        (layout.BLEND, _BLEND),
        (layout.CALIBRATION, _CALIBRATION),
        (layout.POPULAR, item_ids[:_POPULAR]),
    ):
        (partial / name).write_bytes(msgspec.json.encode(value))
    (partial / layout.BOUGHT_TOGETHER).mkdir()
    BoughtTogether.nothing(items).save(partial / layout.BOUGHT_TOGETHER)
    metrics: dict[str, float] = {}
    if items >= parameters.scann_from_items:
        queries = _queries(rng, QueryTower(tower), vectors)
        metrics, _ = write_index(vectors, queries, partial / layout.INDEX)
    manifest = _manifest(folder, parameters, created_at, items)
    files = layout.file_digests(partial)
    publish(partial, folder, msgspec.structs.replace(manifest, files=files, metrics=metrics))


def _untrained(parameters: TrainingSettings, seed: int) -> SessionModel:
    keras.utils.set_random_seed(seed)
    # Of items the towers that are written know nothing but features: one cold item is enough.
    unknown = np.zeros((1, SLOTS), np.int32)
    chance = tf.random.Generator.from_seed(seed)
    candidate_tower = CandidateTower(
        unknown, np.zeros(1, np.float32), parameters.width, parameters.id_dropout, chance
    )
    query_tower = TrainedTower(
        width=parameters.width,
        length=parameters.session_length,
        blocks=parameters.blocks,
        heads=parameters.heads,
        dropout=parameters.dropout,
        chance=chance,
        temperature=parameters.temperature,
        rating_column=len(KINDS) + 1,
        rating_mean=3.0,
        rating_stddev=1.0,
    )
    length, width = parameters.session_length, parameters.width
    # The first call makes the weights.
    query_tower.last(
        np.zeros((1, length, width), np.float32),
        np.zeros((1, length, INTERACTION_FEATURES), np.float32),
        np.ones(1, np.int32),
    )
    for block in query_tower.blocks:
        for layer in (block.out, block.outer):
            layer.kernel.assign(_DAMPED * layer.kernel)
    return SessionModel(candidate_tower, query_tower, items=1, negatives=0, chance=chance)


def _vectors(rng: np.random.Generator, items: int, width: int) -> NDArray[np.float32]:
    """Return `[items, width]`, the cluster's vector and the item's own, about 1 long together."""
    clusters = rng.standard_normal((items // CLUSTER, width), np.float32)
    own = rng.standard_normal((items, width), np.float32)
    vectors: NDArray[np.float32] = np.repeat(clusters, CLUSTER, axis=0) + np.float32(_WITHIN) * own
    vectors /= np.float32(np.sqrt(width * (1 + _WITHIN**2)))
    # The last coordinate is the item's bias.
    vectors[:, -1] = 0.0
    return vectors


def _rules(rng: np.random.Generator, items: int) -> Rules:
    """Return rules from each item to some of its cluster, the heaviest first."""
    first = np.arange(items, dtype=np.int32) // CLUSTER * CLUSTER
    steps = np.argsort(rng.random((items // CLUSTER, CLUSTER), np.float32), axis=1)[:, :_RULES]
    targets = first[:, None] + np.repeat(steps.astype(np.int32), CLUSTER, axis=0)
    weights = np.tile(10.0 / np.arange(1, _RULES + 1, dtype=np.float32), (items, 1))
    return Rules(
        starts=np.arange(items + 1, dtype=np.int64) * _RULES,
        targets=targets.ravel(),
        weights=weights.ravel(),
        totals=weights.sum(axis=1),
    )


def _queries(
    rng: np.random.Generator, tower: QueryTower, vectors: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return `[n, width]` query vectors of sessions, each within a cluster."""
    length = tower.session_length
    clusters = rng.integers(0, len(vectors) // CLUSTER, _SESSIONS)
    steps = np.argsort(rng.random((_SESSIONS, CLUSTER)), axis=1)[:, :length]
    features = interaction_features(
        rng.exponential(300.0, steps.size),
        rng.integers(0, len(KINDS), steps.size).astype(np.int8),
        np.full(steps.size, np.nan, np.float32),
    )
    return tower(
        vectors[clusters[:, None] * CLUSTER + steps],
        features.reshape(_SESSIONS, length, -1),
        np.full(_SESSIONS, length, np.int32),
    )


def _manifest(
    folder: Path, parameters: TrainingSettings, created_at: float, items: int
) -> Manifest:
    return Manifest(
        model_id=folder.parent.name,
        version=folder.name,
        created_at=created_at,
        files={},
        data=TrainingData(
            through={},
            events=0,
            users=0,
            items=items,
            fingerprint="",
            from_timestamp=created_at,
            to_timestamp=created_at,
        ),
        parameters=msgspec.to_builtins(parameters),
        metrics={},
        packages=package_versions(_PACKAGES),
        notes=("Nobody trained this version: it is made up, for a benchmark.",),
    )


if __name__ == "__main__":
    write_version(Path(sys.argv[1]), int(sys.argv[2]), TrainingSettings(), created_at=time.time())
