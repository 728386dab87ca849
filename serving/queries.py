"""Parameters of a request's query, checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta
from starlette.requests import Request

from headrace.catalog import ShortText
from headrace.versions import is_version_name
from serving.problems import Problem, wrong_field
from serving.values import cut

_share: msgspec.json.Decoder[float] = msgspec.json.Decoder(Annotated[float, Meta(ge=0, le=1)])
QueryNames = Mapping[str, bool]
"""The names that a query may have, and of each whether it may stand there more than once."""


def check_names(query: str, known: QueryNames) -> None:
    """Check that a query has no other names than these. Raises `Problem` 422."""
    for name, times in Counter(name for name, _ in parse_qsl(query, True)).items():
        if name not in known:
            takes = f"this takes {', '.join(known)}" if known else "this takes none"
            raise _wrong_name(name, f"No such parameter; {takes}")
        if times > 1 and not known[name]:
            raise _wrong_name(name, f"Expected once; it is there {times} times")


def _wrong_name(name: str, reason: str) -> Problem:
    shown = cut(name)
    return Problem(422, f"{shown}: {reason}.", [wrong_field(shown, reason, None)])


def number(request: Request, name: str, least: int, most: int) -> int | None:
    """Return a whole number of the query, None where there is none. Raises `Problem` 422."""
    raw = request.query_params.get(name)
    if raw is None:
        return None
    if not raw.isascii() or not raw.isdigit() or len(raw) > 6 or not least <= int(raw) <= most:
        raise _wrong(name, f"Expected a whole number from {least} to {most}", raw)
    return int(raw)


def share(request: Request, name: str) -> float:
    """Return a number from 0 to 1 of the query, 0 where there is none. Raises `Problem` 422."""
    raw = request.query_params.get(name, "0")
    try:
        return _share.decode(raw)
    except (msgspec.MsgspecError, UnicodeEncodeError) as exc:
        raise _wrong(name, "Expected a number from 0 to 1", raw) from exc


def yes_or_no(request: Request, name: str) -> bool:
    """Return a truth value of the query, False where there is none. Raises `Problem` 422."""
    raw = request.query_params.get(name, "false")
    if raw not in ("true", "false"):
        raise _wrong(name, "Expected true or false", raw)
    return raw == "true"


def one_of(request: Request, name: str, values: Sequence[str]) -> str | None:
    """Return a word of the query, None where there is none. Raises `Problem` 422."""
    raw = request.query_params.get(name)
    if raw is not None and raw not in values:
        raise _wrong(name, f"Expected one of {', '.join(values)}", raw)
    return raw


def version_of(request: Request, name: str) -> str | None:
    """Return a version's name of the query, None where there is none. Raises `Problem` 422."""
    raw = request.query_params.get(name)
    if raw is not None and not is_version_name(raw):
        raise _wrong(name, "Expected the name of a version", raw)
    return raw


def category_of(request: Request) -> str | None:
    """Return the category of the query, None where there is none. Raises `Problem` 422."""
    raw = request.query_params.get("category")
    try:
        return None if raw is None else str(msgspec.convert(raw, ShortText))
    except msgspec.ValidationError as exc:
        raise _wrong("category", str(exc), raw or "") from exc


def words(request: Request, name: str, longest: int) -> str | None:
    """Return text of the query, None where there is none. Raises `Problem` 422 for a longer one."""
    raw = request.query_params.get(name)
    if raw is not None and len(raw) > longest:
        raise _wrong(name, f"Expected at most {longest} characters", raw)
    return raw


def _wrong(name: str, reason: str, raw: str) -> Problem:
    """Return what is wrong with a parameter of the query."""
    value = cut(raw)
    return Problem(422, f"{name}: {reason}; it is {value}", [wrong_field(name, reason, value)])
