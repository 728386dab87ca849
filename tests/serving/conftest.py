"""A server in the test's own process, on a real broker and a real Redis, and versions to serve."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
from events_log import NOW
from once import made_once
from redis.asyncio import Redis
from serving_tools import RING, USERS, V1, Serve, activate, ring

from headrace.catalog import Item
from headrace.events import KINDS, EventColumns
from headrace.sessions import SessionStore
from headrace.settings import Settings
from headrace.topics import ensure_topics
from headrace.training_settings import TrainingSettings
from headrace.versions import Manifest
from serving.app import create_app


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a version of users who walk round a ring of items, each item after the last.

    Every second one buys each item, the others rate it.
    """
    return made_once(tmp_path_factory, "trained", _train_walkers) / "default" / V1


def _train_walkers(artifacts: Path) -> None:
    from models.training.pipeline import train

    steps = np.repeat(np.arange(12), USERS)
    user = np.tile(np.arange(USERS), 12)
    columns = EventColumns(
        user=user.astype(np.int32),
        item=((user + steps) % RING).astype(np.int32),
        timestamp=NOW - 10_000 + 60.0 * steps + user / USERS,
        kind=np.where(user % 2, KINDS.index("rating"), KINDS.index("purchase")).astype(np.int8),
        rating=np.full(len(user), 5.0, np.float32),
        user_ids=tuple(f"walker-{n}" for n in range(USERS)),
        item_ids=tuple(ring(n) for n in range(RING)),
        through={"ratings": {"0": len(user)}},
    )
    items = [Item(item_id=ring(n), categories=("ring",)) for n in range(RING)]
    parameters = TrainingSettings(
        width=16, session_length=6, min_events=10, min_steps=200, batch_size=16,
        learning_rate=0.01, future=1, id_dropout=0.3,
        # Above a half: what nearly everyone does next comes first, whatever the towers say.
        rules_share=0.6,
    )  # fmt: skip
    train(columns, items, parameters, artifacts, "default", V1, lambda *_, **__: None)


@pytest.fixture
def add_version(trained: Path, settings: Settings) -> Callable[[str], Path]:
    """Puts the trained version into the artifacts under a name."""

    def add(version: str) -> Path:
        folder = Path(settings.artifacts) / "default" / version
        shutil.copytree(trained, folder)
        path = folder / "manifest.json"
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        path.write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, version=version)))
        return folder

    return add


@pytest.fixture
def serve() -> Serve:
    """Runs a server of these settings and gives a client of it."""

    @asynccontextmanager
    async def running(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
        # Without the log of requests, which goes past what pytest captures.
        app = create_app(msgspec.structs.replace(settings, log_level="WARNING"))
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                yield client

    return running


@pytest.fixture
async def client(settings: Settings, serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server of this test's own, without a model."""
    ensure_topics(settings)
    async with serve(settings) as client:
        yield client


@pytest.fixture
async def live(client: httpx.AsyncClient, add_version: Callable[[str], Path]) -> httpx.AsyncClient:
    """The same, with the first version live."""
    add_version(V1)
    await activate(client, V1)
    return client


@pytest.fixture
def sessions(redis: Redis, settings: Settings) -> SessionStore:
    return SessionStore(redis, settings)
