"""Running one task: a training in a process of its own, watched from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from redis.exceptions import RedisError

from headrace.cancellation import cancel_until_done
from headrace.errors import HeadraceError
from headrace.log import Offsets, end_offsets
from headrace.settings import Settings, training_settings
from headrace.tasks import Task, TaskStore
from headrace.topics import Topics, topic_ids
from headrace.versions import (
    Manifest,
    VersionStore,
    read_manifest,
    version_folder,
    version_name,
)
from models.retrieval.artifact import load_artifact

logger = logging.getLogger(__name__)

_LOG_TAIL = 5
"""Lines of a failed training's log that its task shows."""
_LINE_BYTES = 1 << 20


class Job(Struct, frozen=True, kw_only=True):
    """What the training's process is told, on its standard input."""

    model_id: str
    version: str
    created_at: float
    through: Offsets
    topic_ids: dict[str, str] = {}
    """Of the topics that the offsets are of."""
    global_data: bool = False
    """Whether to train on the events of all models' topics."""
    params: dict[str, float] = {}


class Report(Struct, frozen=True, kw_only=True):
    """A line of the training's standard output."""

    step: str
    fraction: float
    figures: dict[str, float] = {}
    error: str | None = None
    """Says why the training gave up, in words for whoever asked for it."""


class LeaseLost(HeadraceError):
    """Another trainer holds the model by now."""


