"""The events that a job trains on: those of the log, or of a file that was sent along."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from headrace.columns import ColumnBuilder
from headrace.erasure_log import read_erasures
from headrace.errors import HeadraceError, InvalidEvent
from headrace.events import EventColumns
from headrace.log import Offsets, read_columns
from headrace.log_sample import NewEvents, read_new
from headrace.served_lists import read_served_lists
from headrace.settings import Settings
from headrace.topics import Topics, topic_ids
from headrace.training_data import DataFile, read_data
from headrace.training_settings import TrainingSettings
from headrace.uploads import Uploads
from headrace.versions import FeedbackData
from models.training.choices import acted_on
from models.training.dataset import among
from models.training.feedback import Feedback
from models.training.job_messages import Job, Report

logger = logging.getLogger(__name__)

READING = 0.1
"""Share of the progress that reading is."""


def read_events(settings: Settings, job: Job, tell: Callable[[Report], None]) -> EventColumns:
    """Return the events. Blocks. Raises `HeadraceError`."""
    begin, end = job.request.between()
    if job.data is not None:
        return _of_file(settings, job, job.data, begin, end)

    def reading(fraction: float) -> None:
        tell(Report(step="reading the log", fraction=fraction * READING))

    columns = read_columns(
        settings,
        job.through,
        reading,
        topics=_topics(settings, job),
        start=job.request.offsets()[0],
        topic_ids=job.topic_ids,
        begin=begin,
        end=end,
    )
    _check_topics(settings, job)
    return columns


def read_new_events(
    settings: Settings,
    job: Job,
    since: Offsets,
    parameters: TrainingSettings,
    tell: Callable[[Report], None],
) -> NewEvents:
    """Return the log's events from these offsets on, and a sample of those before. Blocks.

    Raises `HeadraceError`.
    """

    def reading(fraction: float) -> None:
        tell(Report(step="reading what is new", fraction=fraction * READING))

    new = read_new(
        settings,
        since,
        job.through,
        job.topic_ids,
        share=parameters.incremental_sample,
        least=parameters.incremental_least,
        rng=np.random.default_rng(parameters.seed),
        progress=reading,
    )
    _check_topics(settings, job)
    return new


def read_feedback(
    settings: Settings,
    job: Job,
    columns: EventColumns,
    parameters: TrainingSettings,
    tell: Callable[[Report], None],
    since: FeedbackData | None = None,
    is_new: NDArray[np.bool_] | None = None,
) -> Feedback | None:
    """Return what the events tell of served lists; None where that is not asked for. Blocks.

    The lists are those of models that read the same topics, or of all when all models' events are
    trained on. `since`: what was learnt from before; of the lists up to there those are read that
    could still be acted on, and left out again where one was acted on by an event that is not new.
    `is_new`: `[events]`. Raises `HeadraceError`.
    """
    if job.lists is None:
        return None

    def reading(fraction: float) -> None:
        tell(Report(step="reading the served lists", fraction=fraction * READING))

    own = settings.of_model(job.model_id)
    begin, end = job.request.between()
    lists = read_served_lists(
        settings,
        job.lists,
        settings.model_ids if job.request.global_data else own.models_alike,
        reading,
        since=since.onward if since else None,
        begin=begin,
        end=end,
        open_after=columns.timestamp.max(initial=-np.inf) - parameters.feedback_window_s,
    )
    if since is not None and is_new is not None:
        past = among(columns, ~is_new)
        lists = lists.only(~acted_on(lists, past, parameters))
    feedback = Feedback.of(lists, job.lists, columns, parameters)
    if feedback.note is not None:
        logger.warning("%s", feedback.note)
    return feedback


def _topics(settings: Settings, job: Job) -> tuple[str, ...]:
    own = settings.of_model(job.model_id)
    return Topics(own).to_train(global_data=job.request.global_data)


def _check_topics(settings: Settings, job: Job) -> None:
    if topic_ids(settings, _topics(settings, job)) != job.topic_ids:
        raise HeadraceError("A topic was made anew while it was read; train again.")


def _of_file(
    settings: Settings, job: Job, data: DataFile, begin: float | None, end: float | None
) -> EventColumns:
    builder = ColumnBuilder(
        np.random.default_rng(), read_erasures(settings), Topics(settings).all_kinds
    )
    events, refused = 0, 0
    first: InvalidEvent | None = None
    with Uploads(settings).fetched(data) as path:
        for batch, wrong, why in read_data(path, data.schema, settings, job.created_at):
            events += len(batch.records)
            refused, first = refused + wrong, first or why
            builder.add(batch)
    if refused:
        told = f"{refused:,} rows of the data are no events; the first: {first}"
        logger.warning("%s", told)
        if not events:
            raise HeadraceError(
                f"All {told}. Mend the file, or say by `schema` how its rows are read, and send it "
                "again."
            )
    return builder.build({}, begin=begin, end=end)
