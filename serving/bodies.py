"""Reading request bodies into checked types. A route's `Guard` has counted them as they came in."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any, TypeVar, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import InvalidEvent
from headrace.events import decode
from serving.nesting import MAX_DEPTH, is_too_deep
from serving.problems import Problem, wrong_field
from serving.values import value_at

MAX_BULK_BYTES = 8 << 20
MAX_BULK = 5_000
"""Events or items in one call."""
NDJSON = "application/x-ndjson"

_Body = TypeVar("_Body")


async def read_json(request: Request, of: type[_Body]) -> _Body:
    """Return the body as this type; an empty one counts as `{}`.

    Raises `Problem` 422, naming the field that is wrong and its value, or 413.
    """
    raw = await read_raw(request)
    try:
        body: _Body = decode(_decoder(cast(Hashable, of)), raw.strip() or b"{}", InvalidEvent)
    except InvalidEvent as error:
        raise invalid_body(raw, error) from error
    return body


def invalid_body(raw: bytes, error: InvalidEvent) -> Problem:
    """Return the problem that names what is wrong with this body, and its value."""
    told = wrong_field(error.field, error.reason, value_at(raw, error.field))
    return Problem(422, _in_words(error, told), [told])


@cache
def _decoder(of: Hashable) -> msgspec.json.Decoder[Any]:
    """Return the decoder of a type: making one takes longer than a body does."""
    return msgspec.json.Decoder(of)


async def read_bulk(request: Request) -> list[bytes]:
    """Return the JSON objects of the body: one, those of an array, or the lines of NDJSON.

    Raises `Problem` 413 or 422.
    """
    raw = await read_raw(request)
    rows = _split(raw, request.headers.get("content-type", ""))
    if not rows:
        raise Problem(422, "The body is empty; send one object, an array, or NDJSON.")
    if len(rows) > MAX_BULK:
        raise Problem(422, f"{len(rows):,} in one call; at most {MAX_BULK:,}. Send them in parts.")
    return rows


async def read_raw(request: Request) -> bytes:
    """Return the body. Raises `Problem` 413, or 422 for JSON that is nested too deeply."""
    raw = await request.body()
    check_depth(raw)
    return raw


def check_depth(raw: bytes) -> None:
    """Raise `Problem` 422 for JSON that is nested too deeply."""
    if is_too_deep(raw):
        raise Problem(422, f"The body's JSON is nested deeper than {MAX_DEPTH} levels.")


def _split(raw: bytes, content_type: str) -> list[bytes]:
    if content_type.partition(";")[0].strip().lower() == NDJSON:
        return [line for line in raw.split(b"\n") if line.strip()]
    if not raw.lstrip().startswith(b"["):
        return [raw] if raw.strip() else []
    try:
        return [bytes(row) for row in msgspec.json.decode(raw, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Problem(422, f"The body is not JSON: {exc}") from exc


def refuse_invalid(
    wrong: Sequence[tuple[int, InvalidEvent]], rows: Sequence[bytes], what: str
) -> None:
    """Raise `Problem` 422 that names what is wrong with each of these rows, if there are any."""
    if not wrong:
        return
    errors = [
        wrong_field(error.field, error.reason, value_at(rows[index], error.field), index=index)
        for index, error in wrong
    ]
    index, first = wrong[0]
    detail = _in_words(first, errors[0])
    if len(rows) > 1:
        how_many = f"{len(wrong)} of {len(rows)} {what} are invalid, and none was sent."
        detail = f"{how_many} At {index}: {detail}"
    raise Problem(422, detail, errors)


def _in_words(error: InvalidEvent, told: dict[str, object]) -> str:
    return f"{error}; it is {told['value']}" if "value" in told else str(error)


def json_response(
    content: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Return the content as JSON."""
    return Response(
        msgspec.json.encode(content), status, media_type="application/json", headers=headers
    )
