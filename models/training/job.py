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
from headrace.producer import Producer
from headrace.settings import Settings, load_settings
from headrace.signatures import TrustedKeys, signer
from headrace.store import connect
from headrace.versions import MANIFEST, VersionStore
from models.retrieval.artifact import Artifact, load_artifact
from models.training.enough import check_events
from models.training.fingerprint import fingerprint, made_with
from models.training.job_events import READING, read_events
from models.training.lifeline import end_without_word
from models.training.resources import give_way
from models.training.runner import Job, Report

logger = logging.getLogger(__name__)


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
    """Read the events and the catalogue, train, and leave the version where the others are.

    Nothing is trained when the model's last success was made from the same.
    """
    parameters = job.request.parameters(settings)
    store, signs = ArtifactStore(settings), signer(settings.versions)

    def training(step: str, fraction: float, **figures: float) -> None:
        done = READING + (1 - READING) * fraction
        _report(reports, Report(step=step, fraction=done, figures=figures))

    folder = store.local / job.model_id / job.version
    if (folder / MANIFEST).is_file():
        # An attempt before this one was ended while it brought the version to the others.
        store.put(folder)
        return
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
    from models.training.gate import Gate
    from models.training.pipeline import train as train_version

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
    store.put(folder)


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
