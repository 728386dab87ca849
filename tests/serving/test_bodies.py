"""What bodies may be: how long, how deep, of what; and what is said of those that may not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_tools import check_problem

from serving.nesting import MAX_DEPTH, is_too_deep
from serving.values import value_at

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=60,
)


def depth_of(value: Any) -> int:
    inner = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    )
    return 0 if inner is None else 1 + max(map(depth_of, inner), default=0)


@given(JSON, st.integers(0, 20))
def test_the_depth_of_json_is_seen_whatever_its_strings_hold(value: Any, more: int) -> None:
    for _ in range(more):
        value = {'"[{\\': [value]} if more % 2 else [value]
    too_deep = depth_of(value) > MAX_DEPTH
    assert is_too_deep(msgspec.json.encode(value)) is too_deep
    assert is_too_deep(msgspec.json.format(msgspec.json.encode(value))) is too_deep


def test_brackets_in_strings_are_no_levels() -> None:
    assert not is_too_deep(b'["' + b"[{" * 100 + b'\\"' + b"[" * 100 + b'"]')
    assert is_too_deep(b"[" * 100_000)
    assert is_too_deep(b'{"a":' * 17 + b"1" + b"}" * 17)
    assert not is_too_deep(b'{"a":' * 16 + b"1" + b"}" * 16)
    assert not is_too_deep(b'{"a":[1]}\n' * 1_000)


@given(st.binary())
def test_bytes_of_any_kind_are_looked_at(raw: bytes) -> None:
    is_too_deep(raw)
    value_at(raw, "a[0].b")


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        ("k", "501"),
        ("ids[1]", '""'),
        ("ids[9]", None),
        ("map[...].x", None),
        ("map.a.x", '"y"'),
        ('map["a"].x', '"y"'),
        ('map["b \\" ]"].x', "3"),
        ('map["c"].x', None),
        ("none", None),
        ("k.x", None),
        ("", None),
        ("long", '"' + "x" * 99 + "…"),
    ],
)
def test_the_value_of_a_field_is_found_and_cut(field: str, shown: str | None) -> None:
    raw = msgspec.json.encode(
        {
            "k": 501,
            "ids": ["a", ""],
            "map": {"a": {"x": "y"}, 'b " ]': {"x": 3}},
            "long": "x" * 1_000,
        }
    )
    assert value_at(raw, field) == shown


@pytest.mark.parametrize(
    ("body", "field", "words", "value"),
    [
        ({"k": 501}, "k", "<= 500", "501"),
        ({"k": "many"}, "k", "Expected `int`", '"many"'),
        ({"user_id": "x" * 257}, "user_id", "length <= 256", '"' + "x" * 99 + "…"),
        ({"candidate_ids": ["a", ""]}, "candidate_ids[1]", "length >= 1", '""'),
        ({"user_id": "a\n"}, "user_id", "not allowed", '"a\\n"'),
        ({"user_interactions": {"\x00": {"timestamp": 1}}}, "user_interactions", "allowed", None),
        ({"other": [1]}, "other", "is not a field", "[1]"),
        ({"user_id": "a", "filter": {"year": {"gt": "new"}}}, "filter.year.gt", "int", '"new"'),
        ({"user_id": "a", "cursor": "no"}, "cursor", "is not one", '"no"'),
    ],
)
async def test_a_problem_names_the_field_the_limit_and_the_value(
    client: httpx.AsyncClient, body: dict[str, Any], field: str, words: str, value: str | None
) -> None:
    problem = check_problem(await client.post("/v1/recommendations", json=body), 422, field)
    [error] = problem["errors"]
    assert error["field"] == field
    assert words in error["reason"]
    if value is not None:
        assert error["value"] == value
        assert value in problem["detail"]


async def test_an_id_in_a_path_is_told_in_words(client: httpx.AsyncClient) -> None:
    problem = check_problem(await client.get("/v1/items/%07"), 422, "item_id: has a character")
    assert "regex" not in problem["detail"]
    # Not the replacement character, which is another id.
    check_problem(await client.get("/v1/items/%ff"), 422, "item_id: is not UTF-8")
    check_problem(await client.get("/v1/items/%EF%BF%BD"), 404)


async def test_of_many_rows_each_wrong_value_is_named(client: httpx.AsyncClient) -> None:
    rows = [{"item_id": f"i{n}", "price": -n} for n in range(3)]
    problem = check_problem(await client.post("/v1/items", json=rows), 422, "it is -1")
    assert [(each["index"], each["value"]) for each in problem["errors"]] == [(1, "-1"), (2, "-2")]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_numbers_are_finite(client: httpx.AsyncClient, number: str) -> None:
    body = f'{{"user_interactions": {{"a": {{"timestamp": {number}}}}}}}'
    check_problem(await client.post("/v1/recommendations", content=body), 422)


async def test_what_is_nested_too_deeply_is_refused(client: httpx.AsyncClient) -> None:
    deep = b'{"user_id":' + b"[" * 17 + b"]" * 17 + b"}"
    for path in ("/v1/recommendations", "/v1/events", "/v1/items", "/v1/models/default/train"):
        check_problem(await client.post(path, content=deep), 422, "deeper than 16")
        check_problem(await client.post(path, content=b"[" * 500_000), 422, "deeper than 16")


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [
        ("POST", "/v1/recommendations", 1 << 20),
        ("POST", "/v1/models/default/train", 1 << 20),
        ("POST", "/v1/users/bob/token", 1 << 20),
        ("PUT", "/v1/items/i", 1 << 20),
        ("POST", "/v1/events", 8 << 20),
        ("POST", "/v1/items", 8 << 20),
    ],
)
async def test_a_body_is_counted_as_it_comes(
    client: httpx.AsyncClient, method: str, path: str, limit: int
) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 16
            yield b" " * (1 << 16)

    # Nobody says how long it will be.
    answer = await client.request(method, path, content=endless())
    check_problem(answer, 413, f"{limit:,} bytes")
    assert limit < sent <= limit + (1 << 17)
    fits = await client.request(method, path, content=b" " * limit)
    assert fits.status_code != 413
    # Who says so is refused before anything is sent.
    told = {"content-length": str(limit + 1)}
    check_problem(await client.request(method, path, headers=told, content=b""), 413)
