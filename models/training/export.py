"""Writes a model version: what serving reads, and a SavedModel for TensorFlow Serving."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.errors import HeadraceError
from headrace.signatures import Signer
from headrace.versions import MANIFEST, SIGNATURE, Manifest, Verdict
from models.retrieval import artifact as layout
from models.retrieval.blend import Blend
from models.retrieval.bought_together import BoughtTogether
from models.retrieval.calibration import Calibration
from models.retrieval.features import INTERACTION_FEATURES, SLOTS
from models.retrieval.index import ScannIndex
from models.retrieval.item_map import EXPLAINED, plane
from models.retrieval.probes import ask_probes
from models.retrieval.retriever import Retriever
from models.retrieval.rules import Rules
from models.retrieval.tower import CandidateTower, QueryTower
from models.training.evaluation import item_vectors
from models.training.framework import tf
from models.training.index_tuning import LEAST_RECALL, tune
from models.training.restoring import weights_of
from models.training.samples import Sessions
from models.training.saved_model import SessionRecommender, Variables, save_model
from models.training.session_model import SessionModel
from models.training.weights import save_weights

PARITY = 1e-5
"""Largest difference let pass between a tower in LiteRT and in TensorFlow, on values around 1."""

_COLD_BATCH = 64
"""Cold items that the candidate tower makes vectors of in one call."""
_SAMPLES = 16
"""Items on which the candidate towers are compared."""

logger = logging.getLogger(__name__)


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
    """Of the blend's scores."""
    towers_calibration: Calibration
    """Of the towers' alone, for the SavedModel."""
    popular: Sequence[str]
    session_length: int
    bought_together: BoughtTogether
    sessions: Sessions
    """Real ones, on which towers and index are checked."""
    with_index: bool


@dataclass(frozen=True)
class Exported:
    """What was written, and what was seen on the way."""

    files: dict[str, str]
    """sha256 of each, by its path in the folder."""
    metrics: dict[str, float]
    notes: tuple[str, ...]
    """In words, what is not as it was asked for."""


def export(contents: Contents, folder: Path) -> Exported:
    """Write the files of a version into an empty folder.

    Raises `ExportFailed` when LiteRT does not agree with TensorFlow.
    """
    # A model may have room for items that nobody has met yet.
    vectors = item_vectors(contents.model)[: len(contents.item_ids) + 1]
    query_tower = convert_query_tower(contents.model, contents.session_length, vectors.shape[1])
    candidate_tower = convert_candidate_tower(contents.model)
    queries, parity = check_query_tower(contents.model, query_tower, vectors, contents.sessions)
    check_candidate_tower(contents.model, candidate_tower)
    metrics = {"parity": parity, "parity_sessions": float(len(queries))}
    notes: tuple[str, ...] = ()

    (folder / layout.QUERY_TOWER).write_bytes(query_tower)
    (folder / layout.CANDIDATE_TOWER).write_bytes(candidate_tower)
    np.save(folder / layout.ITEM_VECTORS, vectors[1:], allow_pickle=False)
    points, metrics[EXPLAINED] = plane(vectors[1:])
    np.save(folder / layout.MAP, points, allow_pickle=False)
    for name, array in zip(layout.RULES, contents.rules.arrays(), strict=True):
        np.save(folder / name, array, allow_pickle=False)
    for name, value in (
        (layout.ITEMS, contents.item_ids),
        (layout.BLEND, contents.blend),
        (layout.CALIBRATION, contents.calibration),
        (layout.POPULAR, contents.popular),
    ):
        (folder / name).write_bytes(msgspec.json.encode(value))
    (folder / layout.BOUGHT_TOGETHER).mkdir()
    contents.bought_together.save(folder / layout.BOUGHT_TOGETHER)
    if contents.with_index:
        figures, notes = write_index(vectors[1:], queries, folder / layout.INDEX)
        metrics |= figures
    recommender = SessionRecommender(
        contents.model.query_tower,
        vectors,
        contents.item_ids,
        contents.towers_calibration,
        contents.blend.candidates,
    )
    save_model(recommender, folder / layout.SAVED_MODEL)
    items = len(contents.item_ids) + 1
    save_weights(weights_of(contents.model, items, contents.towers_calibration), folder)
    return Exported(layout.file_digests(folder), metrics, notes)


