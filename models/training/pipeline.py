"""A training, from the log of events to a model version on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.catalog import Item
from headrace.events import EventColumns
from headrace.signatures import Signer
from headrace.versions import Manifest, TrainingData, Verdict
from models.retrieval.artifact import Artifact
from models.retrieval.blend import Blend
from models.retrieval.calibration import Calibration
from models.retrieval.features import SLOTS, item_features
from models.training.bought_together import count_bought_together
from models.training.calibration import fit_calibration
from models.training.dataset import Histories, before, histories
from models.training.enough import check_events
from models.training.evaluation import Evaluator, K, RulesSoFar, held_out, rules_of, spaced
from models.training.export import (
    Contents,
    Judge,
    export,
    fresh_folder,
    package_versions,
    publish,
)
from models.training.fingerprint import fingerprint
from models.training.fitting import EpochDone, build_model, fit, fit_on
from models.training.framework import keras
from models.training.gate import Gate
from models.training.inputs import Inputs
from models.training.metrics import hr, ndcg
from models.training.parameters import Parameters
from models.training.samples import sample_sessions
from models.training.two_tower import SessionModel

_PACKAGES = ("tensorflow", "tf-keras", "tensorflow-recommenders", "numpy", "scann")
_SHARES = (0.3, 0.2, 0.4, 0.1, 0.5, 0.0, 0.6, 0.7, 0.8, 0.9)
"""Of the rules in a score, of which the hold-out chooses one; of equally good ones the first."""
_POPULAR = 200
"""Ids listed as popular."""
_POPULAR_SHARE = 0.1
"""Share of the events, the newest ones, by which items are popular."""


class Progress(Protocol):
    """Is told how far a training has come."""

    def __call__(self, step: str, fraction: float, **figures: float) -> None:
        """`step`: what is being done; `fraction`: of the whole training, 0 to 1."""


def train(
    columns: EventColumns,
    items: Sequence[Item],
    parameters: Parameters,
    artifacts: Path,
    model_id: str,
    version: str,
    progress: Progress,
    clock: Callable[[], float] = time.time,
    topic_ids: Mapping[str, str] = {},
    gate: Gate | None = None,
    signer: Signer | None = None,
) -> Manifest:
    """Train a version on these events and write it to `<artifacts>/<model_id>/<version>/`.

    `items`: the catalogue, which may be empty or know other items than the events do; `topic_ids`:
    of the topics that the events were read from; `gate`: judges the version on the newest events,
    which it is not fitted to; without one it is fitted to all. Raises `TooFewEvents`,
    `ExportFailed`, and `FileExistsError` when the version exists. The same data, parameters and
    seed make the same version.
    """
    check_events(columns, parameters)
    keras.utils.set_random_seed(parameters.seed)
    progress("prepare", 0.0, events=len(columns), items=len(columns.item_ids))
    held_back = gate.held_back(columns, parameters) if gate else 0
    fitted_to = before(columns, len(columns) - held_back)
    split = int(len(columns) * parameters.train_split_ratio)
    course = course_by_time(fitted_to, parameters, split)
    fitted = fit_course(course, features_of(columns.item_ids, items), parameters, progress)
    manifest = Manifest(
        model_id=model_id,
        version=version,
        created_at=clock(),
        files={},
        data=_training_data(columns, topic_ids, float(fitted_to.timestamp[-1])),
        parameters=msgspec.to_builtins(parameters),
        metrics=fitted.metrics,
        packages=package_versions(_PACKAGES),
    )
    progress("export", 0.85)
    # Rules learn as they serve, so what they know goes as far as the log.
    course = replace(course, everything=histories(columns, parameters))

    def judge(exported: Artifact, gate: Gate) -> Verdict:
        progress("measure beside the live version", 0.9)
        return gate.judge(exported, columns, items, parameters)

    manifest = write_version(
        fitted,
        course,
        columns,
        parameters,
        artifacts / model_id / version,
        manifest,
        judge=partial(judge, gate=gate) if gate else None,
        signer=signer,
    )
    progress("done", 1.0, **manifest.metrics)
    return manifest


@dataclass(frozen=True)
class Course:
    """What a model learns from, and what is chosen by."""

    known: Histories
    """What it is fitted to at first."""
    judged: Histories
    """The same, and the events to predict."""
    positions: NDArray[np.int64]
    """Of the events to predict, in `judged`."""
    split: int
    """The events of `judged` that rules know from the start; later ones they learn in time."""
    everything: Histories
    """What the final epochs and the rules of the version see."""
    items: int
    """With the unknown one."""
    unseen: bool = True
    """Items that a user has met are not recommended again."""

    def evaluator(self, at_most: int, parameters: Parameters) -> Evaluator:
        """Return the judge on at most so many of the events to predict, evenly spaced."""
        positions = spaced(self.positions, at_most)
        return Evaluator(self.judged, positions, self.items, parameters, unseen=self.unseen)


@dataclass(frozen=True)
class Fitted:
    """A model, and what the hold-out said of it."""

    model: SessionModel
    blend: Blend
    calibration: Calibration
    """Of the blend's scores."""
    towers_calibration: Calibration
    """Of the scores that the towers alone give."""
    metrics: dict[str, float]


