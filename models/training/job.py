"""The process of one training: `python -m models.training.job`, started by the trainer.

It reads a `Job` from standard input, prints a `Report` a line, and leaves a version's folder.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import msgspec
import numpy as np

from headrace.catalog import CatalogStore, Item
from headrace.errors import HeadraceError
from headrace.events import EventColumns
from headrace.local.launch import die_with_parent
from headrace.log import read_columns
from headrace.log_sample import NewEvents, read_new
from headrace.settings import Settings, TrainingSettings, load_settings, training_settings
from headrace.store import connect
from headrace.topics import event_topic_ids
from headrace.versions import read_manifest, version_folder
from models.training.runner import Job, Report

if TYPE_CHECKING:
    from models.training.incremental import Base

_READING = 0.1
"""Share of the progress that reading the log is."""


def main() -> int:
    """Train as the job on standard input says; return the exit status."""
    die_with_parent(os.getppid())
    settings = load_settings(os.environ)
    os.nice(settings.trainer.niceness)
    # Libraries print; what the trainer reads must be reports alone.
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        train(settings, msgspec.json.decode(sys.stdin.buffer.read(), type=Job), reports)
    except HeadraceError as exc:
        _report(reports, Report(step="failed", fraction=1.0, error=str(exc)))
    return 0


def train(settings: Settings, job: Job, reports: TextIO) -> None:
    """Replay the log, read the catalogue, train, and leave the version's folder."""
    # Deferred: a job that cannot start should say so before TensorFlow's seconds of import.
    from models.training.pipeline import Origin, train_onward
    from models.training.pipeline import train as train_in_full

    parameters = training_settings(settings, job.params)

    def training(step: str, fraction: float, **figures: float) -> None:
        done = _READING + (1 - _READING) * fraction
        _report(reports, Report(step=step, fraction=done, figures=figures))

    base, notes = _base(settings, job, parameters)
    work = None if job.work is None else Path(job.work)
    origin = Origin(job.topic_ids, notes, work)
    made = (Path(settings.artifacts), job.model_id, job.version, training, origin)
    if base is None:
        columns = _read(settings, job, reports)
        train_in_full(columns, asyncio.run(_catalogue(settings)), parameters, *made)
    else:
        new = _read_new(settings, job, base, parameters, reports)
        train_onward(base, new, asyncio.run(_catalogue(settings)), parameters, *made)


def _base(
    settings: Settings, job: Job, parameters: TrainingSettings
) -> tuple[Base | None, tuple[str, ...]]:
    """Return the version to go on from; None and, where one was wanted, a note why there is none.

    A training that a version does not fit, or whose events would be fewer in full, is in full.
    """
    from models.training.incremental import load_base, unfit

    if job.mode == "full":
        return None, ()
    if job.base is None:
        return None, ("In full: there is no live version to go on from.",)
    folder = version_folder(Path(settings.artifacts), job.model_id, job.base)
    try:
        manifest = read_manifest(folder)
        why: Base | str | None = f"version {job.base} is not there"
        if manifest is not None:
            why = unfit(manifest, job.kind, parameters, job.through, job.topic_ids)
            why = why or load_base(folder)
    except (HeadraceError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        why = f"version {job.base} cannot be read: {exc}"
    return (None, (f"In full: {why}.",)) if isinstance(why, str) else (why, ())


def _read(settings: Settings, job: Job, reports: TextIO) -> EventColumns:
    columns = read_columns(settings, job.through, _reading(reports), topic_ids=job.topic_ids)
    _check_topics(settings, job)
    return columns


def _read_new(
    settings: Settings, job: Job, base: Base, parameters: TrainingSettings, reports: TextIO
) -> NewEvents:
    new = read_new(
        settings,
        base.artifact.manifest.data.through,
        job.through,
        job.topic_ids,
        share=parameters.incremental_sample,
        least=parameters.incremental_least,
        rng=np.random.default_rng(parameters.seed),
        progress=_reading(reports),
    )
    _check_topics(settings, job)
    return new


def _check_topics(settings: Settings, job: Job) -> None:
    if event_topic_ids(settings) != job.topic_ids:
        raise HeadraceError("A topic was made anew while it was read; train again.")


def _reading(reports: TextIO) -> Callable[[float], None]:
    return lambda fraction: _report(
        reports, Report(step="reading the log", fraction=fraction * _READING)
    )


async def _catalogue(settings: Settings) -> Sequence[Item]:
    redis = connect(settings)
    try:
        return await CatalogStore(redis, settings).all()
    finally:
        await redis.aclose()


def _report(reports: TextIO, report: Report) -> None:
    reports.write(msgspec.json.encode(report).decode() + "\n")


if __name__ == "__main__":
    sys.exit(main())
