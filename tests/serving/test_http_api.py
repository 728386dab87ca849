"""What holds for the whole API: problems, keys, paths, the documents, the figures."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from events_log import logged
from kafka_tools import read_topic
from parts import eventually
from serving_tools import V1, V2, Serve, activate, check_problem, until_live, walk

from headrace.catalog import Item
from headrace.errors import InvalidSetting
from headrace.keys import SCOPES
from headrace.sessions import Session, SessionStore
from headrace.settings import ServingSettings, Settings
from headrace.topics import Topics
from serving.app import ROUTES
from serving.exposure import check_exposure
from serving.openapi.document import document

KEY = "s3cret key"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/events", 405),
        ("DELETE", "/v1/recommendations", 405),
        ("GET", "/v1/tasks/" + "0" * 32, 404),
        ("GET", "/v1/tasks/nothing", 422),
        ("GET", "/v1/items/nothing", 404),
        ("GET", "/v1/items/" + "x" * 257, 422),
        ("PUT", "/v1/items/" + "x" * 257, 422),
        ("DELETE", "/v1/items/a%0A", 422),
        ("GET", "/v1/users/" + "x" * 257 + "/interactions", 422),
        ("DELETE", "/v1/users/%00", 422),
        ("GET", "/v1/models/Not-An-Id/versions", 422),
        ("POST", "/v1/models/default%0A/train", 422),
        ("GET", "/v1/models/..%2F../versions", 422),
    ],
)
async def test_what_is_refused_is_a_problem_document(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    body: dict[str, Any] = {"json": {}} if method in ("PUT", "POST") else {}
    problem = check_problem(await client.request(method, path, **body), status)
    assert problem["detail"]


@pytest.mark.parametrize(
    ("method", "path", "field", "words"),
    [
        ("GET", "/v1/tasks?limti=5", "limti", "this takes kind, status, limit"),
        ("GET", "/v1/tasks?limit=5&limit=6", "limit", "it is there 2 times"),
        ("GET", "/v1/models?x", "x", "this takes none"),
        ("GET", "/v1/models/default/users?limit=1&%3Cb%3E=1", "<b>", "this takes limit"),
        ("DELETE", "/v1/items/a?force=true", "force", "this takes none"),
        ("POST", "/v1/models/default/train?force=true", "force", "this takes none"),
        ("HEAD", "/v1/items?ids=1", None, ""),
    ],
)
async def test_a_query_says_nothing_that_is_not_known(
    client: httpx.AsyncClient, method: str, path: str, field: str | None, words: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 422
    if field is not None:
        problem = check_problem(answer, 422)
        assert problem["errors"][0]["field"] == field
        assert words in problem["detail"]


async def test_what_a_query_may_say_several_times(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/items?id=a&id=b&limit=5")).status_code == 200


async def test_with_a_key_nothing_of_a_user_is_told_without_it(
    settings: Settings, serve: Serve
) -> None:
    async with serve(msgspec.structs.replace(settings, api_key=KEY)) as client:
        for route in ROUTES:
            if not route.path.startswith("/v1/"):
                continue
            path = route.path.replace("{", "").replace("}", "")
            for method in sorted((route.methods or set()) - {"HEAD"}):
                for value in (None, "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x"):
                    headers = {"authorization": value} if value else {}
                    answer = await client.request(method, path, headers=headers)
                    check_problem(answer, 401)
                    assert answer.headers["www-authenticate"].startswith("Bearer ")
        for path in ("/v1%2Fevents", "/%76%31/events", "//v1/events", "/livez/../v1/events"):
            assert (await client.post(path)).status_code in (401, 404)
        for path in ("/livez", "/metrics", "/openapi.json", "/docs"):
            assert (await client.get(path)).status_code == 200
        allowed = await client.get("/v1/tasks", headers={"authorization": f"bearer {KEY}"})
        assert allowed.status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])  # noqa: S104
def test_without_a_key_the_server_is_for_this_machine_alone(host: str) -> None:
    open_to_all = Settings(serving=ServingSettings(host=host))
    with pytest.raises(InvalidSetting, match=r"HEADRACE_SERVING_HOST.*HEADRACE_API_KEY"):
        check_exposure(open_to_all)
    check_exposure(msgspec.structs.replace(open_to_all, api_key=KEY))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_the_loopback_no_key_is_needed(host: str) -> None:
    check_exposure(Settings(serving=ServingSettings(host=host)))


ODD_IDS = ["a/b", "a b", "Ærøskøbing", "用户", "100%", "a%2Fb", "a?b#c", "..", "{x}", "a+b"]


async def test_any_id_can_stand_in_a_path(
    client: httpx.AsyncClient, settings: Settings, sessions: SessionStore
) -> None:
    from urllib.parse import quote

    for number, odd in enumerate(ODD_IDS):
        path = quote(odd, safe="").replace("..", "%2E%2E")
        await sessions.apply([logged(number, odd, f"i{number}")])
        held = (await client.get(f"/v1/users/{path}/interactions")).json()
        assert (held["user_id"], list(held["interactions"])) == (odd, [f"i{number}"])
        assert (await client.delete(f"/v1/users/{path}")).status_code == 204
        assert await sessions.read(odd) == Session()
        put = await client.put(f"/v1/items/{path}", json={"title": "new"})
        assert put.status_code == 202
        assert (await client.get(f"/v1/items/{path}")).json() == {"item_id": odd, "title": "new"}
        assert (await client.delete(f"/v1/items/{path}")).status_code == 202
    records = await asyncio.to_thread(read_topic, settings, "items")
    for odd in ODD_IDS:
        values = [record.value for record in records if record.key == odd.encode()]
        assert msgspec.json.decode(values[0], type=Item) == Item(item_id=odd, title="new")
        assert values[1:] == [None]


async def test_items_in_bulk_are_all_or_none(client: httpx.AsyncClient, settings: Settings) -> None:
    items = [{"item_id": f"i{n}", "price": n} for n in range(5)]
    wrong = [*items, {"item_id": "x", "price": -1}]
    problem = check_problem(await client.post("/v1/items", json=wrong), 422, "1 of 6 items")
    assert [(each["index"], each["field"]) for each in problem["errors"]] == [(5, "price")]
    assert await asyncio.to_thread(read_topic, settings, "items") == []
    answer = await client.post("/v1/items", json=items)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 5})
    records = await asyncio.to_thread(read_topic, settings, "items")
    assert sorted(record.key for record in records) == [f"i{n}".encode() for n in range(5)]


async def test_the_openapi_document_describes_every_route(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["title"]
    assert document["info"]["version"]
    operations = {}
    for route in ROUTES:
        for method in sorted((route.methods or set()) - {"HEAD"}):
            if route.path.startswith("/v1/"):
                operations[method, route.path] = document["paths"][route.path][method.lower()]
    assert len({each["operationId"] for each in operations.values()}) == len(operations)
    for (method, path), operation in operations.items():
        assert operation["summary"], path
        assert [*operation["security"][0]] == ["key"]
        assert all(
            # What a key is for, any key may ask.
            set(scopes) <= set(SCOPES) and len(scopes) == (path != "/v1/key")
            for scheme in operation["security"]
            for scopes in scheme.values()
        )
        named = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        assert [f"{{{name}}}" for name in named] == [
            part for part in path.split("/") if part.startswith("{")
        ]
        assert {"401", "403", "429"} <= operation["responses"].keys()
        assert any(status.startswith("2") for status in operation["responses"])
        assert all(each["description"] for each in operation["responses"].values())
        path_says_all = path.endswith(
            (
                "activate",
                "rollback",
                "/pin",
                "/models/{model_id}",
                "/hidden/{item_id}",
                "/resume",
                "/promote",
            )
        )
        has_body = method in ("POST", "PUT") and not path_says_all
        assert ("requestBody" in operation) == has_body, path
    references = list(find_references(document))
    assert references
    for reference in references:
        target = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]


def find_references(node: Any) -> Any:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from find_references(each)


async def test_a_rollback_to_files_that_are_gone_is_told_as_the_document_says(
    live: httpx.AsyncClient, add_version: Callable[[str], Path], settings: Settings, serve: Serve
) -> None:
    add_version(V2)
    await activate(live, V2)
    # One that has just started does not hold the version before.
    async with serve(settings) as other:
        await until_live(other, V2)
        shutil.rmtree(Path(settings.artifacts) / "default" / V1)
        check_problem(await other.post("/v1/models/default/rollback"), 404, V1)
    path = document(ROUTES)["paths"]["/v1/models/{model_id}/rollback"]
    assert "404" in path["post"]["responses"]


@pytest.mark.parametrize("path", ["/v1/events", "/v1/models/{model_id}/events", "/v1/items"])
async def test_the_example_of_lines_is_taken(client: httpx.AsyncClient, path: str) -> None:
    contents = document(ROUTES)["paths"][path]["post"]["requestBody"]["content"]
    rows = contents["application/x-ndjson"]["example"]
    answer = await client.post(
        path.replace("{model_id}", "default"),
        content=b"\n".join(map(msgspec.json.encode, [*rows, *rows])),
        headers={"content-type": "application/x-ndjson"},
    )
    assert answer.status_code == 202, answer.text


async def test_the_examples_of_the_document_are_taken(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    for path in (
        "/v1/events",
        "/v1/recommendations",
        "/v1/models/{model_id}/recommendations",
        "/v1/items",
        "/v1/models/{model_id}/train",
    ):
        operation = document["paths"][path]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        answer = await client.post(path.replace("{model_id}", "default"), json=example)
        assert str(answer.status_code) in operation["responses"]
        assert answer.is_success, answer.text


async def test_the_page_shows_every_route_and_needs_nothing_else(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    for route in ROUTES:
        if route.path.startswith("/v1/"):
            assert route.path in answer.text
    assert "<script" not in answer.text
    assert "http://" not in answer.text
    assert "https://" not in answer.text


async def test_requests_are_counted_under_their_route(
    client: httpx.AsyncClient, sessions: SessionStore
) -> None:
    await walk(sessions, "ann", 1)
    for user in ("ann", "bob", "a/b"):
        await client.get(f"/v1/users/{user.replace('/', '%2F')}/interactions")
    await client.post("/v1/recommendations", json={})
    await client.get("/no/such/path")
    figures = (await client.get("/metrics")).text
    route = 'route="/v1/users/{user_id}/interactions"'
    assert f'headrace_http_requests_total{{method="GET",{route},status="200"}} 3.0' in figures
    assert f"headrace_http_request_seconds_count{{{route}}} 3.0" in figures
    assert (
        'headrace_http_requests_total{method="POST",route="/v1/recommendations",status="422"} 1.0'
        in figures
    )
    assert 'route="none",status="404"' in figures
    assert "/no/such/path" not in figures


async def test_a_server_is_ready_when_redis_and_kafka_answer(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    async def is_ready() -> bool:
        return (await client.get("/readyz")).status_code == 200

    await eventually(is_ready, "the server is ready")
    assert (await client.get("/readyz")).json() == {
        "ready": True,
        "redis": True,
        "kafka": True,
        "model_id": "default",
        "model": None,
        "loading": False,
        "refused": None,
        "refusals": {},
        "arms": {},
    }
    models = (await client.get("/v1/models")).json()
    nothing = {"live": None, "pinned": None, "rollback": None, "deleted": False}
    topics = list(Topics(settings).events)
    assert models == {"models": [{"id": "default", **nothing, "topics": topics}]}
    versions = (await client.get("/v1/models/default/versions")).json()
    assert versions == {"versions": [], "trending": None}
