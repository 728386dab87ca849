"""The examples of the OpenAPI document: each call has them, and they are what they stand for."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest
from events_log import NOW
from kafka_tools import bury
from serving_tools import check_problem

from headrace.settings import Settings
from serving import examples
from serving.app import ROUTES
from serving.openapi.document import document

DOCUMENT = document(ROUTES)
OPERATIONS = [
    pytest.param(path, method, operation, id=f"{method.upper()} {path}")
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
every_operation = pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)


@every_operation
def test_each_call_shows_examples_that_fit_their_schemas(
    path: str, method: str, operation: dict[str, Any]
) -> None:
    for where, shown in _examined(operation):
        assert "example" in shown, f"{where} lacks an example"
        schema = {**shown["schema"], "components": DOCUMENT["components"]}
        faults = jsonschema_rs.validator_for(schema).iter_errors(shown["example"])
        assert not [str(fault) for fault in faults], where


@every_operation
def test_a_problem_shows_the_status_that_it_is_answered_with(
    path: str, method: str, operation: dict[str, Any]
) -> None:
    for status, response in operation["responses"].items():
        for media, content in response.get("content", {}).items():
            if media == "application/problem+json":
                assert content["example"]["status"] == int(status)


async def test_the_server_takes_the_examples_of_requests_and_answers_like_those_of_answers(
    live: httpx.AsyncClient, settings: Settings
) -> None:
    # What the examples speak of.
    await bury(settings, "ratings", [(b"42", b'{"event_id": "a"}', "it lacks a field")])
    [letter] = (await live.get("/v1/dead-letters")).json()["dead_letters"]
    replay = (await live.post("/v1/replays", json={"dry_run": True})).json()
    event = {**_example("/v1/events", "post"), "timestamp": NOW}
    await live.put(f"/v1/items/{examples.ITEM_ID}", json=_example("/v1/items/{item_id}", "put"))
    assert (await live.post("/v1/events", json=event)).status_code == 202
    train = "/v1/models/{model_id}/train"
    task = (await live.post(train.format(model_id="default"), json=_example(train, "post"))).json()
    names = {"task_id": task["id"], "item_id": examples.ITEM_ID, "model_id": "default"}
    names |= {"letter_id": letter["id"], "replay_id": replay["id"]}
    names |= {"user_id": examples.USER_ID, "version": (await live.get("/readyz")).json()["model"]}

    taken = 0
    for path, method, operation in (each.values for each in OPERATIONS):
        # One never ends, others need a worker, a trainer or a version before; the rest end what the
        # others speak of.
        never = (
            "/stream",
            "/recommendations/{recommendation_id}",
            "/log",
            "/rollback",
            "/train",
            "/merge",
            "/resend",
            "/resume",
            "/promote",
        )
        if path.endswith(never) or (method == "delete" and "/hidden/" not in path):
            continue
        answer = await live.request(
            method.upper(),
            path.format(**names),
            json=_example(path, method),
            params={
                each["name"]: _in_query(each["example"])
                for each in operation["parameters"]
                if each["in"] == "query"
            },
        )
        assert answer.is_success, f"{method} {path}: {answer.text}"
        taken += 1
        content = operation["responses"][str(answer.status_code)].get("content")
        if content is not None:
            shown = content["application/json"]["example"]
            assert shown.keys() >= answer.json().keys(), path
    assert taken > 20


async def test_the_example_of_a_stale_answer_is_like_a_real_one(live: httpx.AsyncClient) -> None:
    asked = {"user_id": examples.USER_ID, "after": "ratings.3.999999", "timeout_ms": 0}
    problem = check_problem(await live.post("/v1/recommendations", json=asked), 409)
    content = DOCUMENT["paths"]["/v1/recommendations"]["post"]["responses"]["409"]["content"]
    shown = content["application/problem+json"]["example"]
    assert shown.keys() == problem.keys()
    assert shown["answer"].keys() == problem["answer"].keys()


def _in_query(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _example(path: str, method: str) -> Any:
    body = DOCUMENT["paths"][path][method].get("requestBody")
    return None if body is None else body["content"]["application/json"]["example"]


def _examined(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what of a call must have an example: parameters, the body, every answer."""
    for parameter in operation["parameters"]:
        yield f"parameter {parameter['name']}", parameter
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield "the body", content
    for status, response in operation["responses"].items():
        for content in response.get("content", {}).values():
            yield f"the answer {status}", content


async def test_the_page_shows_each_call_as_one_types_it(live: httpx.AsyncClient) -> None:
    page = html.unescape((await live.get("/docs")).text)
    assert (
        'curl -s "$HEADRACE_URL/v1/recommendations" -H "Authorization: Bearer $HEADRACE_API_KEY" '
        """-d '{"user_id":"42","k":10}'"""
    ) in page
    assert 'curl -s -X DELETE "$HEADRACE_URL/v1/users/42/hidden/21253"' in page
    assert 'curl -s "$HEADRACE_URL/readyz"\n' in page
    assert page.count("curl -s") == len(OPERATIONS)