def write_index(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], folder: Path
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Write a ScaNN index that finds what an exact search finds, or none; return figures, notes."""
    index = ScannIndex.build(vectors)
    tuning = tune(index, vectors, queries)
    figures = {
        "indexed": float(tuning.suffices),
        "index_recall_at_10": tuning.recall,
        "index_leaves_share": tuning.leaves_share,
        "index_reordered": float(tuning.settings.reordered),
    }
    if tuning.suffices:
        folder.mkdir()
        index.save(folder)
        return figures, ()
    note = (
        f"No ScaNN index: at its best it finds {tuning.recall:.2%} of the exact top 10 over "
        f"{len(queries):,} sessions, and {LEAST_RECALL:.0%} is asked for; searches are exact."
    )
    logger.warning(note)
    return figures, (note,)


Judge = Callable[[layout.Artifact], Verdict]
"""Says of a version that was exported whether it may go live by itself."""


def publish(
    partial: Path,
    folder: Path,
    manifest: Manifest,
    *,
    judge: Judge | None = None,
    signer: Signer | None = None,
) -> Manifest:
    """Complete a version, and let it appear under its name, whole or not at all.

    It gets its probes, the verdict of `judge` and the signature of `signer`. Returns the manifest
    as it was written. Raises `FileExistsError` when there is a version of this name, and
    `ArtifactInvalid` for files that no server could load.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; a version is never written over.")
    # 1. What a server would load answers the probes, and is judged.
    write_manifest(partial, manifest)
    exported = layout.load_artifact(partial)
    probes = ask_probes(Retriever(exported), exported.item_ids)
    (partial / layout.PROBES).write_bytes(msgspec.json.encode(probes))
    verdict = judge(exported) if judge else None
    if verdict is not None:
        logger.info("the gate: %s", verdict.reason)
    # 2. The manifest says what came of it, and is signed.
    manifest = msgspec.structs.replace(
        manifest,
        files=layout.file_digests(partial),
        verdict=verdict,
        metrics={**manifest.metrics, **(verdict.figures() if verdict else {})},
    )
    appear(partial, folder, manifest, signer)
    return manifest


def appear(partial: Path, folder: Path, manifest: Manifest, signer: Signer | None) -> None:
    """Let a version appear under its name with this manifest, signed if there is a signer."""
    written = write_manifest(partial, manifest)
    if signer is not None:
        (partial / SIGNATURE).write_bytes(signer.sign(written))
    # All of it is on the disk before it appears.
    for path in (*partial.rglob("*"), partial):
        _fsync(path)
    partial.rename(folder)
    _fsync(folder.parent)


def write_manifest(folder: Path, manifest: Manifest) -> bytes:
    """Write a version's manifest into its folder; return it."""
    raw = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(raw)
    return raw


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


def check_query_tower(
    model: SessionModel, tower: bytes, vectors: NDArray[np.float32], sessions: Sessions
) -> tuple[NDArray[np.float32], float]:
    """Compare the towers on real sessions; return the query vectors and the largest difference.

    `vectors`: `[items, width]`, the unknown item's first. Raises `ExportFailed` when they differ by
    more than `PARITY`.
    """
    lite = QueryTower(tower)
    queries: list[NDArray[np.float32]] = []
    parity = 0.0
    for batch in sessions.batches():
        expected = model.query_tower.last(
            vectors[batch.items], batch.features, batch.length
        ).numpy()
        found = lite(vectors[batch.items], batch.features, batch.length)
        parity = max(parity, _compare("query tower", found, expected))
        queries += list(found)
    return np.array(queries, np.float32).reshape(len(queries), vectors.shape[1]), parity


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
    # Of the model itself Keras would have every layer traced, several times, to be restored as one.
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], Variables(model)
    )
    return bytes(converter.convert())


def _compare(name: str, lite: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the largest difference, relative to the largest value of its row or to 1."""
    scale = np.maximum(1.0, np.abs(expected).max(axis=-1, keepdims=True))
    difference = float((np.abs(lite - expected) / scale).max())
    if not difference <= PARITY:
        raise ExportFailed(
            f"The {name} differs by {difference:.2g} between LiteRT and TensorFlow; "
            f"at most {PARITY:g} is let pass. No version was written."
        )
    return difference


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
