"""Writes a model version: what serving reads, and a SavedModel for TensorFlow Serving."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.errors import HeadraceError
from headrace.versions import Manifest
from models.retrieval import artifact as layout
from models.retrieval.blend import Blend
from models.retrieval.calibration import Calibration
from models.retrieval.features import INTERACTION_FEATURES, SLOTS
from models.retrieval.index import ScannIndex
from models.retrieval.rules import Rules
from models.retrieval.tower import CandidateTower, QueryTower
from models.training.evaluation import item_vectors
from models.training.framework import tf
from models.training.saved_model import save_model
from models.training.two_tower import SessionModel

PARITY = 1e-5
"""Largest difference let pass between a tower in LiteRT and in TensorFlow, on values around 1."""

_COLD_BATCH = 64
"""Cold items that the candidate tower makes vectors of in one call."""
_SAMPLES = 16
"""Sessions and items on which the towers are compared."""


class ExportFailed(HeadraceError):
    """A tower does not compute in LiteRT what it computes in TensorFlow."""


@dataclass(frozen=True)
class Contents:
    """What a version is made of, beside its manifest."""

    model: SessionModel
    item_ids: Sequence[str]
    """Of items 1, 2, … of the model."""
    rules: Rules
    blend: Blend
    calibration: Calibration
    popular: Sequence[str]
    session_length: int
    with_index: bool


def export(contents: Contents, folder: Path) -> dict[str, str]:
    """Write the files of a version into an empty folder; return the sha256 of each.

    Raises `ExportFailed` when LiteRT does not agree with TensorFlow.
    """
    vectors = item_vectors(contents.model)
    query_tower = convert_query_tower(contents.model, contents.session_length, vectors.shape[1])
    candidate_tower = convert_candidate_tower(contents.model)
    check_query_tower(contents.model, query_tower, vectors)
    check_candidate_tower(contents.model, candidate_tower)

    (folder / layout.QUERY_TOWER).write_bytes(query_tower)
    (folder / layout.CANDIDATE_TOWER).write_bytes(candidate_tower)
    np.save(folder / layout.ITEM_VECTORS, vectors[1:], allow_pickle=False)
    for name, array in zip(layout.RULES, contents.rules.arrays(), strict=True):
        np.save(folder / name, array, allow_pickle=False)
    for name, value in (
        (layout.ITEMS, contents.item_ids),
        (layout.BLEND, contents.blend),
        (layout.CALIBRATION, contents.calibration),
        (layout.POPULAR, contents.popular),
    ):
        (folder / name).write_bytes(msgspec.json.encode(value))
    if contents.with_index:
        (folder / layout.INDEX).mkdir()
        ScannIndex.build(vectors[1:]).save(folder / layout.INDEX)
    save_model(contents.model, contents.item_ids, contents.calibration, folder / layout.SAVED_MODEL)
    return layout.file_digests(folder)


def publish(partial: Path, folder: Path, manifest: Manifest) -> None:
    """Complete a version with its manifest, and let it appear under its name, whole or not at all.

    Raises `FileExistsError` when there is a version of this name.
    """
    (partial / layout.MANIFEST).write_bytes(
        msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    )
    for path in (*partial.rglob("*"), partial):
        _fsync(path)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; a version is never written over.")
    partial.rename(folder)
    _fsync(folder.parent)


def fresh_folder(path: Path) -> Path:
    """Make an empty folder, in place of what an export that was cut short left there."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def convert_query_tower(model: SessionModel, length: int, width: int) -> bytes:
    """Return the query tower for one session as a LiteRT model."""

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec([1, length, width], tf.float32, "vectors"),
            tf.TensorSpec([1, length, INTERACTION_FEATURES], tf.float32, "features"),
            tf.TensorSpec([1], tf.int32, "length"),
        ]
    )
    def query(vectors: Any, features: Any, length: Any) -> Any:
        return model.query_tower.last(vectors, features, length)

    return _convert(query, model)


def convert_candidate_tower(model: SessionModel) -> bytes:
    """Return the candidate tower for items without an id as a LiteRT model."""

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec([_COLD_BATCH, SLOTS], tf.int32, "features")]
    )
    def cold(features: Any) -> Any:
        return model.candidate_tower.cold(features)

    return _convert(cold, model)


def check_query_tower(model: SessionModel, tower: bytes, vectors: NDArray[np.float32]) -> None:
    """Compare the towers on sessions drawn at random, of every length up to the longest.

    Raises `ExportFailed` when they differ by more than `PARITY`.
    """
    lite = QueryTower(tower)
    rng = np.random.default_rng(0)
    for length in np.linspace(1, lite.session_length, _SAMPLES).astype(int).tolist():
        session = vectors[rng.integers(0, len(vectors), length)]
        features = rng.random((length, INTERACTION_FEATURES), np.float32)
        padding = ((lite.session_length - length, 0), (0, 0))
        expected = model.query_tower.last(
            np.pad(session, padding)[None],
            np.pad(features, padding)[None],
            np.array([length], np.int32),
        ).numpy()[0]
        _compare("query tower", lite(session, features), expected)


def check_candidate_tower(model: SessionModel, tower: bytes) -> None:
    """Compare the towers on features drawn at random.

    Raises `ExportFailed` when they differ by more than `PARITY`.
    """
    buckets = int(model.candidate_tower.buckets.shape[0])
    features = np.random.default_rng(0).integers(0, buckets, (_SAMPLES, SLOTS)).astype(np.int32)
    features[0] = 0
    expected = model.candidate_tower.cold(features).numpy()
    _compare("candidate tower", CandidateTower(tower)(features), expected)


def package_versions(names: Sequence[str]) -> dict[str, str]:
    """Return the installed version of each of these packages."""
    from importlib.metadata import version

    return {name: version(name) for name in names}


def _convert(function: Any, model: SessionModel) -> bytes:
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], model
    )
    return bytes(converter.convert())


def _compare(name: str, lite: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    scale = max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(lite - expected).max()) / scale
    if not difference <= PARITY:
        raise ExportFailed(
            f"The {name} differs by {difference:.2g} between LiteRT and TensorFlow; "
            f"at most {PARITY:g} is let pass. No version was written."
        )


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