def course_by_time(
    columns: EventColumns, parameters: Parameters, split: int | None = None
) -> Course:
    """Return the course of a log whose newest events, from the `split`-th on, are held out."""
    if split is None:
        split = int(len(columns) * parameters.train_split_ratio)
    everything = histories(columns, parameters)
    return Course(
        known=histories(before(columns, split), parameters),
        judged=everything,
        positions=held_out(everything, split),
        split=split,
        everything=everything,
        items=len(columns.item_ids) + 1,
    )


def fit_course(
    course: Course,
    features: NDArray[np.int32],
    parameters: Parameters,
    progress: Progress,
    model: SessionModel | None = None,
) -> Fitted:
    """Fit a new model, or go on with one.

    `features`: `[items, SLOTS]`, the unknown item's first.
    """
    # 1. Fit to what is known, for as long as that helps on the hold-out.
    model = model or build_model(course.known, features, parameters)
    watch = course.evaluator(parameters.validation_events, parameters)
    fit(
        model,
        Inputs(course.known, parameters),
        parameters,
        watch if len(watch) else None,
        _epochs(progress, "fit", 0.05, 0.65),
    )

    # 2. On the hold-out, choose how much the rules say, measure, and learn what a score is worth.
    judge = course.evaluator(parameters.evaluation_events, parameters)
    rules = rules_of(course.known, course.items)

    def rules_so_far() -> RulesSoFar:
        return RulesSoFar(course.judged, rules, course.split)

    blend, metrics = _choose_blend(judge, model, rules_so_far, parameters)
    popularity = np.bincount(course.known.item, minlength=course.items).astype(np.float32)
    metrics["popularity_hr_at_10"] = hr(judge.popularity(popularity), K)
    calibration, towers_calibration = _calibrate(judge, model, rules_so_far(), blend)
    progress("evaluate", 0.7, **metrics)

    # 3. Go on with all events, so that the version knows the newest.
    if parameters.final_epochs:
        everything = Inputs(course.everything, parameters)
        fit_on(model, everything, parameters, _epochs(progress, "fit on all", 0.7, 0.85))
    return Fitted(model, blend, calibration, towers_calibration, metrics)


