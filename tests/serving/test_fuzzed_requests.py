"""Whatever a client sends as a body, key or token: it is read, or a problem says what is wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from headrace.keys import split_key
from headrace.training_requests import TrainingRequest
from serving.bodies import NDJSON, read_bulk, read_json
from serving.problems import Problem, respond
from serving.schemas.items import ItemBody
from serving.schemas.recommendations import RecommendationRequest
from serving.schemas.users import TokenRequest
from serving.user_tokens import UserToken, read_token, write_token

BODIES = (ItemBody, RecommendationRequest, TokenRequest, TrainingRequest)
FIELDS = sorted({field.name for of in BODIES for field in msgspec.structs.fields(of)})
TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FIELDS, "timestamp", "rating"]) | TEXT, inner)
    ),
    max_leaves=20,
)
RAW = (
    st.binary(max_size=300)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(FIELDS), VALUES).map(
        lambda value: json.dumps(value).encode(errors="surrogatepass")
    )
    | st.integers(0, 100_000).map(lambda depth: b'{"k":' * depth)
    | st.integers(0, 100_000).map(lambda depth: b"[" * depth + b"]" * depth)
)
CHUNKS = st.integers(1, 7)


def request_of(raw: bytes, size: int, content_type: str = "application/json") -> Request:
    """A request whose body comes in pieces of this size."""
    pieces = [raw[at : at + size] for at in range(0, min(len(raw), 100), size)]
    pieces.append(raw[len(b"".join(pieces)) :])

    async def receive() -> Message:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    headers = [(b"content-type", content_type.encode("latin-1", "replace"))]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def read_or_problem(read: Awaitable[Any]) -> Any:
    """What was read; None after a problem, which must be one that can be sent."""

    async def reading() -> Any:
        return await read

    try:
        return asyncio.run(reading())
    except Problem as problem:
        _check(problem)
        return None


def _check(problem: Problem) -> None:
    assert problem.status in (401, 413, 422)
    body = json.loads(bytes(respond(problem).body))
    assert body["detail"]
    assert all(len(error.get("value", "")) <= 101 for error in body.get("errors", ()))


@pytest.mark.parametrize("of", BODIES)
def test_a_body_is_of_its_type_or_a_problem(of: type[msgspec.Struct]) -> None:
    @given(RAW, CHUNKS)
    def check(raw: bytes, size: int) -> None:
        body = read_or_problem(read_json(request_of(raw, size), of))
        if body is not None:
            assert isinstance(body, of)
            # What was taken can be written and taken again: no NaN, no half of a character.
            again = msgspec.json.encode(body)
            assert read_or_problem(read_json(request_of(again, 7), of)) == body

    check()


@given(RAW, CHUNKS, st.sampled_from([NDJSON, f"{NDJSON}; charset=utf-8", "", "text/plain"]) | TEXT)
def test_many_rows_are_told_apart_or_a_problem(raw: bytes, size: int, content_type: str) -> None:
    rows = read_or_problem(read_bulk(request_of(raw, size, content_type)))
    assert rows is None or (rows and all(row.strip() for row in rows))


@given(TEXT, st.binary(min_size=1, max_size=40))
def test_a_token_is_read_as_it_was_written_and_only_so(user_id: str, damage: bytes) -> None:
    secret = b"s" * 32
    user_id = user_id.encode(errors="replace").decode()
    token = UserToken(user_id, ("recommend",), 10.0, "key")
    text = write_token(token, secret)
    assert read_token(text, secret, now=9.0) == token
    tail = damage.decode("latin-1")
    for wrong in (text + tail, tail + text, text[:-3], f"hu_{tail}", f"hu_.{tail}", tail):
        try:
            assert read_token(wrong, secret, now=9.0) is None
        except Problem as problem:
            _check(problem)


@given(TEXT | st.from_regex(r"hr_[0-9a-f]{10,14}_[A-Za-z0-9_-]{41,45}"))
def test_what_looks_like_a_key_is_one_or_none(text: str) -> None:
    found = split_key(text)
    assert found is None or f"hr_{found[0]}_{found[1]}" == text
