"""The process of one training: `python -m models.training.job`, started by the trainer.

It reads a `Job` from standard input, prints a `Report` a line, and leaves a version's folder.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import TextIO

import msgspec

from headrace.artifact_store import ArtifactStore
from headrace.catalog import CatalogStore, Item
from headrace.errors import ArtifactInvalid, HeadraceError, VersionNotFound
from headrace.local.launch import die_with_parent
from headrace.log import read_columns
from headrace.producer import Producer
from headrace.settings import Settings, load_settings, training_settings
from headrace.signatures import TrustedKeys, signer
from headrace.store import connect
from headrace.topics import event_topic_ids
from headrace.versions import VersionStore
from models.retrieval.artifact import Artifact, load_artifact
from models.training.runner import Job, Report

logger = logging.getLogger(__name__)

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
    """Replay the log, read the catalogue, train, and leave the version where the others are."""
    # Deferred: a job that cannot start should say so before TensorFlow's seconds of import.
    from models.training.gate import Gate
    from models.training.pipeline import train as train_version

    parameters = training_settings(settings, job.params)
    store, signs = ArtifactStore(settings), signer(settings.versions)

    def reading(fraction: float) -> None:
        _report(reports, Report(step="reading the log", fraction=fraction * _READING))

    def training(step: str, fraction: float, **figures: float) -> None:
        done = _READING + (1 - _READING) * fraction
        _report(reports, Report(step=step, fraction=done, figures=figures))

    columns = read_columns(settings, job.through, reading, topic_ids=job.topic_ids)
    if event_topic_ids(settings) != job.topic_ids:
        raise HeadraceError("A topic was made anew while it was read; train again.")
    items, live = asyncio.run(_known(settings, job.model_id))
    train_version(
        columns,
        items,
        parameters,
        store.local,
        job.model_id,
        job.version,
        training,
        topic_ids=job.topic_ids,
        gate=Gate(settings.gate, _live(settings, store, job.model_id, live), live),
        signer=signs,
    )
    store.put(store.local / job.model_id / job.version)


async def _known(settings: Settings, model_id: str) -> tuple[Sequence[Item], str | None]:
    """Return the catalogue, and the name of the version that is live."""
    redis = connect(settings)
    try:
        live = await VersionStore(redis, settings, Producer(settings)).live(model_id)
        return await CatalogStore(redis, settings).all(), live.version if live else None
    finally:
        await redis.aclose()


def _live(
    settings: Settings, store: ArtifactStore, model_id: str, version: str | None
) -> Artifact | None:
    """Return the version that serves; None when there is none, or none that could."""
    if version is None:
        return None
    check = partial(TrustedKeys.of(settings.versions).check, version)
    try:
        return load_artifact(store.fetch(model_id, version, check), check)
    except (ArtifactInvalid, VersionNotFound) as exc:
        logger.warning("the live version cannot be measured beside: %s", exc)
        return None


def _report(reports: TextIO, report: Report) -> None:
    reports.write(msgspec.json.encode(report).decode() + "\n")


if __name__ == "__main__":
    sys.exit(main())
