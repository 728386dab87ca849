"""Tasks: what the trainer has been asked for, and how far it is."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from serving.bodies import json_response
from serving.paths import path_id
from serving.schemas import TaskId
from serving.services import services

_REASON = "32 hexadecimal digits"


async def get_tasks(request: Request) -> Response:
    """Return the newest hundred tasks, newest first."""
    return json_response({"tasks": await services(request).tasks.newest()})


async def get_task(request: Request) -> Response:
    """Return one task."""
    return json_response(
        await services(request).tasks.get(path_id(request, "task_id", TaskId, _REASON))
    )
