"""The process of one training: `python -m models.training.job`, started by the trainer.

It reads a `Job` from standard input, prints a `Report` a line, and leaves a version's folder.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO, TypeVar

import msgspec
from redis.exceptions import RedisError

from headrace.artifact_store import ArtifactStore
from headrace.catalog import CatalogStore, Item
from headrace.erasure_log import read_erasures
from headrace.errors import ArtifactInvalid, Away, HeadraceError, VersionNotFound
from headrace.known_types import make_types_known
from headrace.local.launch import die_with_parent
from headrace.logs import configure_logging
from headrace.producer import Producer
from headrace.settings import Settings
from headrace.settings_source import load_settings
from headrace.signatures import TrustedKeys, signer
from headrace.store import connect
from headrace.version_store import VersionStore
from headrace.versions import MANIFEST, Check
from models.retrieval.artifact import load_artifact
from models.retrieval.ranker import Ranker
from models.training.cluster_config import cluster_config
from models.training.enough import check_events
from models.training.fingerprint import fingerprint, fingerprint_onward, made_with
from models.training.incremental import Base, base_of, nothing_new
from models.training.job_events import READING, read_events, read_feedback, read_new_events
from models.training.job_messages import Job, Report
from models.training.lifeline import end_without_word
from models.training.resources import give_way

# As a process this module's own name is __main__.
logger = logging.getLogger("models.training.job")

_Loaded = TypeVar("_Loaded")


def main() -> int:
    """Train as the job on standard input says; return the exit status."""
    die_with_parent(os.getppid())
    make_types_known()
    settings = load_settings(os.environ)
    configure_logging(settings)
    give_way(settings.trainer.niceness)
    # Libraries print; what the trainer reads must be reports alone.
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
        end_without_word(sys.stdin.fileno(), settings.trainer.lease_s)
        train(settings, job, reports)
    except (HeadraceError, RedisError) as exc:
        is_away = isinstance(exc, (Away, RedisError))
        logger.error("%s", exc)
        _report(reports, Report(step="failed", fraction=1.0, error=str(exc), is_away=is_away))
    return 0


def train(settings: Settings, job: Job, reports: TextIO) -> None:
    """Read the events and the catalogue, train, and leave the version where the others are.

    Nothing is trained when the model's last success was made from the same.
    """
    parameters = job.request.parameters(settings)
    store, signs = ArtifactStore(settings), signer(settings.versions)

    tell = Teller(reports)

    def training(step: str, fraction: float, **figures: float) -> None:
        done = READING + (1 - READING) * fraction
        tell(Report(step=step, fraction=done, figures=figures))

    folder = store.local / job.model_id / job.version
    config = cluster_config(os.environ) if job.distributed else None
    is_chief = config is None or config.is_chief
    if (folder / MANIFEST).is_file():
        # An attempt before this one was ended while it brought the version to the others.
        if is_chief:
            store.put(folder)
        return
    asked = made_with(job.request, parameters)
    erasures = read_erasures(settings).digest
    base = base_of(settings, store, job, parameters, erasures)
    if nothing_new(job, asked, erasures, goes_on=isinstance(base, Base)):
        tell(Report(step="nothing is new", fraction=READING, unchanged=True))
        return

    # 1. Read the events: what is new since the version to go on from, or all.
    notes = (f"In full: {base}.",) if isinstance(base, str) else ()
    known = base.artifact.manifest.data if isinstance(base, Base) else None
    is_new = None
    if known is not None:
        new = read_new_events(settings, job, known.through, parameters, tell)
        columns, is_new = new.columns, new.is_new
    else:
        columns = read_events(settings, job, tell)
    feedback = read_feedback(
        settings, job, columns, parameters, tell, known.feedback if known else None, is_new
    )
    found = fingerprint(columns) if feedback is None else feedback.fingerprint(fingerprint(columns))
    if known is not None:
        found = fingerprint_onward(known.fingerprint, found)
    if feedback is not None and feedback.note is not None:
        notes = (*notes, feedback.note)

    # 2. Whether they are those that the last success was made from, or too few.
    last = job.last
    unchanged = last is not None and (last.data.fingerprint, last.made_with) == (found, asked)
    of_data = {"events": len(columns), "fingerprint": found}
    if feedback is not None:
        of_data["feedback"] = msgspec.to_builtins(feedback.data)
    tell(Report(step="the events are read", fraction=READING, data=of_data, unchanged=unchanged))
    if unchanged:
        return
    check_events(columns, parameters)

    # 3. Train. Deferred: a job that has nothing to train should say so before TensorFlow's seconds
    # of import.
    from models.training.cluster import ALONE, join_cluster
    from models.training.gate import Gate
    from models.training.pipeline import Origin, train_onward
    from models.training.pipeline import train as train_in_full
    from models.training.ranking import train_ranking
    from models.training.ranking_gate import RankingGate

    cluster = ALONE
    if config is not None:
        tell(Report(step="waiting for the other processes", fraction=READING))
        cluster = join_cluster(is_chief=is_chief)
    # The others have of the chief what may have changed since it looked.
    items, live = asyncio.run(_known(settings, job.model_id)) if is_chief else ((), None)
    ranks = job.kind == "ranking"
    origin = Origin(
        cluster=cluster,
        kind=job.kind,
        topic_ids=job.topic_ids,
        whole=job.request.is_whole,
        erasures=erasures,
        notes=notes,
        feedback=feedback,
        work=Path(job.work) if job.work else None,
        gate=None
        if ranks
        else Gate(settings.gate, _live(settings, store, job, live, load_artifact), live),
        signer=signs,
    )
    made = (store.local, job.model_id, job.version, training, origin)
    if isinstance(base, Base):
        train_onward(base, new, items, parameters, *made)
    elif ranks:
        gate = RankingGate(settings.gate, _live(settings, store, job, live, Ranker), live)
        train_ranking(columns, items, parameters, *made, gate)
    else:
        train_in_full(columns, items, parameters, *made)
    if is_chief:
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
    settings: Settings,
    store: ArtifactStore,
    job: Job,
    version: str | None,
    load: Callable[[Path, Check], _Loaded],
) -> _Loaded | None:
    """Return the version that serves; None when there is none, or none that could."""
    if version is None:
        return None
    check = partial(TrustedKeys.of(settings.versions).check, version)
    try:
        return load(store.fetch(job.model_id, version, check), check)
    except (ArtifactInvalid, VersionNotFound) as exc:
        logger.warning("the live version cannot be measured beside: %s", exc)
        return None


class Teller:
    """Tells the trainer each report, and the log each step that begins and all figures."""

    def __init__(self, reports: TextIO) -> None:
        self._reports = reports
        self._step = ""

    def __call__(self, report: Report) -> None:
        """Tell one."""
        if report.step != self._step or report.figures:
            self._step = report.step
            figures = [f"{name} {value:.6g}" for name, value in report.figures.items()]
            logger.info("%s", ", ".join((report.step, *figures)))
        _report(self._reports, report)


def _report(reports: TextIO, report: Report) -> None:
    reports.write(msgspec.json.encode(report).decode() + "\n")


if __name__ == "__main__":
    sys.exit(main())
