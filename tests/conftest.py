"""What every test shares: real brokers and a real Redis, and settings that are the test's own.

A test talks to the embedded broker, or to each of those that a mark names:
`pytestmark = pytest.mark.brokers("embedded", "apache")` in a module, or the same on a test.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest
import sharing
from parts import OwnKafka
from redis.asyncio import Redis
from sharing import pytest_collection_modifyitems, pytest_xdist_make_scheduler

from headrace.local import launch
from headrace.local.binaries import broker_command, find_broker, find_redis, redis_command
from headrace.local.ports import claim_port
from headrace.settings import Settings, TopicSettings
from headrace.store import connect

__all__ = ["pytest_collection_modifyitems", "pytest_xdist_make_scheduler"]

_STARTS_WITHIN_S = 30.0

# An example that takes long on a busy machine is no failure.
hypothesis.settings.register_profile("headrace", deadline=None)
hypothesis.settings.load_profile("headrace")


def pytest_configure(config: pytest.Config) -> None:
    sharing.keep_order(config)
    config.addinivalue_line("markers", "brokers(*names): run on each of these: embedded, apache")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("brokers")
    if mark and "kafka" in metafunc.fixturenames:
        metafunc.parametrize("kafka", mark.args, indirect=True)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an embedded broker that the tests of a file share: `127.0.0.1:PORT`.

    Each of its fetches looks through all batches: one for the whole run would be busy with it.
    """
    with _embedded_broker(tmp_path_factory.mktemp("broker")) as address:
        yield address


@pytest.fixture(scope="session")
def lasting_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of another one, for what lives through several files."""
    with _embedded_broker(tmp_path_factory.mktemp("broker")) as address:
        yield address


@contextmanager
def _embedded_broker(folder: Path) -> Iterator[str]:
    """Run an embedded broker until the block ends; give its address."""
    port = claim_port(0, host="127.0.0.1", use="the tests' broker", option="")
    command = broker_command(find_broker(os.environ), port)
    with _server(command, port, folder):
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="session")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a node of Apache Kafka that the whole run shares: `127.0.0.1:PORT`."""
    with OwnKafka(tmp_path_factory.mktemp("apache")) as node:
        yield node.address


@pytest.fixture
def kafka(request: pytest.FixtureRequest) -> str:
    """The address of the broker that this test runs on; only that one is started for it."""
    fixtures = {"embedded": "broker", "apache": "apache"}
    address: str = request.getfixturevalue(fixtures[getattr(request, "param", "embedded")])
    return address


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an empty Redis that the whole run shares."""
    port = claim_port(0, host="127.0.0.1", use="the tests' Redis", option="")
    folder = tmp_path_factory.mktemp("redis")
    with _server(redis_command(find_redis(os.environ), port, folder), port, folder):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def settings(kafka: str, redis_url: str, tmp_path: Path) -> Settings:
    """Settings with the keys, the topics and the consumer group of this test alone.

    The topics are not made yet; `headrace.topics.ensure_topics(settings)` makes them.
    """
    token = uuid.uuid4().hex[:12]
    base = Settings()
    return Settings(
        kafka=kafka,
        redis=redis_url,
        namespace=f"test-{token}",
        artifacts=str(tmp_path / "artifacts"),
        archive=str(tmp_path / "archive"),
        topics=TopicSettings(prefix=f"test-{token}-"),
        worker=type(base.worker)(group=f"test-{token}"),
        # Beside other tests one that gives way would never be done.
        trainer=type(base.trainer)(niceness=0),
    )


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    """A client of the Redis of `settings`."""
    client = connect(settings)
    yield client
    await client.aclose()


@contextmanager
def _server(command: tuple[str, ...], port: int, folder: Path) -> Iterator[None]:
    """Run a server until the block ends; it ends with this process, however that ends."""
    launcher = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()))
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            (*launcher, *command), stdout=output, stderr=output, cwd=folder, env={}
        )
    try:
        _wait_for_port(process, port, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"{process.args!r} does not listen on {port}:\n{log.read_text()[-2000:]}")
