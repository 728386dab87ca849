"""All of Headrace and a console, with a toy catalogue whose next item is obvious."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
from parts import PATIENCE_S, Part, eventually

from headrace.keys import KeyStore, Scope, make_key
from headrace.local.ports import claim_port
from headrace.settings import (
    ServingSettings,
    Settings,
    TopicSettings,
    TrainerSettings,
    WorkerSettings,
)
from headrace.store import connect
from headrace.topics import ensure_topics
from headrace.training_settings import TrainingSettings
from headrace_client import Client, Item, Purchase, Rating
from headrace_client.types import Task, TrainingRequest

KEY = "a key of the console's own tests"
RING, WALKERS, STEPS = 12, 20, 8
"""Who met item n of the ring meets item n + 1 next."""
TOGETHER, BUYERS = (9, 10), 5
"""Items of the ring that some have bought together."""
MARKUP = "<img src=x onerror=\"document.title='hacked'\"><b>bold</b>"
"""The title of item 0."""
OTHERS = 10_000
"""Items beside the ring, which nobody has met."""
TRAINED_WITHIN_S = 200.0
"""Only there against hanging."""
_TRAINING = TrainingSettings(
    width=16, session_length=6, min_events=100, min_steps=60, batch_size=16, learning_rate=0.01,
    future=1,
)  # fmt: skip


@dataclass(frozen=True)
class System:
    """What runs."""

    settings: Settings
    console: str
    """Its address."""
    server: Part
    console_part: Part
    worker: Part


@contextmanager
def running_system(broker: str, redis_url: str, folder: Path) -> Iterator[System]:
    """Run it until the block ends, with a catalogue, events and a first version."""
    settings = _settings(broker, redis_url, folder)
    port = claim_port(0, host="127.0.0.1", use="a console", option="")
    ensure_topics(settings)
    with ExitStack() as stack:
        parts = {
            name: stack.enter_context(Part(name, settings, folder))
            for name in ("serve", "worker", "trainer")
        }
        console = stack.enter_context(Part(f"console --port {port}", settings, folder))
        _wait(f"{settings.url}/readyz")
        _wait(f"http://127.0.0.1:{port}/livez")
        fill(settings)
        yield System(settings, f"http://127.0.0.1:{port}", parts["serve"], console, parts["worker"])


def fill(settings: Settings) -> None:
    """Send items and events, and have a first version trained."""
    start = time.time() - 7_200
    with Client(settings.url, settings.api_key) as client:
        client.put_items(
            Item(item_id=ring(n), title=title(n), categories=["Ring"]) for n in range(RING)
        )
        for first in range(0, OTHERS, 5_000):
            client.put_items(
                Item(item_id=f"other-{n}", title=f"Other {n}", categories=["Other"])
                for n in range(first, first + 5_000)
            )
        client.send_events(
            Rating(
                event_id=f"{user}-{step}",
                user_id=f"walker-{user}",
                item_id=ring(user + step),
                timestamp=start + 60 * step + user,
                rating=5.0,
            )
            for step in range(STEPS)
            for user in range(WALKERS)
        )
        client.send_events(
            Purchase(
                event_id=f"bought-{user}-{number}",
                user_id=f"buyer-{user}",
                item_id=ring(number),
                timestamp=start + number,
            )
            for user in range(BUYERS)
            for number in TOGETHER
        )
        wait_for_task(client, client.train(settings.model_id).id)


def wait_for_task(client: Client, task_id: str) -> None:
    """Wait until a training has put its version live."""
    task = wait_for_end(client, task_id)
    assert task.status == "SUCCEEDED", task.error


def train_once_more(settings: Settings) -> None:
    """Have another version made, whether it goes live or not."""
    with Client(settings.url, settings.api_key) as client:
        wanted = TrainingRequest(mode="full", force=True, epochs=2)
        wait_for_end(client, client.train(settings.model_id, wanted).id)


def wait_for_end(client: Client, task_id: str) -> Task:
    """Wait until a training has ended, whatever came of it."""
    deadline = time.monotonic() + TRAINED_WITHIN_S
    while (task := client.task(task_id)).status in ("QUEUED", "RUNNING"):
        assert time.monotonic() < deadline, task
        time.sleep(0.2)
    return task


def ring(number: int) -> str:
    """Return the id of an item of the ring."""
    return f"ring-{number % RING}"


def title(number: int) -> str:
    """Return its title."""
    return MARKUP if number % RING == 0 else f"The {number % RING} of the ring"


async def key_with(system: System, scopes: Sequence[Scope]) -> str:
    """Return a key with these scopes, once the server knows it."""
    made, key = make_key(tuple(scopes), now=0.0)
    redis = connect(system.settings)
    try:
        await KeyStore(redis, system.settings).add(made)
    finally:
        await redis.aclose()
    async with httpx.AsyncClient(base_url=system.settings.url, trust_env=False) as client:

        async def known() -> bool:
            bearer = {"authorization": f"Bearer {key}"}
            return (await client.get("/v1/tasks", headers=bearer)).status_code != 401

        await eventually(known, "the server knows the key")
    return key


def _settings(broker: str, redis_url: str, folder: Path) -> Settings:
    token = uuid.uuid4().hex[:12]
    settings = Settings(
        kafka=broker,
        redis=redis_url,
        namespace=f"test-{token}",
        model_id="shop",
        artifacts=str(folder / "artifacts"),
        archive=str(folder / "archive"),
        api_key=KEY,
        topics=TopicSettings(prefix=f"test-{token}-", partitions=2),
        worker=WorkerSettings(group=f"test-{token}", fetch_wait_ms=20),
        serving=ServingSettings(port=claim_port(0, host="127.0.0.1", use="a server", option="")),
        # A browser keeps the machine busy enough to starve what gives way to everything.
        trainer=TrainerSettings(niceness=0),
        training=_TRAINING,
    )
    return msgspec.structs.replace(settings, url=f"http://127.0.0.1:{settings.serving.port}")


def _wait(url: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, f"{url} does not answer"
        time.sleep(0.1)
