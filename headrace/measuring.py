"""What every benchmark needs: a figure of several runs, and the machine that it was seen on."""

from __future__ import annotations

import itertools
import os
import platform
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One figure of several runs."""

    median: float
    spread: float
    """The greatest less the least."""

    @classmethod
    def of(cls, values: Iterable[float]) -> Figure:
        """Return the figure of these runs, to three decimals."""
        all_ = list(values)
        return cls(round(statistics.median(all_), 3), round(max(all_) - min(all_), 3))


def machine(load: float) -> dict[str, Any]:
    """Describe this machine; `load` is its load average before the benchmark."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": round(load, 2),
    }


def _processor() -> str:
    with Path("/proc/cpuinfo").open() as lines:
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return next(itertools.chain(names, ("unknown",)))
