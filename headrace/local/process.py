"""One child process: started in a group of its own, logged to a file, ended with all it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from headrace.errors import StackError
from headrace.local import launch

_LOG_BYTES = 20_000_000
"""A log longer than this is put aside when its part starts."""


class ChildProcess:
    """A running command that the kernel ends when the thread that started it ends."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(
        cls, command: Sequence[str], *, environ: Mapping[str, str], log: Path
    ) -> ChildProcess:
        """Start the command in the log's folder, with its output appended to the log.

        Raises `StackError` when the log cannot be written or no process can be made.
        """
        launcher = (sys.executable, "-I", "-S", launch.__file__, str(os.getpid()))
        try:
            with _open_log(log) as output:
                process = await asyncio.create_subprocess_exec(
                    *launcher,
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=log.parent,
                    env=dict(environ),
                    start_new_session=True,
                )
        except OSError as exc:
            raise StackError(
                f"{command[0]} cannot be started with its log in {log}: {exc.strerror}."
            ) from exc
        return cls(process)

    @property
    def pid(self) -> int:
        """The process's id, which is its group's too."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended, by itself or not."""
        return self._process.returncode is not None

    async def wait(self) -> int:
        """Wait until the process has ended and return its exit code; -9 for SIGKILL."""
        return await self._process.wait()

    async def stop(self, within_s: float) -> None:
        """Ask the process to end, and after `within_s` seconds end it and whatever it started."""
        try:
            if self._process.returncode is None:
                self._process.send_signal(signal.SIGTERM)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._process.wait(), within_s)
        finally:
            # The group outlives its leader when that one left children behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()


def describe_exit(code: int) -> str:
    """Return an exit code in words: `ended by SIGKILL`, `ended with exit code 1`."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def last_lines(log: Path, count: int = 12) -> str:
    """Return the last lines of a log, each indented, or a word in their place."""
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            tail = deque(lines, maxlen=count)
    except OSError as exc:
        return f"    (it cannot be read: {exc.strerror})"
    return "".join(f"    {line.rstrip()}\n" for line in tail).rstrip("\n") or "    (it is empty)"


def _open_log(log: Path) -> BinaryIO:
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
    return log.open("ab")
