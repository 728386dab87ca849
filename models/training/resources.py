"""What a training takes of the machine, and how it makes way for others."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import psutil

_OOM_SCORE = "500"
"""Above what servers and workers have: short of memory the kernel ends the training first."""

_LOWEST = 19
"""The niceness past which there is none."""

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Where one of these is, the kernel has a GPU's driver: NVIDIA's, AMD's, that of WSL."""


def has_gpu() -> bool:
    """Return whether the machine may have a GPU to train on."""
    return any(Path(device).exists() for device in _GPU_DEVICES)


def give_way(niceness: int) -> None:
    """Let every other process go first: processor, disk and memory.

    `niceness` is added to what it has; at the lowest priority, 19, it computes only while nothing
    else wants the processor (Linux's SCHED_IDLE), so who wakes up never waits for it.
    """
    if sys.platform != "linux":
        os.nice(niceness)
        return
    # Linux has priorities of threads: those that libraries have begun by now have their own, and
    # later ones that of the thread which begins them.
    for name in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):
            _lower(int(name), niceness)
    psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)
    # Not where /proc is read-only, as in some containers.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")


def _lower(thread: int, niceness: int) -> None:
    now = min(_LOWEST, os.getpriority(os.PRIO_PROCESS, thread) + niceness)
    os.setpriority(os.PRIO_PROCESS, thread, now)
    if now == _LOWEST:
        os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))


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
