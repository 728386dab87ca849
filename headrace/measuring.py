"""What every benchmark needs: figures of several runs, their targets, and the machine."""

from __future__ import annotations

import itertools
import os
import platform
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

Bound = tuple[Literal["≥", "≤"], float]


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


@dataclass(frozen=True)
class Measure:
    """A line of a benchmark's table."""

    title: str
    target: str
    reached: bool | None
    """None where the target is not a number."""
    figure: Figure

    @classmethod
    def of(cls, title: str, target: Bound | str | None, values: Iterable[float]) -> Measure:
        """Return the measure of these runs: its median is compared with the target."""
        figure = Figure.of(values)
        if not isinstance(target, tuple):
            return cls(title, target or "", None, figure)
        sign, bound = target
        reached = figure.median >= bound if sign == "≥" else figure.median <= bound
        return cls(title, f"{sign} {bound:,g}", reached, figure)


def measures_json(measures: Mapping[str, Measure]) -> dict[str, Any]:
    """Return each figure by its name, then their spreads, and what they are to reach."""
    return {
        **{name: measure.figure.median for name, measure in measures.items()},
        "spread": {name: measure.figure.spread for name, measure in measures.items()},
        "targets": {name: measure.target for name, measure in measures.items() if measure.target},
    }


def show_measures(measures: Mapping[str, Measure], console: Console) -> None:
    """Print the figures beside what they are to reach."""
    table = Table("measure", "name", box=None)
    for column in ("median", "spread", "to reach", ""):
        table.add_column(column, justify="right")
    marks = {True: "[green]✓[/]", False: "[red]✗[/]", None: ""}
    for name, measure in measures.items():
        numbers = (f"{measure.figure.median:,.5g}", f"{measure.figure.spread:,.3g}")
        table.add_row(measure.title, name, *numbers, measure.target, marks[measure.reached])
    console.print(table)


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
