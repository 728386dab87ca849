"""Asking for a training."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import InvalidEvent, TrainingRefused
from headrace.tasks import Task
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
        if upload is not None:
            _check_beside_file(asked)
        elif asked.schema is not None:
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


def _check_beside_file(asked: TrainingRequest) -> None:
    """Raise `InvalidEvent` for what says which part of the topics to read, instead of a file."""
    for name, bound in zip(("from", "to"), asked.offsets(), strict=True):
        if bound is not None:
            raise InvalidEvent(name, "is offsets of topics, and a file has none; send a time")
    if asked.global_data:
        raise InvalidEvent("global_data", "is true; events of a file are of no model's topics")


async def _queue(server: Services, asked: TrainingRequest, upload: UploadFile | None) -> Task:
    """Return the task of the request, whose file is kept until it has ended."""
    task_id = server.new_id()
    if upload is None:
        return await server.tasks.create(asked, task_id, now=server.clock())
    data = await keep_file(upload, asked.schema, task_id, server.settings)
    stays = True
    try:
        # When Redis does not answer the task may have been queued all the same: then the file stays
        # for it, and the trainer deletes what no task needs.
        task = await server.tasks.create(asked, task_id, now=server.clock(), data=data)
        # Another one was known by its key from before.
        stays = task.id == task_id
        return task
    except (TrainingRefused, InvalidEvent):
        stays = False
        raise
    finally:
        if not stays:
            await asyncio.to_thread(Uploads(server.settings).remove, data.name)