def write_version(
    fitted: Fitted,
    course: Course,
    columns: EventColumns,
    parameters: Parameters,
    folder: Path,
    manifest: Manifest,
    *,
    judge: Judge | None = None,
    signer: Signer | None = None,
) -> Manifest:
    """Write a version aside, and let it appear whole; return its manifest with the files in it."""
    aside = fresh_folder(folder.with_name(f".{folder.name}.partial"))
    contents = Contents(
        model=fitted.model,
        item_ids=columns.item_ids,
        rules=rules_of(course.everything, len(columns.item_ids) + 1),
        blend=fitted.blend,
        calibration=fitted.calibration,
        towers_calibration=fitted.towers_calibration,
        popular=_popular(columns),
        session_length=parameters.session_length,
        bought_together=count_bought_together(columns, parameters.basket_s),
        sessions=sample_sessions(course.everything, parameters.session_length),
        with_index=len(columns.item_ids) >= parameters.scann_from_items,
    )
    exported = export(contents, aside)
    manifest = msgspec.structs.replace(
        manifest,
        files=exported.files,
        metrics={**manifest.metrics, **exported.metrics},
        notes=exported.notes,
    )
    return publish(aside, folder, manifest, judge=judge, signer=signer)


def features_of(item_ids: Sequence[str], items: Sequence[Item]) -> NDArray[np.int32]:
    """Return `[ids + 1, SLOTS]`, the unknown item's first; zeros for what is no item's id."""
    of_id = {item.item_id: item for item in items}
    blank = [of_id.get(item_id) or Item(item_id=item_id) for item_id in item_ids]
    return np.concatenate([np.zeros((1, SLOTS), np.int32), item_features(blank)])


def _epochs(progress: Progress, step: str, start: float, end: float) -> EpochDone:
    def on_epoch(epoch: int, epochs: int, figures: dict[str, float]) -> None:
        fraction = start + (end - start) * epoch / epochs
        progress(step, fraction, epoch=epoch, epochs=epochs, **figures)

    return on_epoch


def _choose_blend(
    evaluator: Evaluator,
    model: SessionModel,
    rules: Callable[[], RulesSoFar],
    parameters: Parameters,
) -> tuple[Blend, dict[str, float]]:
    """Return the blend that lists best on the hold-out, and what it and its parts reach there."""
    shares = [*_SHARES] if parameters.rules_share < 0 else [parameters.rules_share]
    blends = [
        Blend(
            rules=share,
            last=parameters.rules_last,
            decay=parameters.rules_decay,
            smoothing=parameters.rules_smoothing,
            candidates=parameters.blend_candidates,
        )
        for share in [0.0, *shares, 1.0]
    ]
    towers, *found, alone = evaluator.blended(model, rules(), blends)
    best = int(np.argmax([ndcg(each, K) for each in found]))
    return blends[1 + best], {
        "hr_at_10": hr(found[best], K),
        "ndcg_at_10": ndcg(found[best], K),
        "towers_hr_at_10": hr(towers, K),
        "rules_hr_at_10": hr(alone, K),
        "rules_share": shares[best],
        "events": float(len(towers)),
    }


def _calibrate(
    evaluator: Evaluator, model: SessionModel, rules: RulesSoFar, blend: Blend
) -> tuple[Calibration, Calibration]:
    """Return what the blend's scores are worth on the hold-out, and what the towers' alone are."""
    towers = msgspec.structs.replace(blend, rules=0.0)
    blends = [blend, towers] if blend.rules else [blend]
    lists = evaluator.lists(model, rules, blends)
    found = [fit_calibration(each.scores, each.came_true) for each in lists]
    return found[0], found[-1]


def _popular(columns: EventColumns) -> list[str]:
    newest = max(1, int(len(columns) * _POPULAR_SHARE))
    counts = np.bincount(columns.item[-newest:], minlength=len(columns.item_ids))
    best = np.argsort(-counts, kind="stable")[:_POPULAR]
    return [columns.item_ids[item] for item in best.tolist() if counts[item]]


def _training_data(
    columns: EventColumns, topic_ids: Mapping[str, str], fitted_to: float
) -> TrainingData:
    return TrainingData(
        through=columns.through,
        topic_ids=dict(topic_ids),
        events=len(columns),
        users=len(columns.user_ids),
        items=len(columns.item_ids),
        fingerprint=fingerprint(columns),
        from_timestamp=float(columns.timestamp[0]),
        to_timestamp=float(columns.timestamp[-1]),
        fitted_to=fitted_to,
    )
