"""Running one task: a training in a process of its own, watched from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from redis.exceptions import RedisError

from headrace.artifact_store import ArtifactStore
from headrace.cancellation import cancel_until_done
from headrace.errors import ChangeRefused, HeadraceError
from headrace.log import Offsets, end_offsets
from headrace.settings import Settings, without_secrets
from headrace.task_files import data_file, remove_files, work_folder
from headrace.task_store import Claim, LeaseLost, Success, TaskStore
from headrace.tasks import Status
from headrace.topics import Topics, topic_ids
from headrace.training_data import DataFile
from headrace.training_requests import TrainingRequest
from headrace.version_store import VersionStore
from headrace.versions import ROLLED_BACK, Manifest, version_name
from models.retrieval.versions import check_version
from models.training.admission import Outcome, admit
from models.training.fingerprint import made_with
from models.training.lifeline import LEFT_ALONE
from models.training.resources import memory_of

logger = logging.getLogger(__name__)

JOB = (sys.executable, "-m", "models.training.job")
"""The command of a training's process."""
_LOG_TAIL = 5
"""Lines of a failed training's log that its task shows."""
_LOG_BYTES = 64 * 1024
"""Of a log's end that can be read from elsewhere."""
_LINE_BYTES = 1 << 20
_WATCH_S = 0.5
"""How often a training's memory and lease are looked after, at the least."""
_ATTEMPTS = 5
"""Trainers that may die at one task; it is the task, then."""


class Job(Struct, frozen=True, kw_only=True):
    """What the training's process is told, on the first line of its standard input."""

    model_id: str
    version: str
    created_at: float
    """Of the task, in Unix seconds."""
    request: TrainingRequest = TrainingRequest()
    through: Offsets = {}
    topic_ids: dict[str, str] = {}
    """Of the topics that the offsets are of."""
    data: DataFile | None = None
    """A file to train on instead of the topics."""
    work: str = ""
    """A folder for what the next attempt at the same task goes on from; it has the same `version`,
    `through` and `topic_ids`."""
    base: str | None = None
    """The live version, if there is one: what an incremental training goes on from."""
    last: Success | None = None
    """The model's last success whose version is still there, unless it is to be trained anyway."""


class Report(Struct, frozen=True, kw_only=True):
    """A line of the training's standard output."""

    step: str
    fraction: float
    figures: dict[str, float] = {}
    data: dict[str, Any] = {}
    """What is known of the data by now."""
    unchanged: bool = False
    """Whether there was nothing to train: the last success was made from the same."""
    error: str | None = None
    """Says why the training gave up, in words for whoever asked for it."""


class TaskCancelled(Exception):
    """Somebody has cancelled the task."""


