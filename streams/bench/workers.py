"""Worker processes that are measured: how they are started, and what they have done and used."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from headrace.errors import StackError
from headrace.local.process import ChildProcess, last_lines
from headrace.local.readiness import beats
from headrace.local.stack import part_environ
from headrace.settings import Settings
from headrace.store import connect
from headrace.trending import TrendingStore
from streams.bench.bare import CountFile
from streams.bench.ground import Ground

_LOOK_S = 0.1
_PATIENCE_S = 60.0
"""Longest wait for a worker that makes no progress."""
_STOP_WITHIN_S = 5.0

SHIPPED = (sys.executable, "-m", "headrace.cli", "worker")
Count = Callable[[], Awaitable[int]]


def bare(count: Path) -> tuple[str, ...]:
    """Return the command of the bare agent, which counts into this file."""
    return sys.executable, "-m", "streams.bench.bare", str(count)


@dataclass(frozen=True)
class Workers:
    """Workers that run, of one group."""

    children: Sequence[ChildProcess]
    logs: Sequence[Path]
    count: Count
    """Events that they are done with, together."""

    @property
    def processes(self) -> list[psutil.Process]:
        """The same processes, to look at and not to wait for: that is the children's own."""
        return [psutil.Process(child.pid) for child in self.children]

    def cpu_s(self) -> float:
        """Return the processor time that they have used, in seconds."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)

    def rss_mb(self) -> float:
        """Return the memory that they hold, in MiB."""
        return float(sum(process.memory_info().rss for process in self.processes)) / 2**20

    async def progress(self, total: int, look_s: float = _LOOK_S) -> AsyncIterator[int]:
        """Yield the events that they are done with, now and again, until `total` are.

        Raises `StackError` when a worker ends, or none makes any progress.
        """
        loop = asyncio.get_running_loop()
        last, deadline = -1, loop.time() + _PATIENCE_S
        while True:
            done = await self.count()
            if done > last:
                last, deadline = done, loop.time() + _PATIENCE_S
            self._check(loop.time() > deadline, f"no progress after {done:,} of {total:,} events")
            yield done
            if done >= total:
                return
            await asyncio.sleep(look_s)

    async def until(self, total: int) -> None:
        """Wait until they are done with so many events; raises what `progress` raises."""
        async for _ in self.progress(total):
            pass

    async def running(self, settings: Settings) -> None:
        """Wait until each has told that it has partitions; raises what `progress` raises."""
        loop = asyncio.get_running_loop()
        check, deadline = beats(settings, "worker", state="running"), loop.time() + _PATIENCE_S
        for child in self.children:
            while not await check(child.pid):
                self._check(loop.time() > deadline, "a worker does not get any partitions")
                await asyncio.sleep(_LOOK_S)

    def _check(self, too_late: bool, what: str) -> None:
        for child, log in zip(self.children, self.logs, strict=True):
            if child.has_ended:
                raise StackError(f"A worker has ended; its log:\n{last_lines(log)}")
        if too_late:
            logs = "\n".join(map(last_lines, self.logs))
            raise StackError(f"For {_PATIENCE_S:.0f} s: {what}; the logs:\n{logs}")


@asynccontextmanager
async def shipped_workers(ground: Ground, number: int = 1) -> AsyncIterator[Workers]:
    """So many workers as they are shipped, all of them with partitions, until the block ends."""
    redis = connect(ground.settings)
    try:
        count = TrendingStore(redis, ground.settings).events_counted
        async with _started([SHIPPED] * number, ground, count) as workers:
            await workers.running(ground.settings)
            yield workers
    finally:
        await redis.aclose()


@asynccontextmanager
async def bare_worker(ground: Ground) -> AsyncIterator[Workers]:
    """A process of the bare agent, until the block ends."""
    path = ground.folder / f"{ground.settings.namespace}.count"
    counted = CountFile(path)

    async def count() -> int:
        return counted.value

    async with _started([bare(path)], ground, count) as workers:
        yield workers


@asynccontextmanager
async def child(ground: Ground, command: Sequence[str], log: Path) -> AsyncIterator[ChildProcess]:
    """A process with the ground's settings, until the block ends."""
    environ = part_environ(ground.environ, ground.settings)
    process = await ChildProcess.start(command, environ=environ, log=log)
    try:
        yield process
    finally:
        await process.stop(_STOP_WITHIN_S)


@asynccontextmanager
async def _started(
    commands: Sequence[Sequence[str]], ground: Ground, count: Count
) -> AsyncIterator[Workers]:
    logs = [
        ground.folder / f"{ground.settings.namespace}-{number}.log"
        for number in range(len(commands))
    ]
    async with AsyncExitStack() as stack:
        children = [
            await stack.enter_async_context(child(ground, command, log))
            for command, log in zip(commands, logs, strict=True)
        ]
        yield Workers(children, logs, count)
