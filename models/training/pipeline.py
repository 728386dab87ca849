"""A training, from the log of events to a model version on disk."""

from __future__ import annotations

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
from models.retrieval.features import SLOTS, item_features
from models.training.checkpoint import NO_WORK, Work
from models.training.choosing import Fitted, choose
from models.training.cluster import ALONE, Cluster
from models.training.course import Course, course_by_time, course_onward, split_of
from models.training.dataset import before
from models.training.enough import check_events
from models.training.export import package_versions
from models.training.feedback import Feedback
from models.training.fitting import EpochDone, build_model, fit, fit_on
from models.training.framework import keras
from models.training.gate import Gate
from models.training.incremental import Base, slower, with_items
from models.training.inputs import Inputs
from models.training.kinds import shape_of
from models.training.parameters import Parameters
from models.training.restoring import copy_of, put_weights
from models.training.session_model import SessionModel
from models.training.version import PACKAGES, data_onward, training_data, write_version


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
    whole: bool = True
    """Whether the events are all that these topics have up to where they were read."""
    erasures: str = ""
    """Digest of the erasures that were known when they were read."""
    notes: tuple[str, ...] = ()
    """In words, what is not as it was asked for."""
    work: Path | None = None
    """Folder for checkpoints: a training that was broken off goes on from those that lie there."""
    cluster: Cluster = ALONE
    """The processes that train together, of which the chief alone writes a version."""
    gate: Gate | None = None
    """Judges the version on the newest events, which it is not fitted to; None: fitted to all."""
    feedback: Feedback | None = None
    """The lists that users were served, to learn from as well."""
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
    with. In a cluster the chief alone writes it.
    """
    check_events(columns, parameters)
    shape = shape_of(origin.kind)
    shaped, rows = shape.rows(columns, parameters)
    seen = _seen(shaped, parameters, origin)
    feedback = origin.feedback
    course = course_by_time(
        before(shaped, seen),
        shape.parameters(parameters),
        shape,
        split_of(shaped, parameters),
        feedback.so_far(columns, rows, parameters) if feedback else None,
    )
    fitted_to = float(shaped.timestamp[seen - 1])
    data = msgspec.structs.replace(
        training_data(columns, origin.topic_ids, fitted_to, feedback),
        whole=origin.whole,
        erasures=origin.erasures,
    )
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
    shaped, rows = shape.new_events(new, parameters)
    seen = _seen(shaped.columns, parameters, origin)
    feedback = origin.feedback
    choices = None
    if feedback is not None:
        recoded = with_items(new.columns, base.artifact.item_ids)
        choices = feedback.so_far(recoded, rows, parameters)
    course, columns = course_onward(
        base, shaped, shape.parameters(parameters), shape, seen, choices
    )
    fitted_to = float(columns.timestamp[seen - 1])
    read = training_data(new.columns, origin.topic_ids, fitted_to, feedback)
    made = _Made(
        artifacts, model_id, version, data_onward(base.artifact.manifest.data, new, read), origin
    )
    return _make(made, course, columns, items, parameters, progress)


def _seen(columns: EventColumns, parameters: Parameters, origin: Origin) -> int:
    """Return how many events towers are fitted to: all but those that the gate judges by."""
    held_back = origin.gate.held_back(columns, parameters) if origin.gate else 0
    return len(columns) - held_back


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
    base = course.counted.base.artifact.manifest.version if course.counted else None
    work = Work.of(made.origin.work, made.data.fingerprint, parameters, base or "")
    cluster = made.origin.cluster
    cluster.check_same(made.data.fingerprint)
    features = cluster.from_chief(features_of(columns.item_ids, items))
    shape = shape_of(made.origin.kind)
    shaped = shape.parameters(parameters)
    fitted = fit_course(course, features, shaped, progress, work, cluster=cluster)
    manifest = Manifest(
        model_id=made.model_id,
        version=made.version,
        created_at=made.origin.clock(),
        files={},
        kind=made.origin.kind,
        mode="incremental" if course.counted else "full",
        base=base,
        data=made.data,
        parameters=msgspec.to_builtins(parameters),
        metrics=fitted.metrics,
        packages=package_versions(PACKAGES),
        notes=made.origin.notes,
    )
    if not cluster.is_chief:
        # Whoever leaves before the others takes them along.
        cluster.wait()
        return manifest
    if cluster.replicas > 1:
        copy = copy_of(fitted.model, build_model(course.known, features, shaped))
        fitted = replace(fitted, model=copy)
    progress("export", 0.85)
    # Rules learn as they serve, so what they know goes as far as the log.
    course = replace(course, everything=shape.histories(columns, shaped))

    def judge(exported: Artifact, gate: Gate) -> Verdict:
        progress("measure beside the live version", 0.9)
        return gate.judge(exported, columns, items, shaped, course.counted)

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
    cluster.wait()
    return manifest


def fit_course(
    course: Course,
    features: NDArray[np.int32],
    parameters: Parameters,
    progress: Progress,
    work: Work = NO_WORK,
    model: SessionModel | None = None,
    cluster: Cluster = ALONE,
) -> Fitted:
    """Fit a new model, or go on with one.

    `features`: `[items, SLOTS]`, the unknown item's first.
    """
    # 1. Fit to what is known, for as long as that helps on the hold-out.
    model = model or build_model(course.known, features, parameters, cluster)
    if course.counted is not None:
        with cluster.scope():
            put_weights(model, course.counted.base.weights)
        parameters = slower(parameters)
    watch = course.evaluator(parameters.validation_events, parameters)
    fit(
        model,
        Inputs(course.known, parameters, course.known_choices),
        parameters,
        watch if len(watch) else None,
        _epochs(progress, "fit", 0.05, 0.65),
        work.stage("fit"),
        cluster,
    )

    # 2. On the hold-out, choose how much the rules say, measure, and learn what a score is worth.
    chosen = choose(course, model, parameters)
    progress("evaluate", 0.7, **chosen.metrics)

    # 3. Go on with all events, so that the version knows the newest.
    if parameters.final_epochs:
        everything = Inputs(course.everything, parameters, course.choices)
        done = _epochs(progress, "fit on all", 0.7, 0.85)
        fit_on(model, everything, parameters, done, work.stage("fit-on-all"), cluster)
    return chosen


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
