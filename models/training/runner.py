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

from headrace.errors import HeadraceError
from headrace.log import Offsets, end_offsets
from headrace.settings import Settings, TrainingSettings
from headrace.tasks import Task, TaskStore
from headrace.versions import (
    Manifest,
    VersionStore,
    read_manifest,
    version_folder,
    version_name,
)

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
        self.state = "idle"
        self.trained = 0
        self.failed = 0

    async def run(self, task: Task) -> None:
        """Run a task that was claimed; whatever comes of it, the task says so in the end.

        Raises `RedisError` when even that cannot be stored; the task is taken again later.
        """
        self.state = f"training {task.model_id}"
        try:
            through = await asyncio.to_thread(end_offsets, self._settings)
            trained = await self._trained_already(task, through)
            if trained is None:
                await self._succeed(await self._train(task, through))
            else:
                await self._pass_over(task, trained)
        except LeaseLost as exc:
            logger.warning("task %s: %s", task.id, exc)
        except HeadraceError as exc:
            await self._fail(task, str(exc))
        except asyncio.CancelledError:
            await self._tasks.release(task, self._trainer)
            raise
        finally:
            self.state = "idle"

    async def _trained_already(self, task: Task, through: Offsets) -> Manifest | None:
        """Return the live version, if the same training would only make it again."""
        live = await self._versions.live(task.model_id)
        if live is None:
            return None
        artifacts = Path(self._settings.artifacts)
        manifest = await asyncio.to_thread(
            read_manifest, version_folder(artifacts, task.model_id, live.version)
        )
        parameters = msgspec.to_builtins(training_settings(self._settings, task.params))
        same = manifest is not None and manifest.data.through == through
        return manifest if same and manifest and manifest.parameters == parameters else None

    async def _pass_over(self, task: Task, trained: Manifest) -> None:
        done = self._note(
            task,
            status="SUCCEEDED",
            step="nothing new since the live version",
            progress=1.0,
            finished_at=self._clock(),
            data=msgspec.to_builtins(trained.data),
            metrics=trained.metrics,
            version=trained.version,
        )
        await self._tasks.finish(done, self._trainer)
        logger.info("task %s: nothing new since version %s", task.id, trained.version)

    async def _train(self, task: Task, through: Offsets) -> Task:
        """Run the training on the log up to these offsets; return the task with its version."""
        created_at = self._clock()
        job = Job(
            model_id=task.model_id,
            version=version_name(created_at, secrets.token_hex(3)),
            created_at=created_at,
            through=through,
            params=task.params,
        )
        task = self._note(task, step="reading the log", data={"through": through})
        await self._tasks.save(task)
        task = await self._watch(job, task)
        return self._note(task, version=job.version)

    async def _watch(self, job: Job, task: Task) -> Task:
        log = self._log_path(task)
        await asyncio.to_thread(log.parent.mkdir, parents=True, exist_ok=True)
        process = await self._start(job, log)
        keeper = asyncio.create_task(self._keep_lease(task, process))
        limit = self._settings.trainer.timeout_s
        try:
            task, error = await asyncio.wait_for(self._follow(process, task), limit)
        except asyncio.TimeoutError as exc:
            raise HeadraceError(
                f"The training took longer than {limit:.0f} s (HEADRACE_TRAINER_TIMEOUT_S)."
            ) from exc
        finally:
            keeper.cancel()
            if process.returncode is None:
                process.kill()
                await process.wait()
        if keeper.done() and not keeper.cancelled() and keeper.exception():
            raise LeaseLost(str(keeper.exception()))
        if error is not None:
            raise HeadraceError(error)
        if process.returncode:
            raise HeadraceError(await asyncio.to_thread(_why, process.returncode, log))
        return task

    async def _follow(
        self, process: asyncio.subprocess.Process, task: Task
    ) -> tuple[Task, str | None]:
        """Store what the training reports, until it ends; return the task, and why it gave up."""
        error = None
        async for report in _reports(process):
            error = report.error
            task = self._note(
                task,
                step=report.step,
                progress=report.fraction,
                metrics={**task.metrics, **report.figures},
            )
            await self._tasks.save(task)
        await process.wait()
        return task, error

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

    async def _keep_lease(self, task: Task, process: asyncio.subprocess.Process) -> None:
        while True:
            await asyncio.sleep(self._settings.trainer.lease_s / 3)
            if not await self._tasks.renew(task, self._trainer):
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                raise LeaseLost(f"another trainer has taken model {task.model_id} over.")

    async def _succeed(self, task: Task) -> None:
        version = task.version or ""
        folder = version_folder(Path(self._settings.artifacts), task.model_id, version)
        manifest = await asyncio.to_thread(read_manifest, folder)
        if manifest is None:
            raise HeadraceError(f"The training left no version {version}.")
        await self._versions.activate(
            task.model_id, version, now=self._clock(), reason=f"task {task.id}"
        )
        now = self._clock()
        done = self._note(
            task,
            status="SUCCEEDED",
            step="live",
            progress=1.0,
            finished_at=now,
            data=msgspec.to_builtins(manifest.data),
            metrics=manifest.metrics,
        )
        await self._tasks.finish(done, self._trainer)
        self.trained += 1
        logger.info("task %s: version %s is live", task.id, version)

    async def _fail(self, task: Task, error: str) -> None:
        failed = self._note(task, status="FAILED", error=error, finished_at=self._clock())
        await self._tasks.finish(failed, self._trainer)
        self.failed += 1
        logger.error("task %s failed: %s", task.id, error)

    def _note(self, task: Task, **changes: Any) -> Task:
        return msgspec.structs.replace(task, updated_at=self._clock(), **changes)

    def _log_path(self, task: Task) -> Path:
        return Path(self._settings.artifacts) / "logs" / f"{task.id}.log"


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


def training_settings(settings: Settings, params: dict[str, float]) -> TrainingSettings:
    """Return the settings of a training with a task's own in their place.

    Raises `HeadraceError` for one that there is not, or whose value cannot be used.
    """
    merged = {**msgspec.to_builtins(settings.training), **params}
    try:
        return msgspec.convert(merged, TrainingSettings, strict=False)
    except msgspec.ValidationError as exc:
        raise HeadraceError(f"The task's params cannot be used: {exc}.") from exc
