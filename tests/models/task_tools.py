"""Asking for trainings, and waiting for what becomes of them."""

from __future__ import annotations

import uuid

from parts import eventually

from headrace.task_store import TaskStore
from headrace.tasks import OPEN, Status, Task
from headrace.training_requests import TrainingRequest


async def ask(tasks: TaskStore, model_id: str, **fields: object) -> Task:
    request = TrainingRequest(model_id=model_id, **fields)  # type: ignore[arg-type]
    return await tasks.create(request, uuid.uuid4().hex, now=1_704_060_026.0)


async def reaches(tasks: TaskStore, task: Task, status: Status) -> Task:
    async def has() -> bool:
        found = await tasks.get(task.id)
        assert found.status in (status, *OPEN), found
        return found.status == status

    await eventually(has, f"{task.model_id} is {status}")
    return await tasks.get(task.id)


async def fits(tasks: TaskStore, task: Task) -> Task:
    async def does() -> bool:
        return (await tasks.get(task.id)).step == "fit"

    await eventually(does, f"{task.model_id} is being fitted")
    return await tasks.get(task.id)
