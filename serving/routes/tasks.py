"""Tasks: what the trainer has been asked for, and how far it is."""

from __future__ import annotations

import asyncio
from typing import cast, get_args

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from headrace.task_files import remove_files
from headrace.tasks import Status
from headrace.training_kinds import KINDS
from headrace.unfinished import delete_unfinished
from serving.bodies import json_response
from serving.paths import path_id
from serving.queries import number, one_of
from serving.schemas.tasks import TaskId
from serving.services import services

_REASON = "32 hexadecimal digits"
_LIMIT = 100
MAX_LIMIT = 1_000
STATUSES: tuple[Status, ...] = get_args(Status)


async def get_tasks(request: Request) -> Response:
    """Return the newest tasks, newest first."""
    found = await services(request).tasks.newest(
        number(request, "limit", 1, MAX_LIMIT) or _LIMIT,
        kind=one_of(request, "kind", KINDS),
        status=cast("Status | None", one_of(request, "status", STATUSES)),
    )
    return json_response({"tasks": found})


async def get_task(request: Request) -> Response:
    """Return one task."""
    return json_response(await services(request).tasks.get(_task_id(request)))


async def delete_task(request: Request) -> Response:
    """Cancel a task; 202 while its trainer is still ending it."""
    server = services(request)
    task = await server.tasks.cancel(_task_id(request), now=server.clock())
    if task.status != "CANCELLED":
        return json_response(task, 202)
    await asyncio.to_thread(remove_files, server.settings, task)
    await delete_unfinished(server.versions, server.loader.store, task, now=server.clock())
    return json_response(task)


async def get_task_log(request: Request) -> Response:
    """Return the end of a task's log, 64 KiB at the most."""
    return PlainTextResponse(await services(request).tasks.log(_task_id(request)))


def _task_id(request: Request) -> str:
    return path_id(request, "task_id", TaskId, _REASON)