class Runner:
    """Runs tasks for one trainer, one at a time."""

    def __init__(
        self,
        settings: Settings,
        tasks: TaskStore,
        versions: VersionStore,
        trainer: str,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._tasks = tasks
        self._versions = versions
        self._trainer = trainer
        self._clock = clock
        self._task: Task
        self.state = "idle"
        self.trained = 0
        self.failed = 0

    async def run(self, task: Task) -> None:
        """Run a task that was claimed; whatever comes of it, the task says so in the end.

        Raises `RedisError` when even that cannot be stored; the task is taken again later.
        """
        self._task = task
        self.state = f"training {task.model_id}"
        try:
            topics = Topics(self._settings.of_model(task.model_id)).to_train(global_data=False)
            ids = await asyncio.to_thread(topic_ids, self._settings, topics)
            through = await asyncio.to_thread(end_offsets, self._settings, topics)
            trained = await self._trained_already(through, ids)
            if trained is None:
                await self._succeed(await self._train(through, ids))
            else:
                await self._finish("nothing new since the live version", trained)
        except LeaseLost as exc:
            logger.warning("task %s: %s", task.id, exc)
        except HeadraceError as exc:
            await self._fail(str(exc))
        except asyncio.CancelledError:
            await self._tasks.release(task, self._trainer)
            raise
        finally:
            self.state = "idle"

    async def _trained_already(
        self, through: Offsets, topic_ids: dict[str, str]
    ) -> Manifest | None:
        """Return the live version, if the same training would only make it again."""
        model_id = self._task.model_id
        live = await self._versions.live(model_id)
        if live is None:
            return None
        folder = version_folder(Path(self._settings.artifacts), model_id, live.version)
        manifest = await asyncio.to_thread(read_manifest, folder)
        parameters = training_settings(self._settings, self._task.params)
        if manifest is None:
            return None
        if (manifest.data.through, manifest.data.topic_ids) != (through, topic_ids):
            return None
        return manifest if manifest.parameters == msgspec.to_builtins(parameters) else None

    async def _train(self, through: Offsets, topic_ids: dict[str, str]) -> Path:
        """Run the training on the log up to these offsets; return the version's folder."""
        created_at = self._clock()
        job = Job(
            model_id=self._task.model_id,
            version=version_name(created_at, secrets.token_hex(3)),
            created_at=created_at,
            through=through,
            topic_ids=topic_ids,
            params=self._task.params,
        )
        await self._save(step="reading the log", data={"through": through})
        log = Path(self._settings.artifacts) / "logs" / f"{self._task.id}.log"
        await asyncio.to_thread(log.parent.mkdir, parents=True, exist_ok=True)
        await self._watch(await self._start(job, log), log)
        return version_folder(Path(self._settings.artifacts), job.model_id, job.version)

    async def _watch(self, process: asyncio.subprocess.Process, log: Path) -> None:
        """Follow the training's process to its end. Raises `HeadraceError` when it gave up."""
        keeper = asyncio.create_task(self._keep_lease(process))
        limit = self._settings.trainer.timeout_s
        try:
            error = await asyncio.wait_for(self._follow(process), limit)
        except asyncio.TimeoutError as exc:
            raise HeadraceError(
                f"The training took longer than {limit:.0f} s (HEADRACE_TRAINER_TIMEOUT_S)."
            ) from exc
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await cancel_until_done(keeper)
        if not keeper.cancelled() and (lost := keeper.exception()) is not None:
            raise lost
        if error is not None:
            raise HeadraceError(error)
        if process.returncode:
            raise HeadraceError(await asyncio.to_thread(_why, process.returncode, log))

    async def _follow(self, process: asyncio.subprocess.Process) -> str | None:
        """Store what the training reports, until it ends; return why it gave up, if it did."""
        error = None
        async for report in _reports(process):
            error = report.error
            try:
                await self._save(
                    step=report.step,
                    progress=report.fraction,
                    metrics={**self._task.metrics, **report.figures},
                )
            except (RedisError, OSError) as exc:
                # The training goes on; the next report may get through.
                logger.warning("the progress cannot be stored: %r", exc)
        await process.wait()
        return error

    async def _start(self, job: Job, log: Path) -> asyncio.subprocess.Process:
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "models.training.job",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=_LINE_BYTES,
                env={**os.environ, **self._settings.environ()},
            )
        if process.stdin is not None:
            process.stdin.write(msgspec.json.encode(job))
            process.stdin.close()
        return process

    async def _keep_lease(self, process: asyncio.subprocess.Process) -> None:
        while True:
            await asyncio.sleep(self._settings.trainer.lease_s / 3)
            try:
                held = await self._tasks.renew(self._task, self._trainer)
            except (RedisError, OSError) as exc:
                # Whether the lease is still ours shows when Redis is back.
                logger.warning("the lease cannot be renewed: %r", exc)
                continue
            if not held:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                raise LeaseLost(f"another trainer has taken model {self._task.model_id} over.")

    async def _succeed(self, folder: Path) -> None:
        # What no server could load must not be announced.
        manifest = (await asyncio.to_thread(load_artifact, folder)).manifest
        await self._versions.activate(
            manifest.model_id,
            manifest.version,
            now=self._clock(),
            reason=f"task {self._task.id}",
        )
        self.trained += 1
        await self._finish("live", manifest)

    async def _finish(self, step: str, manifest: Manifest) -> None:
        now = self._clock()
        self._task = msgspec.structs.replace(
            self._task,
            status="SUCCEEDED",
            step=step,
            progress=1.0,
            updated_at=now,
            finished_at=now,
            data=msgspec.to_builtins(manifest.data),
            metrics=manifest.metrics,
            version=manifest.version,
        )
        await self._tasks.finish(self._task, self._trainer)
        logger.info("task %s: version %s: %s", self._task.id, manifest.version, step)

    async def _fail(self, error: str) -> None:
        now = self._clock()
        self._task = msgspec.structs.replace(
            self._task, status="FAILED", error=error, updated_at=now, finished_at=now
        )
        await self._tasks.finish(self._task, self._trainer)
        self.failed += 1
        logger.error("task %s failed: %s", self._task.id, error)

    async def _save(self, **changes: Any) -> None:
        self._task = msgspec.structs.replace(self._task, updated_at=self._clock(), **changes)
        await self._tasks.save(self._task)


async def _reports(process: asyncio.subprocess.Process) -> AsyncIterator[Report]:
    if process.stdout is None:
        return
    async for line in process.stdout:
        try:
            yield msgspec.json.decode(line, type=Report)
        except msgspec.DecodeError:
            logger.debug("the training printed %r", line)


def _why(status: int, log: Path) -> str:
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    tail = log.read_text(errors="replace").strip().splitlines()[-_LOG_TAIL:]
    return f"The training {how}; its log, {log.name}, ends: " + " | ".join(tail)
