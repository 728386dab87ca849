"""Keeping one part alive: start it once its needs are met, and start it again when it dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import msgspec

from headrace.errors import HeadraceError, StackError
from headrace.local.parts import Part, PartState, PartStatus
from headrace.local.process import ChildProcess, describe_exit, last_lines

_POLL_S = 0.1


@dataclass(frozen=True)
class RestartPolicy:
    """When a part that died is started again, and when that is given up."""

    first_pause_s: float = 0.2
    """Doubled with each death, up to `longest_pause_s`."""
    longest_pause_s: float = 10.0
    steady_s: float = 60.0
    """A part that was ready for so long starts again with the first pause."""
    attempts: int = 5
    """So many deaths in a row before it was ready end the stack."""
    ready_within_s: float = 60.0

    def pause(self, deaths: int) -> float:
        """Return the seconds to wait after this many deaths close together."""
        return float(min(self.first_pause_s * 2 ** max(deaths - 1, 0), self.longest_pause_s))


@dataclass(frozen=True)
class _Life:
    """How one run of the process went."""

    pid: int
    ready_s: float | None
    """Seconds for which it was ready; None when it never was."""
    exit_code: int | None
    """None when it did not end by itself."""
    late: bool
    """It was not ready in time."""


class Keeper:
    """Keeps one part running until it is cancelled; `run` raises `StackError` on giving up."""

    def __init__(
        self,
        part: Part,
        *,
        log: Path,
        policy: RestartPolicy,
        on_change: Callable[[PartStatus], None],
        say: Callable[[str], None],
    ) -> None:
        self.part = part
        self.ready = asyncio.Event()
        self.over = asyncio.Event()
        """Set when the life under way has ended; each life has one of its own."""
        self._log = log
        self._policy = policy
        self._on_change = on_change
        self._say = say
        self._reason = ""
        self.status = PartStatus(
            name=part.name, state="waiting", since=time.time(), about=part.about
        )

    async def run(self, needs: Sequence[Keeper], follows: Sequence[Keeper]) -> NoReturn:
        """Keep the part alive. `needs` and `follows` are the keepers of the parts so named."""
        deaths = failures = 0
        try:
            while True:
                for need in needs:
                    await need.ready.wait()
                life = await self._live(follows)
                if life.exit_code is None and not life.late:
                    # Its leader went down: no death of its own.
                    self._change("waiting", restarted=True)
                    continue
                failures = 0 if life.ready_s is not None else failures + 1
                deaths = 1 if (life.ready_s or 0.0) >= self._policy.steady_s else deaths + 1
                self._give_up(life, failures)
                pause = self._policy.pause(deaths)
                self._say(f"{self._obituary(life)}; it is started again in {pause:.1f} s.")
                self._change("restarting", restarted=True)
                await asyncio.sleep(pause)
        finally:
            self._change("stopped")

    async def _live(self, follows: Sequence[Keeper]) -> _Life:
        """Run the process once, until it ends, is late, or one that it follows is over."""
        endings = [leader.over for leader in follows]
        self.over = asyncio.Event()
        process = await ChildProcess.start(
            self.part.command, environ=self.part.environ, log=self._log
        )
        self._change("starting", pid=process.pid)
        gone = asyncio.create_task(process.wait())
        ready = asyncio.create_task(self._until_ready(process.pid))
        leaders = [asyncio.create_task(ending.wait()) for ending in endings]
        ready_at: float | None = None
        try:
            done, _ = await asyncio.wait(
                {gone, ready, *leaders},
                timeout=self._policy.ready_within_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            late = not done
            if done == {ready}:
                await ready
                ready_at = time.monotonic()
                self._change("ready", pid=process.pid)
                self.ready.set()
                await asyncio.wait({gone, *leaders}, return_when=asyncio.FIRST_COMPLETED)
            return _Life(
                pid=process.pid,
                ready_s=None if ready_at is None else time.monotonic() - ready_at,
                exit_code=gone.result() if gone.done() else None,
                late=late,
            )
        finally:
            self.ready.clear()
            self.over.set()
            for task in (gone, ready, *leaders):
                task.cancel()
            await process.stop(self.part.stop_within_s)

    async def _until_ready(self, pid: int) -> None:
        self._reason = ""
        while True:
            try:
                if await self.part.is_ready(pid):
                    return
            except HeadraceError as exc:
                self._reason = str(exc)
            await asyncio.sleep(_POLL_S)

    def _give_up(self, life: _Life, failures: int) -> None:
        never_ready = self.status.restarts == 0 and life.ready_s is None
        if failures < self._policy.attempts and not (life.late and never_ready):
            return
        what = (
            f"{self.part.name} is not ready after {self._policy.ready_within_s:.0f} s"
            if life.late
            else f"{self.part.name} {describe_exit(life.exit_code or 0)} before it was ready"
            f"{f', {failures} times in a row' if failures > 1 else ''}"
        )
        advice = " ".join(filter(None, (f"{what}.", self._reason, self.part.cure)))
        raise StackError(f"{advice}\n  The end of {self._log}:\n{last_lines(self._log)}")

    def _obituary(self, life: _Life) -> str:
        name = f"{self.part.name} (process {life.pid})"
        if life.late:
            return f"{name} was not ready in {self._policy.ready_within_s:.0f} s"
        return f"{name} {describe_exit(life.exit_code or 0)}"

    def _change(self, state: PartState, *, pid: int | None = None, restarted: bool = False) -> None:
        self.status = msgspec.structs.replace(
            self.status,
            state=state,
            pid=pid,
            since=time.time(),
            restarts=self.status.restarts + restarted,
        )
        self._on_change(self.status)
