"""Trainings."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from headrace.tasks import Task

TaskId = Annotated[str, Meta(pattern="^[0-9a-f]{32}(?!\\n)$")]


class TaskList(Struct, frozen=True):
    """Answer of `GET /v1/tasks`, newest first."""

    tasks: list[Task]
