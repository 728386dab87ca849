"""How far a run is, on the terminal, and how long each of its steps took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from models.training.quality.baselines import Advance


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
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        began = self._clock()
        with Progress(
            *columns,
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        ) as progress:
            bar = progress.add_task(name, total=total)
            yield lambda done: progress.advance(bar, done)
        took = self._clock() - began
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        if not self._console.is_terminal:
            self._console.print(f"{name}: {took:.1f} s", highlight=False, markup=False)
