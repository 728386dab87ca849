"""The trainer's process: retrain events become tasks, tasks become versions.

TensorFlow is not imported here: each training runs in a process of its own (`job`), and a crash of
it leaves this one, and the version that serves, as they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Callable

import msgspec
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from headrace.artifact_store import ArtifactStore
from headrace.cancellation import cancel_until_done
from headrace.errors import Away, HeadraceError
from headrace.known_types import make_types_known
from headrace.logs import configure_logging
from headrace.producer import Producer
from headrace.settings import Settings
from headrace.signatures import TrustedKeys, signer
from headrace.store import connect
from headrace.task_files import TaskWork
from headrace.task_store import Claim, TaskStore
from headrace.topics import ensure_topics
from headrace.version_store import VersionStore
from models.training.beat import Beat
from models.training.cluster_config import ClusterConfig
from models.training.follower import Follower
from models.training.leftovers import Leftovers
from models.training.rendezvous import Rendezvous
from models.training.replays import Replays
from models.training.requests import RetrainRequests, ask_by_clock
from models.training.retention import Retention
from models.training.runner import Runner
from models.training.schedule import ClockTrigger

logger = logging.getLogger(__name__)

_LOOK_S = 0.5
"""How often an idle trainer looks for a task."""
_TICK_S = 1.0
"""How often a trainer looks at the clock."""
_AGAIN_S = 2.0
"""Pause after Redis or Kafka was away."""
_AWAY_S = (4.0, 16.0, 60.0, 60.0)
"""Pauses after the first, second, … attempt at a task while Kafka, the store of versions or a
machine is away: in sum they outlast a restart."""


def run(settings: Settings, cluster: ClusterConfig | None = None) -> None:
    """Run a trainer until SIGTERM or SIGINT; in a cluster the chief's, or one that follows it.

    Raises `HeadraceError` when Kafka is not there, and `InvalidSetting` for keys that are none.
    """
    configure_logging(settings)
    if cluster is not None:
        # Each of its processes can be in one training only.
        trainer = msgspec.structs.replace(settings.trainer, concurrency=1)
        settings = msgspec.structs.replace(settings, trainer=trainer)
    # Now, not at the end of the first training.
    signer(settings.versions)
    TrustedKeys.of(settings.versions)
    ensure_topics(settings)
    make_types_known()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run_until_stopped(settings, cluster))


async def _run_until_stopped(settings: Settings, cluster: ClusterConfig | None) -> None:
    if cluster is None or cluster.is_chief:
        service = asyncio.create_task(Trainer(settings, cluster).run())
    else:
        service = asyncio.create_task(Follower(settings, cluster).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, service.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await service


class Trainer:
    """Follows the retrain events, works through the queue of tasks, and tells that it is well."""

    def __init__(
        self,
        settings: Settings,
        cluster: ClusterConfig | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`cluster`: the processes whose chief this one is; None: each training runs here alone."""
        self._settings = settings
        self._clock = clock
        self._redis = connect(settings)
        self._beat = Beat(self._redis, settings, clock)
        self._producer = Producer(settings)
        self._rendezvous = Rendezvous(self._redis, settings, cluster) if cluster else None
        self._tasks = TaskStore(self._redis, settings)
        self._versions = VersionStore(self._redis, settings, self._producer)
        self._retention = Retention(settings, self._versions, ArtifactStore(settings), clock)
        self._leftovers = Leftovers(settings, self._tasks)
        self._replays = Replays(settings, self._redis)
        self._clock_triggers = [
            ClockTrigger(self._redis, settings.of_model(model_id))
            for model_id in settings.model_ids
        ]
        self._running: dict[asyncio.Task[None], str] = {}
        """By the training, its model."""
        self._ended = {"trained": 0, "failed": 0}
        self._requests = RetrainRequests(settings, self._redis, self._tasks, self._producer, clock)

    async def run(self) -> None:
        """Run until cancelled."""
        parts = [
            asyncio.create_task(self._follow_requests()),
            asyncio.create_task(self._follow_clock()),
            asyncio.create_task(self._work()),
            asyncio.create_task(self._beat.run(lambda: self._state, self._figures)),
            asyncio.create_task(self._retention.run()),
            asyncio.create_task(self._replays.run()),
            asyncio.create_task(self._leftovers.run()),
        ]
        try:
            # The first one to fail ends the process, whose supervisor starts it again.
            await asyncio.gather(*parts)
        finally:
            for part in (*parts, *self._running):
                await cancel_until_done(part)
            await self._producer.close()
            await self._redis.aclose()

    async def _follow_requests(self) -> None:
        while True:
            try:
                await self._requests.follow()
            except (RedisError, KafkaError, OSError, HeadraceError) as exc:
                logger.warning("retrain events cannot be read: %r", exc)
            await asyncio.sleep(_AGAIN_S)

    async def _follow_clock(self) -> None:
        while True:
            try:
                for trigger in self._clock_triggers:
                    await ask_by_clock(self._tasks, trigger, now=self._clock())
            except (RedisError, OSError) as exc:
                logger.warning("the clock cannot ask for a training: %r", exc)
            await asyncio.sleep(_TICK_S)

    async def _work(self) -> None:
        took_back = self._rendezvous is not None
        while True:
            pause = _LOOK_S
            self._clear()
            try:
                if not took_back:
                    await self._take_back()
                    took_back = True
                await self._queue_held()
                if len(self._running) < self._settings.trainer.concurrency:
                    claim = await self._tasks.claim(now=self._clock())
                    if claim is not None:
                        running = asyncio.create_task(self._train(claim))
                        self._running[running] = claim.task.model_id
                        pause = 0.0
            except (RedisError, OSError, HeadraceError) as exc:
                logger.warning("the queue of tasks cannot be worked on: %r", exc)
                pause = _AGAIN_S
            await asyncio.sleep(pause)

    async def _take_back(self) -> None:
        """Give back the tasks that trainers of this host held when they died.

        So after a restart nobody waits for their leases to run out.
        """
        for task in await self._tasks.newest(status="RUNNING"):
            work = TaskWork(self._settings, task.model_id, task.id)
            number = await asyncio.to_thread(work.left_by_dead)
            if number is not None:
                logger.info("task %s was held by a process that has died", task.id)
                await self._tasks.release(task, number, counts=True)

    async def _queue_held(self) -> None:
        for task in await self._tasks.queue_held(now=self._clock()):
            level = logging.INFO if task.error is None else logging.ERROR
            logger.log(level, "task %s waits no more: %s", task.id, task.error or task.step)

    def _clear(self) -> None:
        """Forget trainings that have ended. Raises what ended one that should not have."""
        for each in [each for each in self._running if each.done()]:
            del self._running[each]
            each.result()

    async def _train(self, claim: Claim) -> None:
        runner = Runner(
            self._settings, self._tasks, self._versions, claim, self._clock, self._rendezvous
        )
        try:
            await runner.run()
        except (RedisError, KafkaError, OSError, Away) as exc:
            logger.warning("task %s is broken off: %r", claim.task.id, exc)
            # A disk that is full, a store that may not be written, or a Kafka of another address
            # would break it off for ever.
            counts = not isinstance(exc, (RedisError, KafkaError))
            # While Redis is away, too, the lease runs out.
            with contextlib.suppress(RedisError, OSError):
                await self._tasks.release(
                    claim.task,
                    claim.fence,
                    counts=counts,
                    pause_s=_AWAY_S[claim.attempt - 1] if isinstance(exc, Away) else _AGAIN_S,
                )
        self._ended["trained"] += runner.task.status == "SUCCEEDED"
        self._ended["failed"] += runner.task.status == "FAILED"

    def _figures(self) -> dict[str, float]:
        return {name: float(count) for name, count in self._ended.items()}

    @property
    def _state(self) -> str:
        models = ", ".join(sorted(self._running.values()))
        return f"training {models}" if models else "idle"
