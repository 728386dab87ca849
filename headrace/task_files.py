"""What lies on disk for a task while it runs: its work, and the file that it trains on."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from headrace.artifact_store import ArtifactStore
from headrace.errors import StoreUnavailable
from headrace.settings import Settings
from headrace.tasks import Task
from headrace.training_data import DataFile, kept_file
from headrace.uploads import Uploads

logger = logging.getLogger(__name__)

_WORK = ".work"
"""Beside a model's versions, whose names begin with a digit."""


def work_folder(settings: Settings, task: Task) -> Path:
    """Return the folder in which a task's training keeps what a later attempt goes on from."""
    return ArtifactStore(settings).local / task.model_id / _WORK / task.id


def data_file(task: Task) -> DataFile | None:
    """Return the file that the task trains on instead of the topics, if it has one."""
    return kept_file(task.params.get("data"))


def remove_files(settings: Settings, task: Task) -> None:
    """Delete what a task that has ended needs no more. Blocks."""
    shutil.rmtree(work_folder(settings, task), ignore_errors=True)
    data = data_file(task)
    if data is not None:
        try:
            Uploads(settings).remove(data.name)
        except StoreUnavailable as exc:
            logger.warning("the file that task %s trained on stays: %s", task.id, exc)
