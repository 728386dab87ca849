"""Trains the second stage: a multilayer perceptron that reorders what retrieval found.

It learns from lists as they would have been served: a retrieval model is fitted to the older
events and asked before each of the newer ones; the candidates that it finds, with the one that came
next among them, are an example. Had it been fitted to those events, too, its scores would say more
than they do when serving. The newest events, held out, say what the second stage gains, as it
is exported, and whether it may go live (`models.training.ranking_gate`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.catalog import Item
from headrace.errors import TooFewEvents
from headrace.events import EventColumns
from headrace.versions import Manifest, partial_folder
from models.retrieval import artifact as layout
from models.retrieval.artifact import load_artifact
from models.retrieval.calibration import Calibration
from models.retrieval.candidates import CANDIDATE_FEATURES
from models.retrieval.ranker import (
    CANDIDATES,
    FEATURES,
    ITEM_FIGURES,
    RANKER,
    RANKER_CALIBRATION,
    ItemFigures,
    Ranker,
    Scorer,
    log_softmax,
)
from models.retrieval.ranker_probes import ask_ranker_probes
from models.retrieval.retriever import Retriever
from models.training.calibration import fit_calibration
from models.training.checkpoint import Work
from models.training.course import course_by_time
from models.training.dataset import before
from models.training.enough import check_events
from models.training.export import appear, fresh_folder, package_versions, write_manifest
from models.training.framework import keras, tf, tfrs
from models.training.parameters import Parameters
from models.training.pipeline import Origin, Progress, features_of, fit_course
from models.training.ranking_gate import RankingGate, figures_of, retrieved, scores_of
from models.training.ranking_lists import Examples, Lists
from models.training.saved_model import Variables
from models.training.verdicts import K
from models.training.version import PACKAGES, training_data, write_version

_LEARNT, _JUDGED = 10_000, 5_000
"""Lists that it learns from, and that it is judged on, at the most."""
_LEAST_LISTS = 50
_UNITS = 32
_EPOCHS = 10
_BATCH = 64
_RATE = 0.003
_LEAST_DEVIATION = 1e-3
_LATE_SHARE = 0.1
"""Of the events, the newest ones, that say how popular an item is of late."""

_ORIGIN = Origin("ranking")


class RankingModel(tfrs.Model):  # type: ignore[misc]
    """What is added to a candidate's log score: nothing to begin with, so retrieval's order."""

    def __init__(self, mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> None:
        """`mean`, `deviation`: `[FEATURES]`, of the features."""
        super().__init__()
        self._mean, self._deviation = tf.constant(mean), tf.constant(deviation)
        self.task = tfrs.tasks.Ranking(
            loss=keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
        )
        self.hidden = [keras.layers.Dense(_UNITS, activation="relu") for _ in range(2)]
        self.out = keras.layers.Dense(1, kernel_initializer="zeros")

    def call(self, features: Any) -> Any:
        """Return `[..., CANDIDATES]` logits of `[..., CANDIDATES, FEATURES]`."""
        x = (features - self._mean) / self._deviation
        for layer in self.hidden:
            x = layer(x)
        return features[..., 0] + self.out(x)[..., 0]

    def compute_loss(self, inputs: Any, training: bool = False) -> Any:
        """Return the mean cross-entropy of the item that came next among the candidates."""
        features, there, wanted = inputs
        logits = tf.where(there, self(features), -1e9)
        loss = self.task(labels=tf.one_hot(wanted, CANDIDATES), predictions=logits)
        return loss / tf.cast(tf.shape(wanted)[0], tf.float32)


def train_ranking(
    columns: EventColumns,
    items: Sequence[Item],
    parameters: Parameters,
    artifacts: Path,
    model_id: str,
    version: str,
    progress: Progress,
    origin: Origin = _ORIGIN,
    gate: RankingGate | None = None,
) -> Manifest:
    """Train a version of the kind `ranking` and write it to `<artifacts>/<model_id>/<version>/`.

    Its figures are `ndcg_at_10` and `hr_at_10` with the second stage, and `without_…` those without
    it, on the same held-out events. `gate`: judges it; None: nothing does. Raises what
    `pipeline.train` raises.
    """
    check_events(columns, parameters)
    keras.utils.set_random_seed(parameters.seed)
    progress("prepare", 0.0, events=len(columns), items=len(columns.item_ids))

    # 1. Retrieval, fitted to the older events.
    judged_from = int(len(columns) * parameters.train_split_ratio)
    known = int(judged_from * parameters.train_split_ratio)
    retriever = _retriever(before(columns, known), items, parameters, progress, origin.work)

    # 2. What it finds before each of the newer ones.
    progress("ask for lists", 0.6)
    # Of what came before all lists: later figures would know what is asked for.
    figures = item_figures(before(columns, known))
    lists = Lists(columns, parameters, retriever, ItemFigures.of(list(columns.item_ids), figures))
    learnt = lists.between(known, judged_from, _LEARNT)
    judged = lists.between(judged_from, len(columns), _JUDGED)

    # 3. Learn to reorder the lists, and what that gains, as it would be served.
    model = fit_ranking(learnt, parameters.seed)
    progress("evaluate", 0.85)
    exported = convert(model)
    scorer = Scorer(exported)
    scores, without = scores_of(scorer, judged), retrieved(judged)
    metrics = {**figures_of(scores, judged), "events": float(len(judged.wanted))}
    metrics |= {f"without_{name}": each for name, each in figures_of(without, judged).items()}
    calibration = _calibrated(scores, judged)
    since = float(columns.timestamp[judged_from - 1])
    verdict = None if gate is None else gate.judge(scorer, judged, since)
    metrics |= {} if verdict is None else verdict.figures()

    # 4. Write the version.
    manifest = Manifest(
        model_id=model_id,
        version=version,
        created_at=origin.clock(),
        files={},
        kind="ranking",
        data=training_data(columns, origin.topic_ids, since),
        verdict=verdict,
        parameters=msgspec.to_builtins(parameters),
        metrics=metrics,
        packages=package_versions(PACKAGES),
        notes=origin.notes,
    )
    figures = item_figures(columns)
    folder = artifacts / model_id / version
    partial = fresh_folder(partial_folder(folder))
    _write(exported, calibration, columns.item_ids, figures, partial)
    manifest = _with_probes(manifest, columns.item_ids, learnt, partial)
    appear(partial, folder, manifest, origin.signer)
    progress("done", 1.0, **manifest.metrics)
    return manifest


def item_figures(columns: EventColumns) -> NDArray[np.float32]:
    """Return `[items, 2]`: log of 1 + an item's events, and of what it has of late beyond that."""
    items = len(columns.item_ids)
    late = max(1, int(len(columns) * _LATE_SHARE))
    all_of, late_of = (
        np.log1p(np.bincount(item, minlength=items))
        for item in (columns.item, columns.item[-late:])
    )
    return np.stack([all_of, late_of - all_of], axis=1).astype(np.float32)


