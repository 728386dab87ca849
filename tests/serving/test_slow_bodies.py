"""Bodies that come slowly, or not to their end, to a server's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from parts import Part, eventually

from headrace.local.ports import claim_port
from headrace.settings import ServingSettings, Settings
from headrace.topics import ensure_topics
from serving.app import ROUTES
from serving.openapi.document import document

WAIT_S = 1.0
JSON = ("application/json", b'{"user_id": "ann"}')
FORM = ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; ")
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def served(
    settings: Settings, tmp_path: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, Part, int]]:
    """A client of a server that waits a second for more of a body; the server, and its port."""
    port = claim_port(0, host="127.0.0.1", use="a test's server", option="")
    serving = ServingSettings(port=port, body_wait_s=WAIT_S)
    settings = msgspec.structs.replace(settings, serving=serving)
    ensure_topics(settings)
    with Part("serve", settings, tmp_path) as server:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

            async def answers() -> bool:
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(answers, "the server is ready")
            yield client, server, port


@asynccontextmanager
async def begun(port: int, path: str, kind: str, length: int) -> AsyncIterator[Connection]:
    """A connection over which a request has been sent, up to its body of so many bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    about = f"Host: h\r\nContent-Type: {kind}\r\nContent-Length: {length}"
    writer.write(f"POST {path} HTTP/1.1\r\n{about}\r\n\r\n".encode())
    try:
        yield reader, writer
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/v1/recommendations", *JSON),
        ("/v1/events", *JSON),
        ("/v1/models/default/train", *FORM),
    ],
)
async def test_a_body_that_does_not_go_on_is_a_408(
    served: tuple[httpx.AsyncClient, Part, int], path: str, kind: str, body: bytes
) -> None:
    client, _, port = served
    async with begun(port, path, kind, 1_000) as (reader, writer):
        writer.write(body)
        # To the end: the connection is closed.
        answer = (await asyncio.wait_for(reader.read(), 30 * WAIT_S)).decode()
        assert answer.startswith("HTTP/1.1 408 ")
        assert "application/problem+json" in answer
        assert "No more of the body has come for 1 s" in answer
    assert (await client.get("/livez")).status_code == 200


async def test_a_body_that_goes_on_may_take_long(
    served: tuple[httpx.AsyncClient, Part, int],
) -> None:
    _, _, port = served
    kind, body = JSON
    async with begun(port, "/v1/recommendations", kind, len(body)) as (reader, writer):
        for at in range(0, len(body), 4):
            await asyncio.sleep(0.3 * WAIT_S)
            writer.write(body[at : at + 4])
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", ["/v1/recommendations", "/v1/events"])
async def test_a_client_that_goes_before_its_body_has_come_is_no_fault_of_the_server(
    served: tuple[httpx.AsyncClient, Part, int], path: str
) -> None:
    client, server, port = served
    kind, body = JSON
    async with begun(port, path, kind, 1_000) as (_, writer):
        writer.write(body)
        await writer.drain()
        await asyncio.sleep(0.2)
    told = f'headrace_http_requests_total{{method="POST",route="{path}",status="499"}} 1.0'

    async def is_counted() -> bool:
        return told in (await client.get("/metrics")).text

    await eventually(is_counted, "it is counted as a 499")
    assert "Traceback" not in server.log()


def test_the_document_tells_of_each_call_with_a_body_that_it_may_be_late() -> None:
    for path, operations in document(ROUTES)["paths"].items():
        for method, operation in operations.items():
            late = "408" in operation["responses"]
            assert late == ("requestBody" in operation), f"{method} {path}"
