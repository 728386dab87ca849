"""A server and a worker as processes, which the tests of the clients share, and their key."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import msgspec
import pytest
from client_parts import KEY, until_ready
from parts import Part

from headrace.local.ports import claim_port
from headrace.settings import ServingSettings, Settings, TopicSettings, WorkerSettings
from headrace.topics import ensure_topics


@pytest.fixture(scope="module")
def system(
    broker: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, Part]]:
    """The settings of a running server and worker, and the server."""
    token = uuid.uuid4().hex[:12]
    folder = tmp_path_factory.mktemp("system")
    settings = Settings(
        kafka=broker,
        redis=redis_url,
        namespace=f"test-{token}",
        artifacts=str(folder / "artifacts"),
        archive=str(folder / "archive"),
        api_key=KEY,
        topics=TopicSettings(prefix=f"test-{token}-", partitions=2),
        worker=WorkerSettings(group=f"test-{token}"),
        serving=ServingSettings(port=claim_port(0, host="127.0.0.1", use="a server", option="")),
    )
    settings = msgspec.structs.replace(settings, url=f"http://127.0.0.1:{settings.serving.port}")
    ensure_topics(settings)
    with Part("serve", settings, folder) as server, Part("worker", settings, folder):
        asyncio.run(until_ready(settings.url))
        yield settings, server


@pytest.fixture
def url(system: tuple[Settings, Part]) -> str:
    """The address of the server."""
    return system[0].url


@pytest.fixture
def server(system: tuple[Settings, Part]) -> Part:
    """The server's process."""
    return system[1]
