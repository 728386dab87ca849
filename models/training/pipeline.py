"""A training, from the log of events to a model version on disk."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.catalog import Item
from headrace.errors import TooFewEvents
from headrace.events import EventColumns
from headrace.versions import Manifest, TrainingData
from models.retrieval.blend import Blend
from models.retrieval.features import SLOTS, item_features
from models.retrieval.rules import count_rules
from models.training.calibration import fit_calibration
from models.training.dataset import before, histories
from models.training.evaluation import Evaluation, Evaluator, held_out
from models.training.export import Contents, export, fresh_folder, package_versions, publish
from models.training.fitting import EpochDone, build_model, fit, fit_on
from models.training.framework import keras
from models.training.parameters import Parameters

_PACKAGES = ("tensorflow", "tf-keras", "tensorflow-recommenders", "numpy", "scann")
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
) -> Manifest:
    """Train a version on these events and write it to `<artifacts>/<model_id>/<version>/`.

    `items`: the catalogue, which may be empty or know other items than the events do; `topic_ids`:
    of the topics that the events were read from. Raises
    `TooFewEvents`, `ExportFailed`, and `FileExistsError` when the version exists. The same data,
    parameters and seed make the same version.
    """
    _check(columns, parameters)
    keras.utils.set_random_seed(parameters.seed)

    # 1. Fit to the events before the hold-out, for as long as that helps on the hold-out.
    progress("prepare", 0.0, events=len(columns), items=len(columns.item_ids))
    split = int(len(columns) * parameters.train_split_ratio)
    everything = histories(columns, parameters)
    known = histories(before(columns, split), parameters)
    popularity = np.bincount(known.item, minlength=len(columns.item_ids) + 1).astype(np.float32)

    def evaluator(at_most: int) -> Evaluator:
        positions = held_out(everything, split, at_most)
        return Evaluator(everything, positions, popularity, parameters)

    model = build_model(known, _features(columns, items), parameters)
    watch = evaluator(parameters.validation_events)
    fit(
        model,
        known,
        parameters,
        watch if len(watch) else None,
        _epochs(progress, "fit", 0.05, 0.65),
    )

    # 2. Measure it on the hold-out, and learn there what a score is worth.
    evaluation = evaluator(parameters.evaluation_events)(model)
    calibration = fit_calibration(evaluation.scores, evaluation.came_true)
    metrics = _metrics(evaluation)
    progress("evaluate", 0.7, **metrics)

    # 3. Go on with all events, so that the version knows the newest.
    fit_on(model, everything, parameters, _epochs(progress, "fit on all", 0.7, 0.85))

    # 4. Write it aside, and let it appear whole.
    progress("export", 0.85)
    folder = artifacts / model_id / version
    partial = fresh_folder(folder.with_name(f".{version}.partial"))
    contents = Contents(
        model=model,
        item_ids=columns.item_ids,
        # Positions of items are 1 less than their codes in histories, where 0 is the unknown one.
        rules=count_rules(everything.item - 1, everything.first, len(columns.item_ids)),
        blend=_blend(parameters),
        calibration=calibration,
        popular=_popular(columns),
        session_length=parameters.session_length,
        with_index=len(columns.item_ids) >= parameters.scann_from_items,
    )
    manifest = Manifest(
        model_id=model_id,
        version=version,
        created_at=clock(),
        files=export(contents, partial),
        data=_training_data(columns, topic_ids),
        parameters=msgspec.to_builtins(parameters),
        metrics=metrics,
        packages=package_versions(_PACKAGES),
    )
    publish(partial, folder, manifest)
    progress("done", 1.0, **metrics)
    return manifest


def _check(columns: EventColumns, parameters: Parameters) -> None:
    if len(columns) < parameters.min_events:
        raise TooFewEvents(
            f"There are {len(columns):,} events; a training needs {parameters.min_events:,}. "
            "Send more, or lower HEADRACE_TRAINING_MIN_EVENTS."
        )
    targets = int(histories(columns, parameters).is_target.sum())
    if targets < 2:
        raise TooFewEvents(
            f"{targets} of {len(columns):,} events are positive; a training needs 2 at the least. "
            "Send more, or lower HEADRACE_TRAINING_POSITIVE_THRESHOLD, which is "
            f"{parameters.positive_threshold:g}."
        )


def _features(columns: EventColumns, items: Sequence[Item]) -> NDArray[np.int32]:
    """Return `[items + 1, SLOTS]`, in the order of the columns' ids; zeros for an unknown one."""
    of_id = {item.item_id: item for item in items}
    blank = [of_id.get(item_id) or Item(item_id=item_id) for item_id in columns.item_ids]
    return np.concatenate([np.zeros((1, SLOTS), np.int32), item_features(blank)])


def _epochs(progress: Progress, step: str, start: float, end: float) -> EpochDone:
    def on_epoch(epoch: int, epochs: int, figures: dict[str, float]) -> None:
        fraction = start + (end - start) * epoch / epochs
        progress(step, fraction, epoch=epoch, epochs=epochs, **figures)

    return on_epoch


def _metrics(evaluation: Evaluation) -> dict[str, float]:
    return {
        "hr_at_10": evaluation.hr,
        "ndcg_at_10": evaluation.ndcg,
        "popularity_hr_at_10": evaluation.popularity_hr,
        "events": float(evaluation.events),
    }


def _blend(parameters: Parameters) -> Blend:
    return Blend(
        rules=parameters.rules_share,
        last=parameters.rules_last,
        decay=parameters.rules_decay,
        smoothing=parameters.rules_smoothing,
        candidates=parameters.blend_candidates,
    )


def _popular(columns: EventColumns) -> list[str]:
    newest = max(1, int(len(columns) * _POPULAR_SHARE))
    counts = np.bincount(columns.item[-newest:], minlength=len(columns.item_ids))
    best = np.argsort(-counts, kind="stable")[:_POPULAR]
    return [columns.item_ids[item] for item in best.tolist() if counts[item]]


def _training_data(columns: EventColumns, topic_ids: Mapping[str, str]) -> TrainingData:
    digest = hashlib.sha256(msgspec.msgpack.encode([columns.user_ids, columns.item_ids]))
    for column in (
        columns.user,
        columns.item,
        columns.timestamp,
        columns.kind,
        columns.rating,
    ):
        digest.update(column.tobytes())
    return TrainingData(
        through=columns.through,
        topic_ids=dict(topic_ids),
        events=len(columns),
        users=len(columns.user_ids),
        items=len(columns.item_ids),
        fingerprint=digest.hexdigest(),
        from_timestamp=float(columns.timestamp[0]),
        to_timestamp=float(columns.timestamp[-1]),
    )
