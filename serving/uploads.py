"""Forms with a file: read as it comes, onto disk, and kept where trainers find it."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from headrace.errors import InvalidEvent
from headrace.settings import Settings
from headrace.training_data import DataFile, DataSchema, kept_name
from headrace.training_requests import TrainingRequest, parse_request, request_of
from headrace.uploads import Uploads
from serving.bodies import check_depth
from serving.guard import FORM, MAX_BYTES
from serving.problems import Problem, wrong_field

DATA, REQUEST = "data", "request"
"""The parts that are a file of events, and fields of the request as JSON."""
_FIELDS = 100


def is_form(request: Request) -> bool:
    """Return whether the body is a form that may carry a file."""
    kind = request.headers.get("content-type", "").partition(";")[0]
    return kind.strip().lower() == FORM


async def read_form(request: Request) -> FormData:
    """Return the form's parts; a file lies on disk once it is longer than a megabyte.

    Close it in the end. Raises `Problem` 413 or 422.
    """
    try:
        form = await request.form(max_files=1, max_fields=_FIELDS, max_part_size=MAX_BYTES)
    except HTTPException as exc:
        raise Problem(422, f"The form cannot be read: {exc.detail}") from exc
    try:
        _check_fields(form)
    except Problem:
        await form.close()
        raise
    return form


def _check_fields(form: FormData) -> None:
    """Raise `Problem` for fields that are longer, all together, or deeper than a body may be."""
    fields = [
        value.encode(errors="replace") for _, value in form.multi_items() if isinstance(value, str)
    ]
    if sum(map(len, fields)) > MAX_BYTES:
        raise Problem(413, f"The form's fields are longer than {MAX_BYTES:,} bytes; send less.")
    for field in fields:
        check_depth(field)


def form_request(form: FormData) -> TrainingRequest:
    """Return what the form asks for: the fields of its part `request`, and those of their own.

    Raises `InvalidEvent`.
    """
    fields: dict[str, object] = {}
    for name, value in form.multi_items():
        if name == DATA:
            continue
        if not isinstance(value, str):
            raise InvalidEvent(name, f"is a file; the file of events is the part `{DATA}`")
        if name != REQUEST:
            fields[name] = value
    whole = form.get(REQUEST)
    if isinstance(whole, str):
        asked = parse_request(whole.encode(errors="replace"))
        fields = {**msgspec.to_builtins(asked), **fields}
    return request_of(fields)


def form_file(form: FormData, at_most: int) -> UploadFile | None:
    """Return the file of events, None when there is none.

    Raises `Problem` 422 for what is none, 413 for one of more than so many bytes.
    """
    found = form.get(DATA)
    if isinstance(found, str):
        reason = "is a field; send it as a file, with a file name"
        raise Problem(422, f"{DATA}: {reason}", [wrong_field(DATA, reason, None)])
    if found is not None and (found.size or 0) > at_most:
        raise Problem(413, f"The file is longer than {at_most:,} bytes; send less of it.")
    return found


async def keep_file(
    upload: UploadFile, schema: DataSchema | None, task_id: str, settings: Settings
) -> DataFile:
    """Keep the file for a task, whole or not at all.

    Raises `InvalidEvent`, `OSError` or `StoreUnavailable`.
    """
    schema = DataSchema() if schema is None else schema
    name = kept_name(task_id, upload.filename or "", schema)
    uploads = Uploads(settings)
    size, digest = await asyncio.to_thread(uploads.keep, upload.file, name)
    if not size:
        await asyncio.to_thread(uploads.remove, name)
        raise InvalidEvent(DATA, "is empty")
    return DataFile(name=name, bytes=size, sha256=digest, schema=schema)
