"""A training, from the log of events to a model version on disk."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.catalog import Item
from headrace.events import EventColumns
from headrace.log_sample import NewEvents
from headrace.signatures import Signer
from headrace.training_kinds import Kind
from headrace.versions import Manifest, TrainingData, Verdict
from models.retrieval.artifact import Artifact
from models.retrieval.blend import Blend
from models.retrieval.bought_together import BoughtTogether
from models.retrieval.calibration import Calibration
from models.retrieval.features import SLOTS, item_features
from models.retrieval.rules import Rules
from models.training.bought_together import count_bought_together
from models.training.calibration import fit_calibration
from models.training.checkpoint import NO_WORK, Work
from models.training.dataset import Histories, before
from models.training.enough import check_events
from models.training.evaluation import (
    SEEN_LIMIT,
    Evaluator,
    K,
    RulesSoFar,
    held_out,
    rules_of,
    spaced,
)
from models.training.export import (
    Contents,
    Judge,
    export,
    fresh_folder,
    package_versions,
    publish,
)
from models.training.fingerprint import fingerprint, fingerprint_onward
from models.training.fitting import EpochDone, build_model, fit, fit_on
from models.training.framework import keras
from models.training.gate import Gate
from models.training.incremental import Base, Counted, onward, slower
from models.training.inputs import Inputs
from models.training.kinds import RETRIEVAL, Shape, shape_of
from models.training.metrics import hr, ndcg
from models.training.parameters import Parameters
from models.training.restoring import put_weights
from models.training.samples import sample_sessions
from models.training.two_tower import SessionModel

PACKAGES = ("tensorflow", "tf-keras", "tensorflow-recommenders", "numpy", "scann")
_SHARES = (0.3, 0.2, 0.4, 0.1, 0.5, 0.0, 0.6, 0.7, 0.8, 0.9)
"""Of the rules in a score, of which the hold-out chooses one; of equally good ones the first."""
_POPULAR = 200
"""Ids listed as popular."""
_FEWEST_JUDGED = 100
"""Events to predict, below which a hold-out is too small to choose by."""
_POPULAR_SHARE = 0.1
"""Share of the events, the newest ones, by which items are popular."""


class Progress(Protocol):
    """Is told how far a training has come."""

    def __call__(self, step: str, fraction: float, **figures: float) -> None:
        """`step`: what is being done; `fraction`: of the whole training, 0 to 1."""


@dataclass(frozen=True)
class Origin:
    """What is trained, where it comes from, and how it may be gone on with."""

    kind: Kind = "retrieval"
    topic_ids: Mapping[str, str] = field(default_factory=dict)
    """Of the topics that the events were read from."""
    notes: tuple[str, ...] = ()
    """In words, what is not as it was asked for."""
    work: Path | None = None
    """Folder for checkpoints: a training that was broken off goes on from those that lie there."""
    gate: Gate | None = None
    """Judges the version on the newest events, which it is not fitted to; None: fitted to all."""
    signer: Signer | None = None
    clock: Callable[[], float] = time.time


def train(
    columns: EventColumns,
    items: Sequence[Item],
    parameters: Parameters,
    artifacts: Path,
    model_id: str,
    version: str,
    progress: Progress,
    origin: Origin = Origin(),
) -> Manifest:
    """Train a version on these events and write it to `<artifacts>/<model_id>/<version>/`.

    `items`: the catalogue, which may be empty or know other items than the events do. Raises
    `TooFewEvents`, `ExportFailed`, and `FileExistsError` when the version exists. The same data,
    parameters and seed make the same version, also when the training was broken off and gone on
    with.
    """
    check_events(columns, parameters)
    shape = shape_of(origin.kind)
    shaped, _ = shape.rows(columns, parameters)
    seen = _seen(shaped, parameters, origin)
    course = course_by_time(
        before(shaped, seen), shape.parameters(parameters), shape, _split(shaped, parameters)
    )
    data = training_data(columns, origin.topic_ids, float(shaped.timestamp[seen - 1]))
    made = _Made(artifacts, model_id, version, data, origin)
    return _make(made, course, shaped, items, parameters, progress)


def train_onward(
    base: Base,
    new: NewEvents,
    items: Sequence[Item],
    parameters: Parameters,
    artifacts: Path,
    model_id: str,
    version: str,
    progress: Progress,
    origin: Origin = Origin(),
) -> Manifest:
    """Train a version that goes on from another one, on new events and a sample of the old.

    Raises and promises what `train` does.
    """
    check_events(new.columns, parameters)
    shape = shape_of(origin.kind)
    shaped = shape.new_events(new, parameters)
    seen = _seen(shaped.columns, parameters, origin)
    course, columns = course_onward(base, shaped, shape.parameters(parameters), shape, seen)
    read = training_data(new.columns, origin.topic_ids, float(columns.timestamp[seen - 1]))
    made = _Made(artifacts, model_id, version, _data_onward(base, new, read), origin)
    return _make(made, course, columns, items, parameters, progress)


def _seen(columns: EventColumns, parameters: Parameters, origin: Origin) -> int:
    """Return how many events towers are fitted to: all but those that the gate judges by."""
    held_back = origin.gate.held_back(columns, parameters) if origin.gate else 0
    return len(columns) - held_back


def _split(columns: EventColumns, parameters: Parameters) -> int:
    return int(len(columns) * parameters.train_split_ratio)


@dataclass(frozen=True)
class _Made:
    """What is made, and of what."""

    artifacts: Path
    model_id: str
    version: str
    data: TrainingData
    origin: Origin


def _make(
    made: _Made,
    course: Course,
    columns: EventColumns,
    items: Sequence[Item],
    parameters: Parameters,
    progress: Progress,
) -> Manifest:
    keras.utils.set_random_seed(parameters.seed)
    progress("prepare", 0.0, events=len(columns), items=len(columns.item_ids))
    digest = hashlib.sha256(made.data.fingerprint.encode() + msgspec.json.encode(parameters))
    work = Work(made.origin.work, digest.hexdigest())
    features = features_of(columns.item_ids, items)
    shape = shape_of(made.origin.kind)
    shaped = shape.parameters(parameters)
    fitted = fit_course(course, features, shaped, progress, work)
    manifest = Manifest(
        model_id=made.model_id,
        version=made.version,
        created_at=made.origin.clock(),
        files={},
        kind=made.origin.kind,
        mode="incremental" if course.counted else "full",
        base=course.counted.base.artifact.manifest.version if course.counted else None,
        data=made.data,
        parameters=msgspec.to_builtins(parameters),
        metrics=fitted.metrics,
        packages=package_versions(PACKAGES),
        notes=made.origin.notes,
    )
    progress("export", 0.85)
    # Rules learn as they serve, so what they know goes as far as the log.
    course = replace(course, everything=shape.histories(columns, shaped))

    def judge(exported: Artifact, gate: Gate) -> Verdict:
        progress("measure beside the live version", 0.9)
        return gate.judge(exported, columns, items, shaped)

    gate = made.origin.gate
    manifest = write_version(
        fitted,
        course,
        columns,
        shaped,
        made.artifacts / made.model_id / made.version,
        manifest,
        judge=partial(judge, gate=gate) if gate else None,
        signer=made.origin.signer,
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
    seen_limit: int = SEEN_LIMIT
    """Of these, the newest ones that count."""
    counted: Counted | None = None
    """What was counted, and learnt, before; None where all begins anew."""

    def evaluator(self, at_most: int, parameters: Parameters) -> Evaluator:
        """Return the judge on at most so many of the events to predict, evenly spaced."""
        positions = spaced(self.positions, at_most)
        return Evaluator(
            self.judged,
            positions,
            self.items,
            parameters,
            unseen=self.unseen,
            seen_limit=self.seen_limit,
        )

    def rules(self, data: Histories, items: int) -> Rules:
        """Return the rules of these histories, and of all that was counted before.

        `items`: with the unknown one.
        """
        if self.counted is None:
            return rules_of(data, items)
        return self.counted.rules(data, items)

    def bought_together(self, columns: EventColumns, basket_s: float) -> BoughtTogether:
        """Return the baskets of these events, and of all that was counted before."""
        if self.counted is None:
            return count_bought_together(columns, basket_s)
        return self.counted.bought_together(columns, basket_s)


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
    columns: EventColumns,
    parameters: Parameters,
    shape: Shape = RETRIEVAL,
    split: int | None = None,
) -> Course:
    """Return the course of a log whose newest events, from the `split`-th on, are held out."""
    if split is None:
        split = _split(columns, parameters)
    everything = shape.histories(columns, parameters)
    return Course(
        known=shape.histories(before(columns, split), parameters),
        judged=everything,
        positions=held_out(everything, split),
        split=split,
        everything=everything,
        items=len(columns.item_ids) + 1,
        seen_limit=shape.seen_limit,
    )


def course_onward(
    base: Base,
    new: NewEvents,
    parameters: Parameters,
    shape: Shape = RETRIEVAL,
    seen: int | None = None,
) -> tuple[Course, EventColumns]:
    """Return the course of going on from a version, and the columns with the version's codes.

    Held out are the newest of all events read, as far as they are new. `seen`: the events that
    towers are fitted to, the oldest ones; None for all.
    """
    new, counted = onward(base, new, lambda columns: shape.histories(columns, parameters))
    columns = new.columns
    seen = len(columns) if seen is None else seen
    split = _split(columns, parameters)
    course = course_by_time(before(columns, seen), parameters, shape, split)
    positions = course.positions[new.is_new[course.everything.event[course.positions]]]
    return replace(course, positions=positions, counted=counted), columns


def fit_course(
    course: Course,
    features: NDArray[np.int32],
    parameters: Parameters,
    progress: Progress,
    work: Work = NO_WORK,
    model: SessionModel | None = None,
) -> Fitted:
    """Fit a new model, or go on with one.

    `features`: `[items, SLOTS]`, the unknown item's first.
    """
    # 1. Fit to what is known, for as long as that helps on the hold-out.
    model = model or build_model(course.known, features, parameters)
    if course.counted is not None:
        put_weights(model, course.counted.base.weights)
        parameters = slower(parameters)
    watch = course.evaluator(parameters.validation_events, parameters)
    fit(
        model,
        Inputs(course.known, parameters),
        parameters,
        watch if len(watch) else None,
        _epochs(progress, "fit", 0.05, 0.65),
        work.stage("fit"),
    )

    # 2. On the hold-out, choose how much the rules say, measure, and learn what a score is worth.
    chosen = _chosen(course, model, parameters)
    progress("evaluate", 0.7, **chosen.metrics)

    # 3. Go on with all events, so that the version knows the newest.
    if parameters.final_epochs:
        everything = Inputs(course.everything, parameters)
        done = _epochs(progress, "fit on all", 0.7, 0.85)
        fit_on(model, everything, parameters, done, work.stage("fit-on-all"))
    return chosen


def _chosen(course: Course, model: SessionModel, parameters: Parameters) -> Fitted:
    """Return the model with what the hold-out says of it.

    A hold-out that is too small to choose by leaves the base version's choices as they are.
    """
    judge = course.evaluator(parameters.evaluation_events, parameters)
    rules = course.rules(course.known, course.items)

    def rules_so_far() -> RulesSoFar:
        return RulesSoFar(course.judged, rules, course.split)

    few = course.counted is not None and len(judge) < _FEWEST_JUDGED
    base = course.counted.base if course.counted and few else None
    blends = _blends(parameters) if base is None else [base.artifact.blend]
    blend, metrics = _choose_blend(judge, model, rules_so_far, blends)
    popularity = np.bincount(course.known.item, minlength=course.items).astype(np.float32)
    metrics["popularity_hr_at_10"] = hr(judge.popularity(popularity), K)
    if base is not None:
        return Fitted(
            model, blend, base.artifact.calibration, base.weights.towers_calibration, metrics
        )
    calibration, towers_calibration = _calibrate(judge, model, rules_so_far(), blend)
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
        rules=course.rules(course.everything, len(columns.item_ids) + 1),
        blend=fitted.blend,
        calibration=fitted.calibration,
        towers_calibration=fitted.towers_calibration,
        popular=_popular(columns, manifest.data.events),
        session_length=parameters.session_length,
        bought_together=course.bought_together(columns, parameters.basket_s),
        sessions=sample_sessions(course.everything, parameters.session_length),
        with_index=len(columns.item_ids) >= parameters.scann_from_items,
    )
    exported = export(contents, aside)
    manifest = msgspec.structs.replace(
        manifest,
        files=exported.files,
        metrics={**manifest.metrics, **exported.metrics},
        notes=(*manifest.notes, *exported.notes),
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
    blends: Sequence[Blend],
) -> tuple[Blend, dict[str, float]]:
    """Return the blend that lists best on the hold-out, and what it and its parts reach there."""
    parts = [msgspec.structs.replace(blends[0], rules=share) for share in (0.0, 1.0)]
    towers, alone, *found = evaluator.blended(model, rules(), [*parts, *blends])
    best = int(np.argmax([ndcg(each, K) for each in found]))
    return blends[best], {
        "hr_at_10": hr(found[best], K),
        "ndcg_at_10": ndcg(found[best], K),
        "towers_hr_at_10": hr(towers, K),
        "rules_hr_at_10": hr(alone, K),
        "rules_share": blends[best].rules,
        "events": float(len(towers)),
    }


def _blends(parameters: Parameters) -> list[Blend]:
    """Return the blends of which the hold-out chooses."""
    shares = [*_SHARES] if parameters.rules_share < 0 else [parameters.rules_share]
    return [
        Blend(
            rules=share,
            last=parameters.rules_last,
            decay=parameters.rules_decay,
            smoothing=parameters.rules_smoothing,
            candidates=parameters.blend_candidates,
        )
        for share in shares
    ]


def _calibrate(
    evaluator: Evaluator, model: SessionModel, rules: RulesSoFar, blend: Blend
) -> tuple[Calibration, Calibration]:
    """Return what the blend's scores are worth on the hold-out, and what the towers' alone are."""
    towers = msgspec.structs.replace(blend, rules=0.0)
    blends = [blend, towers] if blend.rules else [blend]
    lists = evaluator.lists(model, rules, blends)
    found = [fit_calibration(each.scores, each.came_true) for each in lists]
    return found[0], found[-1]


def _popular(columns: EventColumns, events: int) -> list[str]:
    """`events`: all that the version learnt from, in this training or before."""
    newest = min(len(columns), max(1, int(events * _POPULAR_SHARE)))
    counts = np.bincount(columns.item[-newest:], minlength=len(columns.item_ids))
    best = np.argsort(-counts, kind="stable")[:_POPULAR]
    return [columns.item_ids[item] for item in best.tolist() if counts[item]]


def _data_onward(base: Base, new: NewEvents, read: TrainingData) -> TrainingData:
    before = base.artifact.manifest.data
    return msgspec.structs.replace(
        read,
        events=before.events + int(new.is_new.sum()),
        fingerprint=fingerprint_onward(before.fingerprint, read.fingerprint),
        from_timestamp=min(before.from_timestamp, read.from_timestamp),
        to_timestamp=max(before.to_timestamp, read.to_timestamp),
    )


def training_data(
    columns: EventColumns, topic_ids: Mapping[str, str], fitted_to: float | None = None
) -> TrainingData:
    """Return what a manifest says of these events.

    `fitted_to`: Unix seconds of the newest event that towers are fitted to; None for the last.
    """
    return TrainingData(
        through=columns.through,
        topic_ids=dict(topic_ids),
        events=len(columns),
        read=len(columns),
        users=len(columns.user_ids),
        items=len(columns.item_ids),
        fingerprint=fingerprint(columns),
        from_timestamp=float(columns.timestamp[0]),
        to_timestamp=float(columns.timestamp[-1]),
        fitted_to=fitted_to,
    )