class Runner:
    """Runs one task that a trainer has claimed."""

    def __init__(
        self,
        settings: Settings,
        tasks: TaskStore,
        versions: VersionStore,
        claim: Claim,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._tasks = tasks
        self._versions = versions
        self._fence = claim.fence
        self._attempt = claim.attempt
        self._clock = clock
        self._store = ArtifactStore(settings)
        self._log = self._store.local / "logs" / f"{claim.task.id}.log"
        self._logged = -1
        self.task = claim.task

    async def run(self) -> None:
        """Run the task; whatever comes of it, the task says so in the end.

        Raises `RedisError` or `KafkaError` when even that cannot be done; it is taken again later.
        """
        try:
            # 1. From here on no trainer that had the task before puts anything live.
            await self._versions.fence(self.task.model_id, self._fence)
            self._check_attempt()

            # 2. Say what is trained on, which stays so whoever goes on with the task.
            await self._prepare()

            # 3. Train, unless a trainer died between that and putting its version live.
            unchanged = False
            if await self._manifest(self._version) is None:
                unchanged = await self._train()

            # 4. Put a version live.
            await (self._keep_last() if unchanged else self._succeed())
        except LeaseLost as exc:
            logger.warning("task %s: %s", self.task.id, exc)
        except TaskCancelled:
            await self._end("CANCELLED", "cancelled")
        except HeadraceError as exc:
            await self._fail(str(exc))
        except asyncio.CancelledError:
            await self._tasks.release(self.task, self._fence)
            raise

    @property
    def _version(self) -> str:
        """The same for every attempt at the task."""
        return version_name(self.task.created_at, self.task.id[:6])

    async def _manifest(self, version: str) -> Manifest | None:
        return await asyncio.to_thread(self._store.manifest, self.task.model_id, version)

    def _check_attempt(self) -> None:
        if self._attempt > _ATTEMPTS:
            raise HeadraceError(
                f"{_ATTEMPTS} trainers have died at this task. Look at their logs, and whether the "
                "machine has the memory for it; then ask again."
            )

    async def _prepare(self) -> None:
        ids: dict[str, str] = {}
        offsets: Offsets = {}
        if data_file(self.task) is None:
            of_model = self._settings.of_model(self.task.model_id)
            topics = Topics(of_model).to_train(global_data=self.task.request.global_data)
            ids = await asyncio.to_thread(topic_ids, self._settings, topics)
            if self.task.data.get("topic_ids") == ids:
                return
            ends = await asyncio.to_thread(end_offsets, self._settings, topics)
            offsets = _through(ends, self.task.request.offsets()[1])
        await self._save(step="reading the events", data={"offsets": offsets, "topic_ids": ids})

    async def _train(self) -> bool:
        """Run the training; return whether there was nothing to train."""
        task, request = self.task, self.task.request
        work = work_folder(self._settings, task)
        live = await self._versions.live(task.model_id)
        job = Job(
            model_id=task.model_id,
            version=self._version,
            created_at=task.created_at,
            request=request,
            through=task.data["offsets"],
            topic_ids=task.data["topic_ids"],
            data=data_file(task),
            work=str(work),
            base=live.version if live else None,
            last=None if request.force else await self._last_success(),
        )
        for folder in (self._log.parent, work):
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        return await self._watch(await self._start(job))

    async def _last_success(self) -> Success | None:
        """Return the model's last success, if its version is still there."""
        last = await self._tasks.last_success(self.task.model_id)
        if last is None or await self._manifest(last.version) is None:
            return None
        gone = (await self._versions.state(self.task.model_id)).gone
        return None if last.version in gone else last

    async def _watch(self, process: asyncio.subprocess.Process) -> bool:
        """Follow the training's process to its end; return whether there was nothing to train.

        Raises `HeadraceError` when it gave up, `TaskCancelled` or `LeaseLost`.
        """
        keeper = asyncio.create_task(self._keep(process))
        limit = self._settings.trainer.timeout_s
        try:
            last = await asyncio.wait_for(self._follow(process), limit)
        except asyncio.TimeoutError as exc:
            raise HeadraceError(
                f"The training took longer than {limit:.0f} s. Train on less (`from`, `epochs`), "
                "or raise HEADRACE_TRAINER_TIMEOUT_S."
            ) from exc
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await cancel_until_done(keeper)
            with contextlib.suppress(RedisError, OSError, LeaseLost):
                await self._store_log()
        if not keeper.cancelled() and (why := keeper.exception()) is not None:
            raise why
        if last.error is not None:
            raise HeadraceError(last.error)
        if process.returncode == LEFT_ALONE:
            # This trainer was too slow to say that it is there; the task is taken again.
            raise LeaseLost(self.task)
        if process.returncode:
            raise HeadraceError(await asyncio.to_thread(_why, process.returncode, self._log))
        return last.unchanged

    async def _follow(self, process: asyncio.subprocess.Process) -> Report:
        """Store what the training reports, until it ends; return its last report."""
        report = Report(step="starting", fraction=0.0)
        async for report in _reports(process):
            try:
                await self._save(
                    step=report.step,
                    progress=report.fraction,
                    metrics={**self.task.metrics, **report.figures},
                    data={**self.task.data, **report.data},
                )
            except (RedisError, OSError) as exc:
                # The training goes on; the next report may get through.
                logger.warning("the progress cannot be stored: %r", exc)
        await process.wait()
        return report

    async def _start(self, job: Job) -> asyncio.subprocess.Process:
        with self._log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *JOB,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=_LINE_BYTES,
                env={**os.environ, **self._settings.environ(), **_threads(self._settings)},
            )
        _tell(process, msgspec.json.encode(job))
        return process

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        """Keep the lease, and let the training live while that goes well and it is small enough.

        Raises what `_watch` raises, once the process was killed.
        """
        pause = min(_WATCH_S, self._settings.trainer.lease_s / 3)
        try:
            while True:
                await asyncio.sleep(pause)
                try:
                    if await self._tasks.hold(self.task, self._fence) == "cancelled":
                        raise TaskCancelled
                    await self._store_log()
                except (RedisError, OSError) as exc:
                    # Whether the lease is still ours shows when Redis is back.
                    logger.warning("the lease cannot be renewed: %r", exc)
                # It ends by itself when it hears nothing: its trainer hangs.
                _tell(process, b"")
                await self._check_memory(process.pid)
        except (LeaseLost, TaskCancelled, HeadraceError):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise

    async def _check_memory(self, pid: int) -> None:
        limit = self._settings.trainer.memory_mb * 1_000_000
        if not limit:
            return
        used = await asyncio.to_thread(memory_of, pid)
        if used > limit:
            raise HeadraceError(
                f"The training took {used / 1e6:,.0f} MB of memory, more than "
                f"{limit / 1e6:,.0f} MB. Train on less (`from`), or raise "
                "HEADRACE_TRAINER_MEMORY_MB."
            )

    async def _store_log(self) -> None:
        """Store the log's end where every server can read it, if there is more of it."""
        size, end = await asyncio.to_thread(_end_of, self._log)
        if size != self._logged:
            shown = without_secrets(end, self._settings).encode()
            await self._tasks.save_log(self.task, self._fence, shown)
            self._logged = size

    async def _succeed(self) -> None:
        model_id = self.task.model_id
        # What no server could load must not be announced.
        manifest = await asyncio.to_thread(self._load, self._version)
        await self._commit()
        live = await self._versions.live(model_id)
        if live is not None and live.version == self._version:
            # A trainer died between this and saying so.
            await self._finish(Outcome(step="live"), manifest)
            return
        outcome = await admit(
            self._versions,
            manifest,
            reason=f"task {self.task.id}",
            now=self._clock(),
            fence=self._fence,
        )
        await self._finish(outcome, manifest)

    async def _keep_last(self) -> None:
        """End a training that had nothing to train, with the last version live again."""
        model_id = self.task.model_id
        last = await self._tasks.last_success(model_id)
        manifest = None if last is None else await self._manifest(last.version)
        if manifest is None:
            raise HeadraceError("The version of the last training was just deleted. Ask again.")
        nothing_new = f"nothing new since version {manifest.version}"
        live = await self._versions.live(model_id)
        if live is not None and live.version == manifest.version:
            step = nothing_new
        elif live is not None and live.reason == ROLLED_BACK:
            step = f"{nothing_new}; ops rolled it back, and it stays so"
        else:
            step = f"{nothing_new}, which {await self._live_again(manifest.version)}"
        await self._finish(Outcome(step=step), manifest, trained=False)

    async def _live_again(self, version: str) -> str:
        """Put a version live that was, and say what came of it."""
        await asyncio.to_thread(self._load, version)
        await self._commit()
        try:
            await self._versions.activate(
                self.task.model_id,
                version,
                now=self._clock(),
                reason=f"task {self.task.id}",
                unasked=True,
                fence=self._fence,
            )
        except ChangeRefused as exc:
            return f"is kept, not live: {exc}"
        return "is live again"

    def _load(self, version: str) -> Manifest:
        folder = self._store.fetch(self.task.model_id, version)
        return check_version(folder)

    async def _commit(self) -> None:
        """Say that a version goes live now. Raises `TaskCancelled` or `LeaseLost`."""
        if await self._tasks.hold(self.task, self._fence, commit=True) == "cancelled":
            raise TaskCancelled

    async def _finish(self, outcome: Outcome, manifest: Manifest, *, trained: bool = True) -> None:
        data = msgspec.to_builtins(manifest.data)
        offsets = data.pop("through")
        success = Success(
            version=manifest.version,
            fingerprint=manifest.data.fingerprint,
            made_with=made_with(self.task.request, self.task.request.parameters(self._settings)),
        )
        await self._end(
            outcome.status,
            outcome.step,
            trained=trained,
            success=success if outcome.status == "SUCCEEDED" else None,
            error=outcome.error,
            progress=1.0,
            data={"offsets": offsets, **data},
            metrics=manifest.metrics,
            version=manifest.version,
        )

    async def _fail(self, error: str) -> None:
        await self._end("FAILED", self.task.step, error=without_secrets(error, self._settings))

    async def _end(
        self,
        status: Status,
        step: str,
        *,
        trained: bool = False,
        success: Success | None = None,
        **changes: Any,
    ) -> None:
        now = self._clock()
        self.task = msgspec.structs.replace(
            self.task, status=status, step=step, updated_at=now, finished_at=now, **changes
        )
        try:
            await self._tasks.finish(self.task, self._fence, trained=trained, success=success)
        except LeaseLost as exc:
            logger.warning("task %s: %s", self.task.id, exc)
            return
        level = logging.ERROR if status == "FAILED" else logging.INFO
        logger.log(level, "task %s: %s: %s", self.task.id, status, self.task.error or step)
        await asyncio.to_thread(remove_files, self._settings, self.task)

    async def _save(self, **changes: Any) -> None:
        self.task = msgspec.structs.replace(self.task, updated_at=self._clock(), **changes)
        await self._tasks.save(self.task, self._fence)