def fit_ranking(examples: Examples, seed: int) -> RankingModel:
    """Fit a model to the lists that hold what came next. Raises `TooFewEvents`."""
    found = np.flatnonzero(examples.wanted >= 0)
    if len(found) < _LEAST_LISTS:
        raise TooFewEvents(
            f"Retrieval finds what came next in {len(found)} lists; a second stage needs "
            f"{_LEAST_LISTS}. Send more events, or train a version of the kind retrieval first."
        )
    there = examples.features[examples.there]
    deviation = there.std(axis=0)
    # What never varied must not say much of a list in which it does.
    deviation = np.where(deviation < _LEAST_DEVIATION, 1.0, deviation).astype(np.float32)
    model = RankingModel(there.mean(axis=0), deviation)
    model.compile(optimizer=keras.optimizers.Adam(_RATE))
    data = (examples.features[found], examples.there[found], examples.wanted[found])
    batches = tf.data.Dataset.from_tensor_slices(data)
    batches = batches.shuffle(len(found), seed=seed).batch(_BATCH)
    model.fit(batches, epochs=_EPOCHS, verbose=0)
    return model


def _retriever(
    columns: EventColumns,
    items: Sequence[Item],
    parameters: Parameters,
    progress: Progress,
    folder: Path | None,
) -> Retriever:
    """Fit a retrieval model; `folder`: for its checkpoints."""

    def told(step: str, fraction: float, **figures: float) -> None:
        progress(f"retrieval: {step}", 0.6 * fraction, **figures)

    course = course_by_time(columns, parameters)
    data = training_data(columns, {})
    work = Work.of(folder, data.fingerprint, parameters)
    features = features_of(columns.item_ids, items)
    fitted = fit_course(course, features, parameters, told, work)
    manifest = Manifest(
        model_id="retrieval",
        version="retrieval",
        created_at=0.0,
        files={},
        data=data,
        parameters={},
        metrics={},
        packages={},
    )
    with tempfile.TemporaryDirectory(prefix="headrace-ranking-") as aside:
        version = Path(aside) / "version"
        write_version(fitted, course, columns, parameters, version, manifest)
        return Retriever(load_artifact(version))


def convert(model: RankingModel) -> bytes:
    """Return the second stage as a LiteRT model."""

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[tf.TensorSpec([CANDIDATES, FEATURES], tf.float32, "features")]
    )
    def rank(features: Any) -> Any:
        return model(features)

    # Of the model itself Keras would have every layer traced, to be restored as one.
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [rank.get_concrete_function()], Variables(model)
    )
    return bytes(converter.convert())


def _calibrated(logits: NDArray[np.float32], examples: Examples) -> Calibration:
    """Return what the second stage's scores of the best ten of each list are worth."""
    scores: list[NDArray[np.float64]] = [np.zeros(0)]
    true: list[NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
    for row in range(len(logits)):
        n = int(examples.there[row].sum())
        if n:
            of_list = log_softmax(logits[row, :n])
            best = np.argsort(-of_list)[:K]
            scores.append(of_list[best])
            true.append(examples.came_true[row, best])
    return fit_calibration(np.concatenate(scores).astype(np.float32), np.concatenate(true))


def _write(
    exported: bytes,
    calibration: Calibration,
    item_ids: Sequence[str],
    figures: NDArray[np.float32],
    folder: Path,
) -> None:
    (folder / RANKER).write_bytes(exported)
    np.save(folder / ITEM_FIGURES, figures, allow_pickle=False)
    (folder / layout.ITEMS).write_bytes(msgspec.json.encode(item_ids))
    (folder / RANKER_CALIBRATION).write_bytes(msgspec.json.encode(calibration))


def _with_probes(
    manifest: Manifest, item_ids: Sequence[str], learnt: Examples, folder: Path
) -> Manifest:
    """Ask what a server would load for its probes; return the manifest with all files in it."""
    manifest = msgspec.structs.replace(manifest, files=layout.file_digests(folder))
    write_manifest(folder, manifest)
    of_candidates = learnt.features[learnt.there][:, :CANDIDATE_FEATURES]
    mean, deviation = of_candidates.mean(axis=0), of_candidates.std(axis=0)
    probes = ask_ranker_probes(Ranker(folder), item_ids, mean, deviation)
    (folder / layout.PROBES).write_bytes(msgspec.json.encode(probes))
    return msgspec.structs.replace(manifest, files=layout.file_digests(folder))
