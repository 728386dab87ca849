"""The process of one training, seen from the trainer: started, followed, kept within its limits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
from redis.exceptions import RedisError

from headrace.cancellation import cancel_until_done, to_its_end
from headrace.errors import Away, HeadraceError
from headrace.settings import Settings
from models.training.job_messages import Job, Report
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


class LeftAlone(Exception):
    """The training ended because its trainer was too slow to say that it is there."""


class JobCrashed(HeadraceError):
    """The training's process ended and has not said why; `killed`: by a signal."""

    def __init__(self, message: str, *, killed: bool) -> None:
        super().__init__(message)
        self.killed = killed


class JobProcess:
    """Runs one job in a process of its own."""

    def __init__(
        self,
        settings: Settings,
        log: Path,
        *,
        note: Callable[[Report], Awaitable[None]],
        hold: Callable[[], Awaitable[None]],
        inherits: Sequence[int] = (),
    ) -> None:
        """`note` is told each report; `hold` is called again and again, and renews the lease.

        When `hold` raises, other than for want of Redis, the training is ended. `inherits`: file
        descriptors that the process keeps open.
        """
        self._settings = settings
        self._log = log
        self._note = note
        self._hold = hold
        self._inherits = inherits

    async def run(self, job: Job) -> Report:
        """Run the job to its end; return its last report.

        Raises `HeadraceError` when it gave up or went over a limit, `Away` where another attempt
        may do better, `JobCrashed`, `LeftAlone`, and what `hold` raises.
        """
        aside = await asyncio.to_thread(_make_aside, job)
        try:
            return await self._run(job, aside)
        finally:
            await to_its_end(asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True))

    async def _run(self, job: Job, aside: Path) -> Report:
        process = await self._start(job, aside)
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
        if not keeper.cancelled() and (why := keeper.exception()) is not None:
            raise why
        if last.error is not None:
            raise (Away if last.is_away else HeadraceError)(last.error)
        if process.returncode == LEFT_ALONE:
            raise LeftAlone
        if process.returncode:
            words = await asyncio.to_thread(_why, process.returncode, self._log)
            raise JobCrashed(words, killed=process.returncode < 0)
        return last

    async def _follow(self, process: asyncio.subprocess.Process) -> Report:
        """Pass on what the training reports, until it ends; return its last report."""
        report = Report(step="starting", fraction=0.0)
        async for report in _reports(process):
            if report.error is not None:
                # What it was at, and how far it had come, stay with the task.
                continue
            try:
                await self._note(report)
            except (RedisError, OSError) as exc:
                # The training goes on; the next report may get through.
                logger.warning("the progress cannot be stored: %r", exc)
        await process.wait()
        return report

    async def _start(self, job: Job, aside: Path) -> asyncio.subprocess.Process:
        with self._log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *JOB,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=_LINE_BYTES,
                pass_fds=self._inherits,
                env={
                    **os.environ,
                    **self._settings.environ(),
                    **_threads(self._settings),
                    "TMPDIR": str(aside),
                },
            )
        _tell(process, msgspec.json.encode(job))
        return process

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        """Keep the lease, and let the training live while that goes well and it is small enough.

        Raises what `run` raises, once the process was killed.
        """
        pause = min(_WATCH_S, self._settings.trainer.lease_s / 3)
        try:
            while True:
                await asyncio.sleep(pause)
                try:
                    await self._hold()
                except (RedisError, OSError) as exc:
                    # It may be another's soon, so the training, which hears nothing, ends by itself
                    # before; it goes on from its last checkpoint.
                    logger.warning("the lease cannot be renewed: %r", exc)
                else:
                    _tell(process, b"")
                await self._check_memory(process.pid)
        except Exception:
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


def _make_aside(job: Job) -> Path:
    """Make a folder for what libraries leave in the temporary one, where it goes with the task.

    TensorFlow writes a file there for each function, and a process that is killed deletes none.
    """
    work = Path(job.work)
    # Of a chief that is another machine's the folder is not here.
    is_here = bool(job.work) and work.is_dir()
    return Path(tempfile.mkdtemp(prefix="tmp-", dir=work if is_here else None))


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


def end_of(log: Path) -> tuple[int, str]:
    """Return the log's length in bytes, and its end."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LOG_BYTES))
        return size, file.read(_LOG_BYTES).decode(errors="replace")


def _why(status: int, log: Path) -> str:
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    cure = _OUT_OF_MEMORY if status == -signal.SIGKILL else _LOOK
    tail = end_of(log)[1].strip().splitlines()[-_LOG_TAIL:]
    return f"The training {how}. {cure} Its log, {log.name}, ends: " + " | ".join(tail)


_OUT_OF_MEMORY = (
    "So the kernel ends what takes more memory than there is: train on less (`from`), give the "
    "machine more memory, or set HEADRACE_TRAINER_MEMORY_MB, over which a training is ended before."
)
_LOOK = "`headrace tasks TASK --log` shows why; mend that and ask again."
