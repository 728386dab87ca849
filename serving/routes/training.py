"""Asking for a training."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import InvalidEvent
from headrace.tasks import Task
from headrace.training_data import DataFile
from headrace.training_requests import TrainingRequest, check_request, parse_request
from headrace.uploads import Uploads
from serving.bodies import json_response, read_raw
from serving.callers import ANYONE, caller_of
from serving.paths import model_id_of
from serving.services import Services, services
from serving.uploads import form_file, form_request, is_form, keep_file, read_form


async def train(request: Request) -> Response:
    """Ask for a training; 202 with the task that stands for it.

    As JSON, or as a form: with a part for each field, or `request` for many as JSON, and a file of
    events as `data`, to be trained on instead of the topics.
    """
    server = services(request)
    async with _asked(request) as (asked, upload):
        asked = _for_model(asked, request)
        check_request(asked, server.settings)
        if asked.schema is not None and upload is None:
            raise InvalidEvent("schema", "is of a file; send one as the part `data` of a form")
        task = await _queue(server, asked, upload)
    return json_response(task, 202, {"Location": f"/v1/tasks/{task.id}"})


@contextlib.asynccontextmanager
async def _asked(request: Request) -> AsyncIterator[tuple[TrainingRequest, UploadFile | None]]:
    """Give what is asked for, and the file that came along."""
    if not is_form(request):
        yield parse_request((await read_raw(request)).strip() or b"{}"), None
        return
    form = await read_form(request)
    try:
        at_most = services(request).settings.serving.upload_bytes
        yield form_request(form), form_file(form, at_most)
    finally:
        await form.close()


def _for_model(asked: TrainingRequest, request: Request) -> TrainingRequest:
    model_id = model_id_of(request)
    services(request).check_trained(model_id)
    if asked.model_id not in (None, model_id):
        raise InvalidEvent("model_id", f"is {asked.model_id!r}; the path says {model_id!r}")
    caller = caller_of(request)
    by = asked.requested_by or ("http" if caller is ANYONE else f"key {caller.key_id}")
    return msgspec.structs.replace(asked, model_id=model_id, requested_by=by)


async def _queue(server: Services, asked: TrainingRequest, upload: UploadFile | None) -> Task:
    """Return the task of the request, whose file is kept until it has ended."""
    task_id = server.new_id()
    data: DataFile | None = None
    task: Task | None = None
    if upload is not None:
        data = await keep_file(upload, asked.schema, task_id, server.settings)
    try:
        task = await server.tasks.create(asked, task_id, now=server.clock(), data=data)
    finally:
        # Refused, or known by its key from before.
        if data is not None and (task is None or task.id != task_id):
            await asyncio.to_thread(Uploads(server.settings).remove, data.name)
    return task
