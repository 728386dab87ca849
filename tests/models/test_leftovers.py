"""What tasks have left behind is deleted once no task needs it."""

from __future__ import annotations

import asyncio
import io
import shutil
import time
from pathlib import Path

import msgspec
import pytest
from parts import eventually
from redis.asyncio import Redis
from task_tools import ask

from headrace.model_settings import ModelSettings
from headrace.settings import Settings
from headrace.task_store import TaskStore
from headrace.topics import ensure_topics
from headrace.uploads import Uploads
from models.training.leftovers import Leftovers
from models.training.trainer import Trainer

NOW = 1_704_060_026.0


async def test_what_ended_tasks_have_left_goes_when_a_trainer_starts(
    settings: Settings, redis: Redis
) -> None:
    await asyncio.to_thread(ensure_topics, settings)
    tasks = TaskStore(redis, settings)
    waits = await ask(tasks, "default")
    # Queued it stays: there is a model whose training runs elsewhere.
    claim = await tasks.claim(now=NOW)
    assert claim is not None
    kept = Path(settings.artifacts) / "default" / ".work"
    for task_id in (waits.id, "0" * 32):
        (kept / task_id).mkdir(parents=True)
    running = asyncio.create_task(Trainer(settings, clock=time.time).run())

    async def is_cleared() -> bool:
        return not (kept / ("0" * 32)).exists()

    try:
        await eventually(is_cleared, "what is nobody's is deleted")
        assert (kept / waits.id).exists()
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_work_stays_of_tasks_that_have_not_ended_and_no_other(
    settings: Settings, redis: Redis
) -> None:
    settings = msgspec.structs.replace(settings, models={"books": ModelSettings()})
    tasks = TaskStore(redis, settings)
    # One of them runs then, the other is queued.
    one, other = await ask(tasks, "default"), await ask(tasks, "books")
    assert await tasks.claim(now=NOW) is not None
    ended = await ask(tasks, "items")
    await tasks.cancel(ended.id, now=NOW)
    artifacts = Path(settings.artifacts)
    work = {
        task_id: artifacts / model_id / ".work" / task_id
        for model_id, task_id in (
            ("default", one.id),
            ("books", other.id),
            ("items", ended.id),
            # Redis has lost it, and the model is no setting any more.
            ("films", "0" * 32),
        )
    }
    for folder in work.values():
        folder.mkdir(parents=True)
        (folder / "fit.npz").write_bytes(b"x")
    await Leftovers(settings, tasks).clear()
    left = {task_id for task_id, folder in work.items() if folder.exists()}
    assert left == {one.id, other.id}


async def test_a_file_that_no_task_needs_at_two_looks_is_deleted(
    settings: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, uploads = TaskStore(redis, settings), Uploads(settings)
    needed = await ask(tasks, "default")
    cut_off = "1" * 32 + ".csv"
    for name in (f"{needed.id}.csv", "0" * 32 + ".jsonl.gz"):
        uploads.keep(io.BytesIO(b"x"), name)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(TypeError):
        # As by a server that was killed while it copied.
        uploads.keep(io.StringIO("text"), cut_off)  # type: ignore[arg-type]
    monkeypatch.undo()
    leftovers = Leftovers(settings, tasks)
    # The others may be of requests whose tasks are just being made.
    await leftovers.clear()
    assert len(uploads.names()) == 3
    await leftovers.clear()
    assert uploads.names() == [f"{needed.id}.csv"]
    kept = Path(settings.artifacts) / ".uploads"
    assert [path.name for path in kept.iterdir()] == uploads.names()
