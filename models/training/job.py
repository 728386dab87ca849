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
from headrace.settings import Settings, load_settings
from headrace.store import connect
from models.training.enough import check_events
from models.training.fingerprint import fingerprint, made_with
from models.training.job_events import READING, read_events
from models.training.lifeline import end_without_word
from models.training.resources import give_way
from models.training.runner import Job, Report


def main() -> int:
    """Train as the job on standard input says; return the exit status."""
    die_with_parent(os.getppid())
    settings = load_settings(os.environ)
    give_way(settings.trainer.niceness)
    # Libraries print; what the trainer reads must be reports alone.
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
        end_without_word(sys.stdin.fileno(), settings.trainer.lease_s)
        train(settings, job, reports)
    except HeadraceError as exc:
        _report(reports, Report(step="failed", fraction=1.0, error=str(exc)))
    return 0


def train(settings: Settings, job: Job, reports: TextIO) -> None:
    """Read the events and the catalogue, train, and leave the version's folder.

    Nothing is trained when the model's last success was made from the same.
    """
    parameters = job.request.parameters(settings)

    def training(step: str, fraction: float, **figures: float) -> None:
        done = READING + (1 - READING) * fraction
        _report(reports, Report(step=step, fraction=done, figures=figures))

    columns = read_events(settings, job, lambda report: _report(reports, report))
    found = fingerprint(columns)
    of_data = {"events": len(columns), "fingerprint": found}
    unchanged = job.last is not None and (job.last.fingerprint, job.last.made_with) == (
        found,
        made_with(job.request, parameters),
    )
    _report(
        reports,
        Report(step="the events are read", fraction=READING, data=of_data, unchanged=unchanged),
    )
    if unchanged:
        return
    check_events(columns, parameters)
    # Deferred: a job that has nothing to train should say so before TensorFlow's seconds of import.
    from models.training.pipeline import train as train_version

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
