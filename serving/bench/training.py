"""A server beside a trainer on the same machine: its latency without a training, and during one.

What is trained is a log that is made up, in Kafka as any other. The version that serves is pinned,
so that nothing but the training happens: what loading and swapping in a version costs is measured
by `swap_p99_ratio` of the benchmark of serving.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
import numpy as np

from headrace.errors import StackError
from headrace.events import Click
from headrace.local.process import ChildProcess
from headrace.local.stack import part_environ
from headrace.producer import Producer, Row
from headrace.settings import Settings
from headrace.store import connect
from headrace.task_store import TaskStore
from headrace.tasks import Task
from headrace.topics import Topics, ensure_topics
from headrace.training_requests import TrainingRequest
from headrace.version_store import VersionStore
from serving.bench import load
from serving.bench.ground import CLUSTER, Ground
from serving.bench.phases import checked
from serving.bench.plain import PATH
from serving.bench.server import Server, ask

_CONNECTIONS = 64
_ROWS = 1_000
_APART_S = 60.0
_LENGTH = 50
"""Events of a user."""
_LOOK_S = 0.2
_PIECE_S = 5.0
"""Of a load that goes on until a training ends."""
_STOP_WITHIN_S = 10.0
TRAINER = (sys.executable, "-m", "headrace.cli", "trainer")


@dataclass(frozen=True)
class Seen:
    """An open loop at one rate."""

    requests: int
    """That were answered with what they asked for."""
    refused: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Beside:
    """A training, and what was seen of the server meanwhile and before."""

    without: Seen
    during: Seen
    training_s: float
    """From the request to the end of the task, under this load."""

    @property
    def p99_ratio(self) -> float:
        """Return the 99th percentile during the training over that without it."""
        return self.during.p99_ms / self.without.p99_ms


async def send_events(settings: Settings, count: int, items: int) -> None:
    """Write so many clicks to Kafka, of users who each walk among items that lie together."""
    await asyncio.to_thread(ensure_topics, settings)
    rng, began = np.random.default_rng(1), time.time() - _APART_S * _LENGTH
    producer, topic = Producer(settings), Topics(settings).name("clicks")
    try:
        for first in range(0, count, _ROWS):
            rows = [_click(rng, number, items, began) for number in range(first, first + _ROWS)]
            await producer.send_batched(topic, rows)
    finally:
        await producer.close()


def _click(rng: np.random.Generator, number: int, items: int, began: float) -> Row:
    user, place = divmod(number, _LENGTH)
    cluster = user % max(1, items // CLUSTER)
    # Most go on to the item after the last one; some anywhere in the cluster.
    step = place if rng.random() < 0.7 else int(rng.integers(CLUSTER))
    event = Click(
        event_id=f"made-up-{number}",
        user_id=f"walker-{user:06}",
        item_id=f"item-{CLUSTER * cluster + (user + step) % CLUSTER:07}",
        timestamp=began + _APART_S * place,
    )
    return Row(event.user_id.encode(), msgspec.json.encode(event), int(1000 * time.time()))


@asynccontextmanager
async def shipped_trainer(ground: Ground) -> AsyncIterator[None]:
    """A process of `headrace trainer`, until the block ends."""
    process = await ChildProcess.start(
        TRAINER,
        environ=part_environ(ground.environ, ground.settings),
        log=ground.logs / "trainer.log",
    )
    try:
        yield
    finally:
        await process.stop(_STOP_WITHIN_S)


async def pin(settings: Settings, version: str) -> None:
    """Put a version live, and let no training put another one in its place."""
    redis, producer = connect(settings), Producer(settings)
    try:
        store = VersionStore(redis, settings, producer)
        await store.pin(settings.model_id, version, now=time.time(), reason="benchmark")
    finally:
        await producer.close()
        await redis.aclose()


async def beside_training(
    ground: Ground, server: Server, *, rate: float, seconds: float, epochs: int
) -> Beside:
    """Ask for so many seconds; then again, for as long as a training takes.

    Raises `StackError` when the training fails.
    """
    without = _of([await _ask(ground, server, rate, seconds)])
    training = asyncio.create_task(_train(ground, epochs))
    try:
        pieces = [await _ask(ground, server, rate, _PIECE_S)]
        while not training.done():
            pieces.append(await _ask(ground, server, rate, _PIECE_S))
        task = await training
    finally:
        training.cancel()
    # The last piece goes on when the training has ended.
    during = pieces[:-1] or pieces
    if task.status not in ("SUCCEEDED", "REJECTED"):
        raise StackError(f"The training: {task.status}: {task.error or task.step}")
    return Beside(without, _of(during), (task.finished_at or 0.0) - task.created_at)


async def _train(ground: Ground, epochs: int) -> Task:
    """Ask for a training of all that there is; return its task once it has ended."""
    redis = connect(ground.settings)
    try:
        tasks = TaskStore(redis, ground.settings)
        request = TrainingRequest(
            mode="full", epochs=epochs, params={"patience": epochs}, force=True, reason="benchmark"
        )
        task = await tasks.create(request, uuid.uuid4().hex, now=time.time())
        while task.status in ("QUEUED", "RUNNING"):
            await asyncio.sleep(_LOOK_S)
            task = await tasks.get(task.id)
        return task
    finally:
        await redis.aclose()


async def _ask(ground: Ground, server: Server, rate: float, seconds: float) -> load.Seen:
    asked = load.Load(
        port=server.port,
        path=PATH,
        bodies=ground.bodies,
        connections=_CONNECTIONS,
        seconds=seconds,
        rate=rate,
        headers=ground.headers,
        each=True,
    )
    return checked(await ask(ground, asked))


def _of(pieces: Sequence[load.Seen]) -> Seen:
    """Return what was seen in all of the pieces together.

    Raises `StackError` when every request was refused.
    """
    each_ms = np.concatenate([piece.each_ms for piece in pieces])
    if not len(each_ms):
        raise StackError("The server refused every request; the machine is too busy to measure on.")
    p50_ms, p99_ms = np.percentile(each_ms, (50, 99)).tolist()
    return Seen(len(each_ms), sum(piece.of("503").count for piece in pieces), p50_ms, p99_ms)
