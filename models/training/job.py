"""The process of one training: `python -m models.training.job`, started by the trainer.

It reads a `Job` from standard input, prints a `Report` a line, and leaves a version's folder.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from headrace.catalog import CatalogStore, Item
from headrace.errors import HeadraceError
from headrace.local.launch import die_with_parent
from headrace.log import read_columns
from headrace.settings import Settings, load_settings, training_settings
from headrace.store import connect
from headrace.topics import Topics, topic_ids
from models.training.runner import Job, Report

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
    from models.training.pipeline import train as train_version

    parameters = training_settings(settings, job.params)

    def reading(fraction: float) -> None:
        _report(reports, Report(step="reading the log", fraction=fraction * _READING))

    def training(step: str, fraction: float, **figures: float) -> None:
        done = _READING + (1 - _READING) * fraction
        _report(reports, Report(step=step, fraction=done, figures=figures))

    topics = Topics(settings.of_model(job.model_id)).to_train(global_data=job.global_data)
    columns = read_columns(settings, job.through, reading, topics=topics, topic_ids=job.topic_ids)
    if topic_ids(settings, topics) != job.topic_ids:
        raise HeadraceError("A topic was made anew while it was read; train again.")
    items = asyncio.run(_catalogue(settings))
    train_version(
        columns,
        items,
        parameters,
        Path(settings.artifacts),
        job.model_id,
        job.version,
        training,
        topic_ids=job.topic_ids,
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
