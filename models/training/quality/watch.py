"""How far a run is, on the terminal, and how long each of its steps took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from models.training.quality.baselines import Advance
from models.training.quality.model import Point


class Watch:
    """Shows each step with a bar, and keeps its seconds; a step done twice has those of both."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.perf_counter) -> None:
        self._console = console
        self._clock = clock
        self._began = clock()
        self.seconds: dict[str, float] = {}
        """By step."""

    @property
    def total(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._began

    @contextmanager
    def step(self, name: str, total: int | None = None) -> Iterator[Advance]:
        """Show a step while the block runs; the function given tells how much more is done."""
        with self._shown(name, total) as (progress, bar):
            yield lambda done: progress.advance(bar, done)

    @contextmanager
    def training(self, points: list[Point]) -> Iterator[Callable[[Point], None]]:
        """Show a training while the block runs; the function given shows a point and keeps it."""
        with self._shown("training", None) as (progress, bar):

            def tell(point: Point) -> None:
                points.append(point)
                told = _told(point)
                progress.update(bar, description=told, completed=point.epoch, total=point.epochs)
                if not self._console.is_terminal:
                    self._console.print(told, highlight=False, markup=False)

            yield tell

    @contextmanager
    def _shown(self, name: str, total: int | None) -> Iterator[tuple[Progress, TaskID]]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        began = self._clock()
        with Progress(
            *columns,
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        ) as progress:
            yield progress, progress.add_task(name, total=total)
        took = self._clock() - began
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        if not self._console.is_terminal:
            self._console.print(f"{name}: {took:.1f} s", highlight=False, markup=False)


def _told(point: Point) -> str:
    """Return in a line how far a training has come, and how good it is."""
    part = f" {point.part}" if point.part else ""
    found = point.figures.get("ndcg_at_10")
    validation = "" if found is None else f", NDCG@10 {found:.4f} on validation"
    return f"training{part}, epoch {point.epoch} of {point.epochs}{validation}"
