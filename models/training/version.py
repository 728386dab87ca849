"""A version on disk: its files, and what its manifest says of the data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from headrace.events import EventColumns
from headrace.log_sample import NewEvents
from headrace.signatures import Signer
from headrace.versions import Manifest, TrainingData, partial_folder
from models.training.choosing import Fitted
from models.training.course import Course
from models.training.export import Contents, Judge, export, fresh_folder, publish
from models.training.feedback import Feedback
from models.training.fingerprint import fingerprint, fingerprint_onward
from models.training.parameters import Parameters
from models.training.samples import sample_sessions

PACKAGES = ("tensorflow", "tf-keras", "tensorflow-recommenders", "numpy", "scann")
_POPULAR = 200
"""Ids listed as popular."""
_POPULAR_SHARE = 0.1
"""Share of the events, the newest ones, by which items are popular."""


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
    aside = fresh_folder(partial_folder(folder))
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


def training_data(
    columns: EventColumns,
    topic_ids: Mapping[str, str],
    fitted_to: float | None = None,
    feedback: Feedback | None = None,
) -> TrainingData:
    """Return what a manifest says of these events.

    `fitted_to`: Unix seconds of the newest event that towers are fitted to; None for the last.
    """
    found = fingerprint(columns)
    return TrainingData(
        through=columns.through,
        topic_ids=dict(topic_ids),
        events=len(columns),
        read=len(columns),
        users=len(columns.user_ids),
        items=len(columns.item_ids),
        fingerprint=feedback.fingerprint(found) if feedback else found,
        feedback=feedback.data if feedback else None,
        from_timestamp=float(columns.timestamp[0]),
        to_timestamp=float(columns.timestamp[-1]),
        fitted_to=fitted_to,
    )


def data_onward(before: TrainingData, new: NewEvents, read: TrainingData) -> TrainingData:
    """Return what a manifest says of a base version's events, `before`, and those read since."""
    return msgspec.structs.replace(
        read,
        # Of whoever was erased since, what the base has learnt is carried on.
        erasures=before.erasures,
        events=before.events + int(new.is_new.sum()),
        fingerprint=fingerprint_onward(before.fingerprint, read.fingerprint),
        from_timestamp=min(before.from_timestamp, read.from_timestamp),
        to_timestamp=max(before.to_timestamp, read.to_timestamp),
        # Events that are new may be older than those which the base was fitted to.
        fitted_to=max(fitted_to(before), fitted_to(read)),
    )


def fitted_to(data: TrainingData) -> float:
    """Return of when, in Unix seconds, the newest event is that towers were fitted to."""
    return data.to_timestamp if data.fitted_to is None else data.fitted_to


def _popular(columns: EventColumns, events: int) -> list[str]:
    """`events`: all that the version learnt from, in this training or before."""
    newest = min(len(columns), max(1, int(events * _POPULAR_SHARE)))
    counts = np.bincount(columns.item[-newest:], minlength=len(columns.item_ids))
    best = np.argsort(-counts, kind="stable")[:_POPULAR]
    return [columns.item_ids[item] for item in best.tolist() if counts[item]]