def _through(ends: Offsets, asked: Offsets | None) -> Offsets:
    """Return how far to read: to the end, or as far as was asked for.

    Raises `HeadraceError` when the log does not go so far.
    """
    through = {topic: dict(by_partition) for topic, by_partition in ends.items()}
    for topic, by_partition in (asked or {}).items():
        for partition, offset in by_partition.items():
            end = ends.get(topic, {}).get(partition)
            if end is None or offset > end:
                goes = "there is none" if end is None else f"it ends at {end:,}"
                raise HeadraceError(
                    f"`to` asks for {topic}/{partition} up to offset {offset:,}; {goes}."
                )
            through[topic][partition] = offset
    return through


def _threads(settings: Settings) -> dict[str, str]:
    count = settings.trainer.threads
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    return dict.fromkeys(names, str(count)) if count else {}


def _tell(process: asyncio.subprocess.Process, line: bytes) -> None:
    if process.stdin is not None and process.returncode is None:
        process.stdin.write(line + b"\n")


async def _reports(process: asyncio.subprocess.Process) -> AsyncIterator[Report]:
    if process.stdout is None:
        return
    async for line in process.stdout:
        try:
            yield msgspec.json.decode(line, type=Report)
        except msgspec.DecodeError:
            logger.debug("the training printed %r", line)


def _end_of(log: Path) -> tuple[int, str]:
    """Return the log's length in bytes, and its end."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LOG_BYTES))
        return size, file.read(_LOG_BYTES).decode(errors="replace")


def _why(status: int, log: Path) -> str:
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    tail = _end_of(log)[1].strip().splitlines()[-_LOG_TAIL:]
    return f"The training {how}; its log, {log.name}, ends: " + " | ".join(tail)
