"""What becomes of the version of a task that was cancelled when it was written already."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from headrace.artifact_store import ArtifactStore
from headrace.errors import ChangeRefused, StoreUnavailable
from headrace.task_files import version_of
from headrace.tasks import Task
from headrace.version_store import VersionStore

logger = logging.getLogger(__name__)


async def delete_unfinished(
    versions: VersionStore, store: ArtifactStore, task: Task, *, now: float
) -> None:
    """Delete the version of a cancelled task, if it is there and has never been live.

    Raises `redis.exceptions.RedisError`.
    """
    version = version_of(task)
    try:
        manifest = await asyncio.to_thread(store.manifest, task.model_id, version)
    except StoreUnavailable as exc:
        logger.warning("version %s of a cancelled task may stay: %s", version, exc)
        return
    history = await versions.history(task.model_id)
    if manifest is None or any(each.version == version for each in history):
        return
    # It has gone live meanwhile, or its model is deleted.
    with suppress(ChangeRefused):
        await versions.delete(task.model_id, version, now=now, reason=f"task {task.id} cancelled")
