"""Watching real processes end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import psutil

_PATIENCE_S = 30.0


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds; the limit is only there against hanging."""
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} has not come to pass in {_PATIENCE_S:.0f} s"
        time.sleep(0.05)


def runs(pid: int | None) -> bool:
    """Whether the process runs; one that has ended and is not collected yet does not."""
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pids: Iterable[int | None]) -> None:
    """Wait until none of the processes runs."""
    left = list(pids)
    wait_for(lambda: not any(runs(pid) for pid in left), f"the end of {left}")
