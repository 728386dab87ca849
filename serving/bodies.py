"""Reading request bodies: counted while they stream in, decoded into checked types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import InvalidEvent
from headrace.events import decode
from serving.problems import Problem

MAX_BYTES = 1 << 20
MAX_BULK_BYTES = 8 << 20
MAX_BULK = 5_000
"""Events or items in one call."""
NDJSON = "application/x-ndjson"

_Body = TypeVar("_Body")


async def read_body(request: Request, limit: int = MAX_BYTES) -> bytes:
    """Return the body. Raises `Problem` 413 as soon as it is longer than `limit` bytes."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise Problem(413, f"The body is longer than {limit:,} bytes; send it in parts.")
        chunks.append(chunk)
    return b"".join(chunks)


async def read_json(request: Request, of: type[_Body]) -> _Body:
    """Return the body as this type; an empty one counts as `{}`.

    Raises `InvalidEvent`, naming the field that is wrong, which is answered with 422.
    """
    raw = await read_body(request)
    body: _Body = decode(msgspec.json.Decoder(of), raw.strip() or b"{}", InvalidEvent)
    return body


async def read_bulk(request: Request) -> list[bytes]:
    """Return the JSON objects of the body: one, those of an array, or the lines of NDJSON.

    Raises `Problem` 413 or 422.
    """
    raw = await read_body(request, MAX_BULK_BYTES)
    rows = _split(raw, request.headers.get("content-type", ""))
    if not rows:
        raise Problem(422, "The body is empty; send one object, an array, or NDJSON.")
    if len(rows) > MAX_BULK:
        raise Problem(422, f"{len(rows):,} in one call; at most {MAX_BULK:,}. Send them in parts.")
    return rows


def _split(raw: bytes, content_type: str) -> list[bytes]:
    if content_type.partition(";")[0].strip() == NDJSON:
        return [line for line in raw.split(b"\n") if line.strip()]
    if not raw.lstrip().startswith(b"["):
        return [raw] if raw.strip() else []
    try:
        return [bytes(row) for row in msgspec.json.decode(raw, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Problem(422, f"The body is not JSON: {exc}") from exc


def refuse_invalid(wrong: Sequence[tuple[int, InvalidEvent]], of: int, what: str) -> None:
    """Raise `Problem` 422 that names what is wrong with each of these, if there are any."""
    if not wrong:
        return
    index, first = wrong[0]
    detail = (
        f"{len(wrong)} of {of} {what} are invalid, and none was sent. At {index}: {first}"
        if of > 1
        else str(first)
    )
    errors = [
        {"index": index, "field": error.field, "reason": error.reason} for index, error in wrong
    ]
    raise Problem(422, detail, errors)


def json_response(
    content: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Return the content as JSON."""
    return Response(
        msgspec.json.encode(content), status, media_type="application/json", headers=headers
    )
