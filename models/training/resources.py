"""What a training takes of the machine, and how it makes way for others."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import psutil

_OOM_SCORE = "500"
"""Above what servers and workers have: short of memory the kernel ends the training first."""


def give_way(niceness: int) -> None:
    """Let every other process go first: processor, disk and memory."""
    os.nice(niceness)
    if sys.platform != "linux":
        return
    psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)
    # Not where /proc is read-only, as in some containers.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")


def memory_of(pid: int) -> int:
    """Return how many bytes of memory a process and its children hold; 0 when it has ended."""
    try:
        process = psutil.Process(pid)
        return sum(_memory(each) for each in (process, *process.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
