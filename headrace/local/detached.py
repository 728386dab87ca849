"""A stack in the background: starting it, and ending whichever runs on a data folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import psutil

from headrace.errors import StackError
from headrace.local.folder import DataFolder, StackState

T = TypeVar("T")
_POLL_S = 0.1
_END_WITHIN_S = 16.0
"""Longer than a stack takes that ends by itself."""


def start_detached(
    command: Sequence[str], folder: DataFolder, environ: Mapping[str, str]
) -> StackState:
    """Start the command of a stack in a session of its own; return once all its parts are ready.

    Raises `StackError` with what it said when it ends before that.
    """
    folder.make()
    if folder.is_held():
        raise StackError(folder.held_message())
    log = folder.logs / "supervisor.log"
    with folder.writing(), log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the command is our own
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder.logs,
            env=dict(environ),
            start_new_session=True,
        )
    try:
        return _wait_until_ready(process, folder, log)
    except BaseException:
        process.terminate()
        process.wait(_END_WITHIN_S)
        raise


def stop_stack(folder: DataFolder) -> bool:
    """End the stack that runs on the folder and wait for that; False when none does.

    Raises `StackError` when it does not end.
    """
    if not folder.is_held():
        return False
    state = _wait(folder.read, _END_WITHIN_S)
    if state is None:
        raise StackError(
            f"Something holds {folder.root} and does not say who it is; is another `headrace up` "
            "still starting? Try again, or look for it with `ps`."
        )
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, number)
        if _wait(lambda: not (folder.is_held() or _runs(state.pid)), _END_WITHIN_S):
            return True
    raise StackError(f"The stack's supervisor, process {state.pid}, does not end.")


def _wait_until_ready(
    process: subprocess.Popen[bytes], folder: DataFolder, log: Path
) -> StackState:
    while process.poll() is None:
        state = folder.read()
        if state is not None and state.pid == process.pid and state.ready:
            return state
        time.sleep(_POLL_S)
    said = log.read_text(encoding="utf-8", errors="replace").strip()
    reason = said.rpartition("headrace: ")[2]
    raise StackError(reason or f"The supervisor ended with exit code {process.returncode}.")


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait(look: Callable[[], T], within_s: float) -> T:
    """Return what `look` returns as soon as that is true, or at the end of the time."""
    deadline = time.monotonic() + within_s
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return seen
